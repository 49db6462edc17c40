import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binomtest

from phantoms import networks, training_sets
from strokeseg import segmentation
from strokeseg.errors import TrainError
from strokeseg.segmentation import models
from strokeseg.segmentation.models import Calibration
from strokeseg.training.calibration import calibrate_network, cases, degradation, figures, fit
from strokeseg.training.calibration.cases import CasePrediction
from strokeseg.training.sample import UNKNOWN, Sample

ROOT = Path(__file__).parents[2]
SIZE = 160


def make_slice(radius, patient, number=0, centre=(100, 90), drawn=None):
    """Brain of 35 HU in air as a picture from -20 to 100 HU ends it, with a disc of 70 HU; drawn as it is, or else."""
    rows, columns = np.indices((200, 180))
    hu = np.where(np.hypot((rows - 100) / 80, (columns - 90) / 66) < 1, 35, -20)
    hu[0, 0] = 100
    far = np.hypot(rows - centre[0], columns - centre[1])
    hu[far < radius] = 70
    mask = (far < (radius if drawn is None else drawn)).astype(np.uint8)
    return Sample("ctich_train", f"{patient}_{number}", f"ctich:{patient}", hu.astype(np.int16), mask)


def patients(with_blood, without, slices=1):
    return [make_slice(10 + each, f"b{each}", number) for each in range(with_blood) for number in range(slices)] + [
        make_slice(0, f"n{each}") for each in range(without)
    ]


@pytest.fixture
def engine(tmp_path, monkeypatch):
    """A network that answers at 50 HU and more."""
    folder = tmp_path / "models"
    networks.save_network(folder, "bright", networks.make_bright_network(SIZE), SIZE)
    monkeypatch.setenv(models.FOLDER_VARIABLE, str(folder))
    return segmentation.load_engine("bright")


def make_row(truth=10.0, volume=10.0, patient="p", blood=True, lesion=5.0, below=1.0, above=1.0):
    return CasePrediction(patient, "set", blood, truth, volume, below, above, lesion)


def test_a_patients_slices_are_one_scan_of_nominal_spacing(engine):
    """The head is 160 pixels high: with a margin of 4 % its square has about 173; 225 mm over it, 5 mm apart."""
    case = cases.group_by_patient([make_slice(20, "a", number) for number in range(3)])[0]
    row = cases.predict_case(case, engine)
    by_hand = 3 * np.pi * 20**2 * (225 / 173) ** 2 * 5 / 1000
    assert row.truth_ml == pytest.approx(by_hand, rel=0.07)
    assert row.volume_ml == pytest.approx(row.truth_ml, rel=0.02)
    assert row.lesion_ml == pytest.approx(row.volume_ml)
    assert row.mean_probability > 0.95 and row.soft_ml == pytest.approx(row.mean_probability * row.lesion_ml, rel=1e-6)
    assert row.blood and row.patient == "ctich:a"


def test_slices_of_other_size_are_parts_of_the_same_patient(engine):
    small, whole = make_slice(20, "a"), make_slice(20, "a", 1)
    small = replace(small, hu=small.hu[5:195], mask=small.mask[5:195])
    both = cases.predict_case(cases.group_by_patient([small, whole])[0], engine)
    one = cases.predict_case(cases.group_by_patient([whole])[0], engine)
    assert both.truth_ml == pytest.approx(2 * one.truth_ml, rel=0.05)
    assert both.lesion_ml == pytest.approx(one.lesion_ml, rel=0.05)


def test_what_is_not_known_counts_in_neither_volume(engine):
    sample = make_slice(20, "a")
    mask = sample.mask.copy()
    mask[:, 90:][mask[:, 90:] == 1] = UNKNOWN
    whole = cases.predict_case(cases.group_by_patient([sample])[0], engine)
    half = cases.predict_case(cases.group_by_patient([replace(sample, mask=mask)])[0], engine)
    assert half.truth_ml == pytest.approx(whole.truth_ml / 2, rel=0.04)
    assert half.volume_ml == pytest.approx(whole.volume_ml / 2, rel=0.04)
    assert half.lesion_ml == whole.lesion_ml


def test_a_picture_is_no_scan_in_hounsfield_units():
    assert not cases.make_nominal_scan(make_slice(5, "a").hu[None]).calibrated
    assert cases.make_nominal_scan(make_slice(5, "a").hu[None] * 10).calibrated


