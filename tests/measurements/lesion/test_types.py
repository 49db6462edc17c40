"""Types of textbook shapes: a lens or a crescent at the skull, a ball in the brain, blood in sulci."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_sets import find_data_set
from phantoms.shapes import make_planes
from strokeseg.measurements.head import coarse_head
from strokeseg.measurements.head.midplane import Midplane
from strokeseg.measurements.lesion import type_features, types
from strokeseg.scan import Scan

SPACING_MM = (5.0, 0.45, 0.45)
TABLE = Path(types.__file__).with_name("types.json")
PAGE = Path(__file__).parents[3] / "docs/types.md"

ROWS, COLUMNS = np.mgrid[:512, :512]
Y, X = (ROWS - 256) * 0.45, (COLUMNS - 256) * 0.45
WITHIN = np.hypot(Y / 82, X / 68)


def make_slice(blood, fluid=None):
    """Build a slice: brain of 32 HU with noise of 4 HU in an oval skull of 7 mm, blood of 62 HU."""
    hu = np.where(WITHIN < 1, 32.0, np.where(np.hypot(Y / 89, X / 75) < 1, 900.0, -1000.0))
    if fluid is not None:
        hu[fluid] = 8
    hu[blood] = 62
    return hu + np.random.default_rng(0).normal(0, 4, hu.shape)


def predict(blood, fluid=None):
    scan = Scan.from_array(make_slice(blood, fluid), SPACING_MM)
    return types.predict_probabilities(scan, blood[None], coarse_head.sample_head(scan, blood[None]))


def mark_lens(thick_mm=12, half_mm=30):
    """Mark the area between the left side of the skull and a circle that bulges inwards."""
    radius = (half_mm**2 + thick_mm**2) / 2 / thick_mm
    return (WITHIN < 1) & (np.hypot(Y, X + 68 - thick_mm + radius) < radius)


def mark_crescent(thick_mm=8):
    """Mark the area between the left side of the skull and the same curve moved inwards."""
    return (WITHIN < 1) & (np.hypot(Y / 84, (X - thick_mm) / 68) > 1) & (X < 0)


def mark_ball(radius_mm=15, x=30, y=5):
    return np.hypot(Y - y, X - x) < radius_mm


def mark_sulci():
    return (WITHIN < 0.97) & (WITHIN > 0.72) & (np.abs(np.sin(6 * np.arctan2(Y, X))) < 0.06) & (X > 40)


@pytest.mark.parametrize(
    ("name", "blood"),
    [
        ("epidural", mark_lens()),
        ("epidural", mark_lens(18, 35)),
        ("subdural", mark_crescent()),
        ("subdural", mark_crescent(14)),
        ("intraparenchymal", mark_ball()),
        ("intraparenchymal", mark_ball(25)),
        ("subarachnoid", mark_sulci()),
    ],
)
def test_textbook_shapes_are_classified(name, blood):
    probabilities = predict(blood)
    assert max(probabilities, key=probabilities.get) == name
    assert probabilities[name] > 0.55


def test_blood_that_layers_in_a_ventricle_is_likelier_in_it_than_the_same_blood_in_brain():
    ventricle = np.hypot((Y + 12) / 26, (np.abs(X) - 12) / 9) < 1
    blood = ventricle & (Y > -14) & (X > 0)
    assert predict(blood, ventricle)["intraventricular"] > 2 * predict(blood)["intraventricular"]


def test_the_answer_is_a_probability_of_every_type():
    probabilities = predict(mark_lens())
    assert set(probabilities) == {"intraparenchymal", "intraventricular", "subdural", "epidural", "subarachnoid"}
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-12)
    assert min(probabilities.values()) >= 0


@pytest.mark.parametrize("window", [(40.0, 120.0), (40.0, 80.0)], ids=["to 100 HU", "to 80 HU"])
@pytest.mark.parametrize(
    "blood", [mark_lens(), mark_crescent(), mark_ball(), mark_sulci()], ids=["lens", "crescent", "ball", "sulci"]
)
def test_a_picture_without_spacing_and_hounsfield_units_is_classified_like_the_ct(blood, window):
    low, width = window[0] - window[1] / 2, window[1]
    grey = np.rint(np.clip((make_slice(blood) - low) / width, 0, 1) * 255)
    picture = replace(Scan.from_array(grey / 255 * width + low, calibrated=False), window=window)
    coarse = coarse_head.sample_head(picture, blood[None])
    assert_near(types.predict_probabilities(picture, blood[None], coarse), predict(blood), 0.08)


def test_coarser_pixels_give_similar_probabilities():
    blood = mark_lens()
    whole = make_slice(blood).reshape(256, 2, 256, 2).mean((1, 3))
    mask = blood.reshape(256, 2, 256, 2).mean((1, 3)) >= 0.5
    scan = Scan.from_array(whole, (5.0, 0.9, 0.9))
    assert_near(
        types.predict_probabilities(scan, mask[None], coarse_head.sample_head(scan, mask[None])), predict(blood), 0.1
    )


def test_left_and_right_give_similar_probabilities():
    blood = mark_crescent()
    hu = make_slice(blood)[:, ::-1]
    scan = Scan.from_array(hu, SPACING_MM)
    mask = blood[:, ::-1][None]
    assert_near(types.predict_probabilities(scan, mask, coarse_head.sample_head(scan, mask)), predict(blood), 0.03)


def test_slices_are_weighted_by_their_area_and_by_their_share_of_the_axis():
    empty = np.zeros_like(WITHIN, bool)
    parts = [mark_lens(), mark_ball(x=-30), empty, empty]
    grid = make_planes([0, 4, 16, 28], SPACING_MM[1:])
    scan = Scan(np.rint([make_slice(part) for part in parts]).astype(np.int16), grid)
    mask = np.stack(parts)
    coarse = coarse_head.sample_head(scan, mask)
    singles = []
    for index in range(2):
        alone = np.zeros_like(mask)
        alone[index] = mask[index]
        singles.append(types.predict_probabilities(scan, alone, coarse))
    ours = [parts[0].sum() * 4, parts[1].sum() * 8]
    mean = {name: (ours[0] * singles[0][name] + ours[1] * singles[1][name]) / sum(ours) for name in singles[0]}
    assert singles[0]["epidural"] > 0.5 > singles[1]["epidural"]
    assert_near(types.predict_probabilities(scan, mask, coarse), mean, 0.01)


def test_the_mid_sagittal_plane_stands_for_the_slices_own_axis():
    blood = mark_ball(x=30)
    scan = Scan.from_array(make_slice(blood), SPACING_MM)
    coarse = coarse_head.sample_head(scan, blood[None])
    centre = scan.planes.to_lps_mm([[0, 256, 256]])[0]

    def aside(plane):
        (section,) = type_features.measure_sections(scan, blood[None], coarse, plane)
        return section.features[type_features.FEATURES.index("aside")]

    def at(x_mm, reliable=True):
        return Midplane(centre + np.array([x_mm, 0, 0]), np.array([1.0, 0, 0]), 0.0, reliable)

    assert aside(at(0)) == pytest.approx(30 / np.sqrt(82 * 68), abs=0.015)
    assert aside(at(10)) == pytest.approx(20 / np.sqrt(82 * 68), abs=0.015)
    assert aside(None) == pytest.approx(aside(at(0)), abs=0.015)
    assert aside(at(10, reliable=False)) == aside(None)


def test_features_are_those_of_the_drawn_shape():
    blood = mark_ball(15, x=30, y=0)
    scan = Scan.from_array(make_slice(blood), SPACING_MM)
    (section,) = type_features.measure_sections(scan, blood[None], coarse_head.sample_head(scan, blood[None]))
    features = dict(zip(type_features.FEATURES, section.features, strict=True))
    radius = np.sqrt(82 * 68)
    assert section.area_share == pytest.approx(15**2 / (82 * 68), rel=0.06)
    assert np.exp(features["log_area"]) == pytest.approx(15**2 / radius**2, rel=0.06)
    assert features["thickness"] == pytest.approx(15 / radius, rel=0.05)
    assert features["depth_least"] == pytest.approx((68 - 45) / radius, abs=0.03)
    assert features["contrast"] == pytest.approx(30, abs=1)
    assert features["solidity"] == pytest.approx(1, abs=0.06)
    assert features["contact"] == features["near"] == features["fluid"] == 0


@pytest.mark.parametrize(
    "blood",
    [np.zeros_like(WITHIN, bool), (ROWS == 250) & (COLUMNS == 250), WITHIN < 1, np.ones_like(WITHIN, bool)],
    ids=["empty", "one pixel", "the whole head", "the whole picture"],
)
def test_a_mask_without_a_usable_section_has_no_type(blood):
    assert predict(blood) is None


def test_without_a_head_there_is_no_type():
    blood = mark_ball()
    scan = Scan.from_array(np.where(blood, 60.0, 0.0), SPACING_MM)
    assert types.predict_probabilities(scan, blood[None], None) is None
    assert types.predict_probabilities(scan, blood[None], coarse_head.sample_head(scan, blood[None])) is None


def test_a_mask_of_another_shape_is_refused():
    scan = Scan.from_array(make_slice(mark_ball()), SPACING_MM)
    with pytest.raises(ValueError, match="the mask has shape"):
        types.predict_probabilities(scan, np.zeros((2, 512, 512), bool), None)


def test_the_regression_is_that_of_its_table():
    table = json.loads(TABLE.read_text())
    features = np.random.default_rng(1).normal(0, 3, (5, len(table["features"])))
    for values, probabilities in zip(features, types.load_classifier().predict(features), strict=True):
        inputs = [
            max(-table["most"], min(table["most"], (value - mean) / scale))
            for value, mean, scale in zip(values, table["mean"], table["scale"], strict=True)
        ]
        exponentials = [
            np.exp(bias + sum(w * x for w, x in zip(row, inputs, strict=True)))
            for row, bias in zip(table["weights"], table["bias"], strict=True)
        ]
        assert probabilities == pytest.approx([power / sum(exponentials) for power in exponentials])


def test_types_stay_experimental_until_they_beat_their_figure():
    macro = json.loads(TABLE.read_text())["figures"]["macro_f1"]
    assert types.EXPERIMENTAL is (macro <= 0.7)
    assert f"macro-F1 is {macro:.2f}," in Path(types.__file__).read_text()


def test_the_page_is_drawn_from_the_stored_figures():
    from benchmarks import lesion_types_page

    content = json.loads(TABLE.read_text())
    assert PAGE.read_text() == lesion_types_page.render_page(content)
    # The page states this about the forest.
    for both in content["figures"]["other_sources"].values():
        assert both["forest"][1] < both["logistic"][1]


def test_no_test_patient_is_used_for_training():
    from benchmarks import annotated_slices
    from strokeseg.training.sample import TEST_PATIENTS

    root = find_data_set("ctich_train").parent
    trained = {item.patient for item in annotated_slices.read_annotated_slices(root, ["ctich_train"])}
    assert len(trained) > 10
    assert not trained & TEST_PATIENTS
    assert {item.patient for item in annotated_slices.read_test_slices(root)} <= TEST_PATIENTS


def test_scores_agree_with_scikit_learn():
    from sklearn.metrics import confusion_matrix, f1_score

    from benchmarks import lesion_types as bench

    rng = np.random.default_rng(2)
    truth, predicted, weights = rng.integers(5, size=200), rng.integers(5, size=200), rng.random(200)
    matrix = bench.compute_confusion(truth, predicted, weights)
    assert matrix == pytest.approx(confusion_matrix(truth, predicted, sample_weight=weights))
    assert bench.compute_f1(matrix) == pytest.approx(f1_score(truth, predicted, average=None, sample_weight=weights))


def test_cross_validation_never_trains_on_a_judged_patient():
    from benchmarks import lesion_types as bench

    rng = np.random.default_rng(3)
    patients = np.array([f"p{number // 3}" for number in range(150)])
    truth = np.arange(150) // 3 % 5
    table = bench.FeatureTable(rng.normal(size=(150, 2)), truth, patients, patients, 0)
    judged = []

    def fit(learn):
        def answer(features):
            rows = [np.flatnonzero((table.features == feature_row).all(1))[0] for feature_row in features]
            judged.extend(rows)
            assert not set(patients[rows]) & set(learn.patients)
            return np.full((len(features), 5), 0.2)

        return answer

    bench.cross_validate(table, fit, repeats=2)
    assert sorted(judged) == sorted([*range(150), *range(150)])


def assert_near(probabilities, expected, tolerance):
    assert probabilities.keys() == expected.keys()
    for name, value in probabilities.items():
        assert value == pytest.approx(expected[name], abs=tolerance), (name, probabilities, expected)