@pytest.mark.parametrize(("number", "level"), [(4, 0.8), (9, 0.9), (12, 0.9)])
def test_few_patients_promise_less(engine, number, level):
    found = fit.fit_calibration(engine, patients(number, 0), degraded=False).calibration
    assert found.volume.level == level and found.volume.patients == number
    assert found.blood is None


def test_the_quantile_covers_what_is_drawn_otherwise(engine):
    """Drawn twice as large as what is bright: whatever the doubt, the interval of each reaches the drawn volume."""
    samples = [make_slice(10 + each, f"b{each}", drawn=(10 + each) * 2**0.5) for each in range(10)]
    found = fit.fit_calibration(engine, samples, degraded=False)
    assert found.calibration.volume.quantile > 1
    low, high = figures.compute_intervals(found.patient_predictions, found.calibration.volume)
    truth = np.array([row.truth_ml for row in found.patient_predictions])
    assert ((low <= truth) & (truth <= high * 1.0001)).all()
    assert truth == pytest.approx(2 * np.array([row.volume_ml for row in found.patient_predictions]), rel=0.05)


def test_blood_is_told_from_none(engine):
    found = fit.fit_calibration(engine, patients(5, 4), degraded=False)
    assert found.calibration.blood.scan.with_blood == 5 and found.calibration.blood.scan.without == 4
    computed = figures.compute_figures(found)
    assert computed["blood"]["auc"]["value"] == 1
    assert computed["blood"]["with_blood_answered_no"] == computed["blood"]["without_answered_yes"] == 0
    assert 0 < computed["blood"]["brier"]["value"] < 0.1


def test_too_few_without_blood_give_no_confidence(engine):
    found = fit.fit_calibration(engine, patients(5, 2), degraded=False)
    assert found.calibration.blood is None and "blood" not in figures.compute_figures(found)
    assert found.calibration.volume is not None


def test_the_factors_are_measured_and_the_others_stated(engine):
    """Two slices a patient, never five: a missing slice cannot be measured. A head seen twice smears its disc."""
    found = fit.fit_calibration(engine, patients(4, 0, slices=2)).calibration.volume
    assert set(found.factors) == set(degradation.DEGRADATIONS) - {"missing-slices"} | set(degradation.ASSUMED_FACTORS)
    assert found.not_measured == sorted(degradation.ASSUMED_FACTORS)
    assert all(factor >= 1 for factor in found.factors.values())
    assert found.factors["motion"] > 1.2


def test_the_curve_is_the_one_of_scikit_learn():
    """A target between 0 and 1 is a row of both kinds, weighed by the target and what is left of 1."""
    from sklearn import linear_model

    rng = np.random.default_rng(3)
    blood = np.arange(30) < 18
    sizes = np.exp(rng.normal(np.where(blood, 1.0, -0.5), 1.0))
    weights = np.where(np.arange(30) % 3 == 0, 0.5, 1.0)
    positive, negative = weights[blood].sum(), weights[~blood].sum()
    target = np.where(blood, (positive + 1) / (positive + 2), 1 / (negative + 2))
    each = np.where(blood, weights / positive, weights / negative)
    model = linear_model.LogisticRegression(C=1e12, tol=1e-10, max_iter=10_000).fit(
        np.log(np.tile(sizes, 2))[:, None],
        np.repeat([1, 0], 30),
        np.concatenate([each * target, each * (1 - target)]) * 1000,
    )
    expected = [model.intercept_[0], model.coef_[0, 0]]
    assert fit.fit_logistic(sizes, blood, weights) == pytest.approx(expected, rel=2e-3)


@pytest.mark.parametrize(("hits", "of"), [(0, 10), (9, 10), (31, 34), (5, 5)])
def test_a_shares_interval_is_scipys_exact_one(hits, of):
    expected = binomtest(hits, of).proportion_ci(0.95, "exact")
    assert figures.clopper_pearson(hits, of) == pytest.approx((expected.low, expected.high))


def test_each_is_left_out_of_its_own_quantile():
    """Scores 1, 2 and 9 at a doubt of 1 ml: two others promise their higher one, so 9, 9 and 2; only the last fails."""
    rows = [
        make_row(volume + error, volume, str(error), below=0.0, above=0.0)
        for volume, error in ((20, 1), (20, 2), (20, 9))
    ]
    low, high = figures.leave_one_out_intervals(np.array([21, 22, 29.0]), np.full(3, 20.0), np.ones(3), np.ones(3))
    assert (low.tolist(), high.tolist()) == ([11, 11, 18], [29, 29, 22])
    assert figures.compute_volume_figures(rows)["coverage"]["hits"] == 2


def test_who_was_not_answered_is_counted_and_has_no_interval():
    computed = figures.compute_volume_figures([make_row(), make_row(12), make_row(5, 0)])
    assert computed["patients"] == 2 and computed["unanswered"] == 1


def test_a_patient_weighs_one_however_many_slices():
    rows = [make_row(patient="a"), make_row(patient="a"), make_row(patient="b"), make_row(patient="n", blood=False)]
    assert fit.collect_evidence(rows)[2].tolist() == [0.5, 0.5, 1, 1]


def test_both_sides_count_half_in_the_brier_score():
    """Errors 0.1 with blood three times, 0.3 without once: (0.01 + 0.09) / 2."""
    table = np.array([[1, 0.9, 1, 1], [1, 0.9, 1, 1], [1, 0.9, 1, 1], [0, 0.3, 1, 1]])
    assert figures._brier(table) == pytest.approx(0.05)
    assert figures._ece(table) == pytest.approx(0.5 * 0.1 + 0.5 * 0.3)


def make_group(samples):
    return cases.group_by_patient(samples)[0].slice_groups[0]


def test_degraded_slices_are_as_bad_as_they_say():
    part = make_group([make_slice(20, "a", number) for number in range(6)])
    inside = part.scan.hu == 35
    noisy = degradation.add_noise(part).scan.hu[inside]
    assert noisy.std() == pytest.approx(degradation.NOISE_HU, rel=0.1)
    moved = degradation.add_motion(part).scan.hu
    assert (moved[0, 100, 60:120] == 70).sum() == pytest.approx(39 - 3, abs=1)
    streaks = degradation.add_streaks(part).scan.hu[inside].astype(float) - 35
    assert 5 < np.abs(streaks).max() <= degradation.STREAK_HU
    assert degradation.widen_window(part).scan.hu[0, 100, 90] == round(40 + 30 * 1.25)
    for change in (degradation.add_noise, degradation.add_streaks, degradation.widen_window):
        assert change(part).scan.hu.min() >= -20 and change(part).scan.hu.max() <= 100


def test_joined_slices_keep_the_volume_and_a_missing_one_is_still_drawn(engine):
    case = cases.group_by_patient([make_slice(20, "a", number) for number in range(6)])[0]
    plain, thick = (cases.predict_case(case, engine, change) for change in (None, degradation.join_slices))
    assert thick.volume_ml == pytest.approx(plain.volume_ml, rel=0.01)
    assert thick.truth_ml == plain.truth_ml
    gap = degradation.remove_middle_slice(case.slice_groups[0])
    assert len(gap.scan.hu) == 5 and gap.truth_ml == case.slice_groups[0].truth_ml
    assert gap.scan.planes.gaps_with_missing_slices.tolist() == [False, False, True, False]
    assert cases.predict_case(case, engine, degradation.remove_middle_slice).volume_ml < 0.95 * plain.volume_ml
    assert degradation.remove_middle_slice(make_group([make_slice(9, "a", number) for number in range(4)])) is None
    assert degradation.join_slices(make_group([make_slice(9, "a")])) is None


def make_card(engine, **training):
    return engine.card.model_copy(update={"training": training})


def test_the_validation_patients_of_a_card_are_read(engine, tmp_path):
    training_sets.write_datasets(tmp_path / "data")
    rows = [{"name": "ctich_train", "validation": 6}, {"name": "head_ct_normal", "validation": 1}]
    card = make_card(engine, validation_patients=["ctich:000", "ctich:003", "headct:g2"], sources=rows)
    found = cases.read_validation_samples(card, tmp_path / "data")
    assert [sample.name for sample in found] == ["000_0", "000_1", "000_2", "003_0", "003_1", "003_2", "002"]
    assert len(cases.group_by_patient(found)) == 3 and len(cases.split_into_slices(found)) == 7


def test_a_card_without_its_patients_is_refused(engine, tmp_path):
    training_sets.write_datasets(tmp_path)
    with pytest.raises(TrainError, match="names no validation patients"):
        cases.read_validation_samples(make_card(engine), tmp_path)
    rows = [{"name": "ctich_train", "validation": 3}]
    with pytest.raises(TrainError, match="ctich:999"):
        cases.read_validation_samples(
            make_card(engine, validation_patients=["ctich:000", "ctich:999"], sources=rows), tmp_path
        )


def test_calibrating_a_network_writes_its_card_as_data_and_as_prose(engine, tmp_path, monkeypatch):
    """Ten patients of two sources, without the degradations, and one unseen patient."""
    training_sets.write_datasets(tmp_path / "data")
    row = {"about": "phantoms", "licence": "none", "train": 0, "validation": 3, "share": 0.5}
    card = make_card(
        engine,
        validation_patients=[*(f"ctich:{number:03d}" for number in range(6)), *(f"headct:g{n}" for n in range(4))],
        sources=[{"name": name} | row for name in ("ctich_train", "head_ct_normal")],
    )
    file = tmp_path / "models/bright.json"
    file.write_text(card.model_dump_json())
    segmentation.unload_engines()
    monkeypatch.setattr(degradation, "DEGRADATIONS", {})
    lines = []
    made = calibrate_network("bright", tmp_path / "data", unseen=[make_slice(20, "unseen")], log=lines.append)
    assert models.read_card(file) == made and made.calibration.volume.patients == 6
    assert (made.calibration.blood.scan.with_blood, made.calibration.blood.scan.without) == (6, 4)
    assert made.calibration.figures["unseen"]["coverage"]["of"] == 1
    assert "from 6 validation patients" in file.with_suffix(".md").read_text() and len(lines) == 2


def test_a_calibration_is_told_among_the_limits(engine):
    before = engine.card.model_copy(update={"limits": ["one", fit.UNCALIBRATED_LIMIT]})
    calibration = Calibration(volume=None, blood=None, figures={})
    once = fit.add_calibration(before, calibration)
    assert once.limits == ["one", fit.CALIBRATED_LIMIT]
    assert fit.add_calibration(once, calibration) == once


@pytest.mark.slow
def test_an_export_keeps_the_calibration_of_the_same_network_alone(engine, tmp_path):
    from strokeseg.training import export

    folder = tmp_path / "models"
    known = fit.add_calibration(engine.card, Calibration(volume=None, blood=None, figures={}))
    (folder / "bright.json").write_text(known.model_dump_json())
    assert export._keep_calibration(engine.card, folder) == known
    for change in ({"threshold": 0.4}, {"sha256": "0" * 64}):
        other = engine.card.model_copy(update=change)
        assert export._keep_calibration(other, folder) == other
    (folder / "bright.json").write_text("{")
    assert export._keep_calibration(engine.card, folder) == engine.card


def test_the_shipped_networks_are_calibrated_on_patients_kept_out_of_training():
    with (ROOT / "splits/whole-scans.csv").open(newline="") as stream:
        trained = {row["patient"] for row in csv.DictReader(stream) if row["side"] == "train"}
    for name in ("default", "fast"):
        card = models.read_card(models.SHIPPED_FOLDER / f"{name}.json")
        assert len(card.training["validation_patients"]) == 59
        assert not trained.intersection(card.training["validation_patients"])
        assert card.calibration.volume.level == 0.9 and card.calibration.blood is not None
        assert fit.CALIBRATED_LIMIT in card.limits and fit.UNCALIBRATED_LIMIT not in card.limits


def test_the_page_is_drawn_from_the_shipped_cards():
    from benchmarks import calibration_page
    from benchmarks.accuracy_page import read_shipped_cards

    assert (ROOT / "docs/calibration.md").read_text() == calibration_page.render_page(read_shipped_cards())


@pytest.mark.slow
def test_the_shipped_calibration_is_what_its_patients_give(shared_data):
    """Without the degradations, which take minutes: the quantile, the curves, and the figures of both."""
    card = models.read_card(models.SHIPPED_FOLDER / "fast.json")
    found = fit.fit_calibration(
        segmentation.load_engine("fast"), cases.read_validation_samples(card, shared_data), degraded=False
    )
    stored, made = card.calibration, found.calibration
    assert made.volume.quantile == pytest.approx(stored.volume.quantile, rel=0.02)
    assert made.volume.patients == stored.volume.patients
    for curve in ("scan", "one_slice"):
        ours, theirs = (getattr(each.blood, curve).model_dump() for each in (made, stored))
        assert ours == pytest.approx(theirs, rel=0.02)
    computed = figures.compute_figures(found)
    assert computed["volume"]["coverage"] == stored.figures["volume"]["coverage"]
    assert computed["blood"]["brier"]["value"] == pytest.approx(stored.figures["blood"]["brier"]["value"], rel=0.05)
