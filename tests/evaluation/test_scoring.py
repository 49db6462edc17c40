import json
from io import StringIO
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from strokeseg.errors import NotHead, TrainError
from strokeseg.evaluation import Evaluation, Normal, Pair, evaluate, find_normals, find_pairs, render_table

SIZE = (24, 20)


def make_study(folder, patients=6, slices=3, seed=0):
    """Write pairs, and a predictor that has a fixed answer for each; every third slice has no blood."""
    random = np.random.default_rng(seed)
    answers, truths = {}, {}
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for patient in range(patients):
        for number in range(slices):
            name = f"{patient:03d}_{number}"
            truth = np.zeros(SIZE, dtype=bool)
            if number % 3 < 2:
                row, column = random.integers(2, 12, 2)
                truth[row : row + 8, column : column + 6] = True
            logits = np.where(truth, 1.5, -2.5) + random.normal(0, 2, SIZE)
            answers[name], truths[name] = 1 / (1 + np.exp(-logits)), truth
            Image.fromarray(np.zeros(SIZE, dtype=np.uint8)).save(folder / f"images/{name}.png")
            Image.fromarray(truth.astype(np.uint8) * 255).save(folder / f"masks/{name}.png")
    return answers, truths


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    answers, truths = make_study(folder)
    pairs = find_pairs(folder)
    return answers, truths, evaluate(pairs, lambda path: answers[path.stem], 0.5, draws=200), pairs


def of_patient(maps, patient):
    return np.concatenate([values.ravel() for name, values in maps.items() if name.startswith(patient)])


def test_pooled_scores_are_those_of_all_pixels_together(study):
    answers, truths, evaluation, _ = study
    answer, truth = (np.concatenate([each.ravel() for each in maps.values()]) for maps in (answers, truths))
    assert evaluation.pooled.dice.value == pytest.approx(f1_score(truth, answer >= 0.5))
    assert evaluation.pooled.average_precision.value == pytest.approx(average_precision_score(truth, answer), abs=2e-3)


def test_a_patient_is_scored_on_all_of_the_patients_pixels(study):
    answers, truths, evaluation, _ = study
    expected = [
        f1_score(of_patient(truths, row.patient), of_patient(answers, row.patient) >= 0.5)
        for row in evaluation.patients
    ]
    assert [row.dice for row in evaluation.patients] == pytest.approx(expected)
    assert evaluation.per_patient.dice.value == pytest.approx(np.mean(expected))
    assert [row.slices for row in evaluation.patients] == [3] * 6


def test_slice_scores_are_a_mean_over_slices_where_the_metric_is_defined(study):
    answers, truths, evaluation, _ = study
    expected = [f1_score(truths[name].ravel(), answers[name].ravel() >= 0.5, zero_division=1.0) for name in truths]
    assert evaluation.per_slice.dice.value == pytest.approx(np.mean(expected))
    bloodless = [row for row in evaluation.slices if row.truth_pixels == 0]
    assert len(bloodless) == 6
    assert all(row.recall is None and row.average_precision is None for row in bloodless)
    found = [row.recall for row in evaluation.slices if row.recall is not None]
    assert evaluation.per_slice.recall.value == pytest.approx(np.mean(found))


def test_every_interval_holds_its_value(study):
    _, _, evaluation, _ = study
    for scores in (evaluation.per_slice, evaluation.per_patient, evaluation.pooled):
        for metric in ("dice", "iou", "average_precision", "precision", "recall"):
            score = getattr(scores, metric)
            assert 0 <= score.low <= score.value <= score.high <= 1
            assert score.low < score.high


def test_numbers_of_patients_and_slices_are_stated(study):
    _, _, evaluation, _ = study
    assert (evaluation.n_patients, evaluation.n_slices, evaluation.n_slices_with_blood) == (6, 18, 12)


def test_a_perfect_answer_scores_one_everywhere(study):
    _, truths, _, pairs = study
    evaluation = evaluate(pairs, lambda path: truths[path.stem].astype(np.float16), 0.5, draws=50)
    for scores in (evaluation.per_slice, evaluation.per_patient, evaluation.pooled):
        assert {score["value"] for score in scores.model_dump().values()} == {1.0}


def test_a_constant_answer_is_found_out(study):
    _, truths, evaluation, pairs = study
    constant = evaluate(pairs, lambda path: np.full(SIZE, 0.7), 0.5, draws=50)
    share = np.mean([truth.mean() for truth in truths.values()])
    assert constant.pooled.average_precision.value == pytest.approx(share)
    assert constant.pooled.dice.value < evaluation.pooled.dice.value / 2
    empty = evaluate(pairs, lambda path: np.zeros(SIZE), 0.5, draws=50)
    assert empty.pooled.dice.value == empty.pooled.recall.value == 0.0
    assert empty.pooled.precision.value is None


def test_two_runs_give_the_same_file(study):
    answers, _, evaluation, pairs = study
    again = evaluate(pairs, lambda path: answers[path.stem], 0.5, draws=200)
    assert again.model_dump_json() == evaluation.model_dump_json()


def test_the_file_is_strict_json_and_reads_back(study):
    _, _, evaluation, _ = study
    text = evaluation.model_dump_json()
    assert json.loads(text, parse_constant=pytest.fail)["schema"] == "strokeseg.evaluation/3"
    assert Evaluation.model_validate_json(text) == evaluation


def test_pixels_on_the_threshold_are_blood(tmp_path):
    make_study(tmp_path, patients=1, slices=1)
    (pair,) = find_pairs(tmp_path)
    evaluation = evaluate([pair], lambda path: np.full(SIZE, 0.5, dtype=np.float16), 0.5)
    assert evaluation.slices[0].predicted_pixels == SIZE[0] * SIZE[1]


def test_one_patient_has_scores_and_no_interval(tmp_path):
    answers, _ = make_study(tmp_path, patients=1)
    evaluation = evaluate(find_pairs(tmp_path), lambda path: answers[path.stem], 0.5)
    assert evaluation.pooled.dice.value is not None
    assert evaluation.pooled.dice.low is None
    assert "–" not in render(evaluation)


def test_an_answer_of_another_size_names_the_image(study):
    _, _, _, pairs = study
    with pytest.raises(TrainError, match=r"000_0\.png.*\(1, 5, 5\)"):
        evaluate(pairs, lambda path: np.zeros((5, 5)), 0.5)


def test_no_pairs_are_refused():
    with pytest.raises(TrainError, match="no pair"):
        evaluate([], lambda path: np.zeros(SIZE), 0.5)


def test_a_volume_is_scored_slice_by_slice(tmp_path):
    import nibabel

    mask = np.zeros((20, 24, 3), dtype=np.uint8)
    mask[4:9, 5:12, 1] = 1
    for name in ("head", "head_mask"):
        nibabel.save(nibabel.Nifti1Image(mask, np.eye(4)), tmp_path / f"{name}.nii.gz")
    (pair,) = find_pairs(tmp_path)
    truth, _ = pair.read_truth()
    evaluation = evaluate([pair], lambda path: truth.astype(np.float32), 0.5)
    assert [row.name for row in evaluation.slices] == ["head[0]", "head[1]", "head[2]"]
    assert [row.truth_pixels for row in evaluation.slices] == [0, 35, 0]
    assert evaluation.pooled.dice.value == 1.0


def test_ignored_pixels_change_no_score(tmp_path):
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[2:6, 2:6], mask[10:20, 10:18] = 255, 128
    for kind in ("image", "mask"):
        Image.fromarray(mask).save(tmp_path / f"{kind}.png")
    pair = Pair("a", tmp_path / "image.png", tmp_path / "mask.png", "a", ignore=128)
    evaluation = evaluate([pair], lambda path: (mask > 0).astype(float), 0.5)
    assert evaluation.pooled.dice.value == evaluation.pooled.average_precision.value == 1.0


def render(evaluation):
    drawn = StringIO()
    Console(file=drawn, width=80).print(render_table(evaluation))
    return drawn.getvalue()


def test_the_table_shows_every_metric_with_its_interval(study):
    _, _, evaluation, _ = study
    text = render(evaluation)
    score = evaluation.per_patient.dice
    for words in ("Dice", "IoU", "AP", "Precision", "Recall", "18 slices of 6 patients", "95%"):
        assert words in text
    for words in (
        "Lesion F1",
        "HD95",
        "Surface Dice",
        "Volume error",
        "ROC-AUC",
        "Quiet",
        "Calibration",
    ):
        assert words in text
    assert "…" not in text
    assert f"{score.value:.3f} ({score.low:.3f}–{score.high:.3f})" in text


def test_progress_counts_the_images(study):
    answers, _, _, pairs = study
    calls = []
    evaluate(
        pairs, lambda path: answers[path.stem], 0.5, draws=2, progress=lambda done, whole: calls.append((done, whole))
    )
    assert calls == [(number, 18) for number in range(1, 19)]


def test_dice_with_blood_leaves_the_slices_without_out(study):
    answers, truths, evaluation, _ = study
    expected = [f1_score(truths[n].ravel(), answers[n].ravel() >= 0.5) for n in truths if truths[n].any()]
    assert len(expected) == 12
    assert evaluation.further.dice_with_blood.value == pytest.approx(np.mean(expected))


def test_detection_and_quiet_are_of_all_slices_and_the_normals(tmp_path):
    answers, truths = make_study(tmp_path / "study")
    (tmp_path / "healthy").mkdir()
    for name, level in (("000_9", 0.1), ("900_1", 0.2), ("900_2", 0.9)):
        Image.fromarray(np.zeros(SIZE, dtype=np.uint8)).save(tmp_path / f"healthy/{name}.png")
        answers[name], truths[name] = np.full(SIZE, level), np.zeros(SIZE, dtype=bool)
    pairs, normals = find_pairs(tmp_path / "study"), find_normals(tmp_path / "healthy")
    alone = evaluate(pairs, lambda path: answers[path.stem], 0.5, draws=100)
    both = evaluate(pairs, lambda path: answers[path.stem], 0.5, normals=normals, draws=100)
    # 480 pixels: a slice's score is its highest probability.
    blood, score = [truths[n].any() for n in answers], [answers[n].max() for n in answers]
    assert both.further.detection_auc.value == pytest.approx(roc_auc_score(blood, score))
    assert alone.further.detection_auc.value == pytest.approx(roc_auc_score(blood[:18], score[:18]))
    quiet = [(answers[n] < 0.5).all() for n in answers if not truths[n].any()]
    assert both.further.quiet.value == pytest.approx(np.mean(quiet)) and len(quiet) == 9
    assert alone.further.quiet.value == pytest.approx(np.mean(quiet[:6]))
    # 000 is a patient of the pairs too; what is scored on pairs alone does not move.
    assert (both.n_normal_slices, both.n_normal_patients, alone.n_normal_slices) == (3, 1, 0)
    assert both.per_patient == alone.per_patient and both.slices == alone.slices


def test_every_patient_has_one_place_in_a_draw_for_detection(study):
    _, _, evaluation, _ = study
    auc = evaluation.further.detection_auc
    assert 0 <= auc.low <= auc.value <= auc.high <= 1


def test_without_a_slice_of_the_other_kind_detection_and_quiet_are_undefined(tmp_path):
    answers, truths = make_study(tmp_path, patients=2, slices=2)
    assert all(truth.any() for truth in truths.values())
    further = evaluate(find_pairs(tmp_path), lambda path: answers[path.stem], 0.5, draws=20).further
    assert further.detection_auc.value is None and further.quiet.value is None and further.quiet.low is None


def test_the_order_of_the_pairs_does_not_matter(study):
    answers, _, evaluation, pairs = study
    turned = evaluate(pairs[::-1], lambda path: answers[path.stem], 0.5, draws=200)
    for group in ("per_slice", "per_patient", "pooled", "further"):
        one, other = getattr(evaluation, group).model_dump(), getattr(turned, group).model_dump()
        assert {k: v["value"] for k, v in one.items()} == pytest.approx({k: v["value"] for k, v in other.items()})


def test_a_perfect_answer_is_perfect_by_the_further_metrics_too(study):
    _, truths, _, pairs = study
    further = evaluate(pairs, lambda path: truths[path.stem].astype(np.float16), 0.5, draws=50).further
    for metric in ("dice_with_blood", "lesion_f1", "detection_auc", "quiet"):
        assert getattr(further, metric).value == 1.0, metric
    assert further.calibration_error.value == further.volume_error_relative.value == 0.0


def test_pictures_are_in_ml_only_with_a_spacing(study, tmp_path):
    answers, _ = make_study(tmp_path, patients=3)
    bare, spaced = (find_pairs(tmp_path, picture_spacing_mm=spacing) for spacing in (None, (5.0, 0.5, 0.4)))
    without, scored = (evaluate(pairs, lambda path: answers[path.stem], 0.5, draws=50) for pairs in (bare, spaced))
    assert without.further.volume_error_ml.value is None and without.patients[0].truth_ml is None
    for row, plain in zip(scored.patients, without.patients, strict=True):
        assert row.truth_ml == pytest.approx(row.truth_pixels * 0.001)
        assert row.volume_error_ml == pytest.approx(abs(row.predicted_pixels - row.truth_pixels) * 0.001)
        assert row.volume_error_relative == pytest.approx(plain.volume_error_relative)
    mean = np.mean([row.volume_error_ml for row in scored.patients])
    assert scored.further.volume_error_ml.value == pytest.approx(mean)
    # The slices of pictures need not be neighbours: they have no surface in space.
    assert scored.further.hd95_mm.value is None and scored.further.surface_dice_2mm.value is None


@pytest.fixture
def volumes(tmp_path):
    """Two heads of 5 x 0.5 x 0.4 mm: a block answered one slice too high, and nothing with nothing answered."""
    import nibabel

    answers = {}
    for name, blood in (("ill", True), ("healthy", False)):
        mask = np.zeros((20, 24, 9), dtype=np.uint8)
        mask[4:14, 5:15, 2:5] = blood
        image = nibabel.Nifti1Image(mask, np.diag([-0.4, -0.5, 5.0, 1.0]))
        for ending in ("", "_mask"):
            nibabel.save(image, tmp_path / f"{name}{ending}.nii.gz")
        answers[f"{name}.nii.gz"] = np.roll(mask.transpose(2, 1, 0), 1, axis=0).astype(np.float32)
    return find_pairs(tmp_path), answers


def test_volumes_have_surfaces_lesions_and_ml(volumes):
    pairs, answers = volumes
    scored = evaluate(pairs, lambda path: answers[path.name], 0.5, draws=50)
    healthy, ill = scored.patients
    assert ill.truth_ml == ill.predicted_ml == pytest.approx(3 * 10 * 10 * 5 * 0.5 * 0.4 / 1000)
    assert ill.volume_error_ml == 0.0
    assert ill.hd95_mm == pytest.approx(5.0)
    assert 0.2 < ill.surface_dice_2mm < 0.8
    assert (ill.lesions, ill.lesions_found, ill.lesions_false) == (1, 1, 0)
    assert healthy.hd95_mm is healthy.surface_dice_2mm is healthy.lesion_f1 is healthy.volume_error_relative is None
    assert scored.further.hd95_mm.value == pytest.approx(5.0) and scored.further.lesion_f1.value == 1.0
    assert scored.further.quiet.value == pytest.approx((6 + 9) / 15 - 1 / 15)


def test_a_missed_volume_costs_its_diagonal(volumes):
    pairs, answers = volumes
    scored = evaluate(pairs, lambda path: np.zeros_like(answers[path.name]), 0.5, draws=50).patients[1]
    assert scored.hd95_mm == pytest.approx(np.linalg.norm([9 * 5, 24 * 0.5, 20 * 0.4]))
    assert scored.surface_dice_2mm == scored.lesion_f1 == 0.0


def test_as_segmented_scores_the_finished_mask(study):
    answers, truths, evaluation, pairs = study

    def predict(path):
        return SimpleNamespace(probability=answers[path.stem], mask=truths[path.stem])

    cut = evaluate(pairs, predict, 0.5, draws=200)
    assert cut == evaluation and not cut.as_segmented
    finished = evaluate(pairs, predict, 0.5, as_segmented=True, draws=50)
    assert finished.as_segmented and finished.pooled.dice.value == 1.0
    assert finished.pooled.average_precision.value == evaluation.pooled.average_precision.value
    assert "final mask" in render(finished)
    with pytest.raises(ValueError, match="returns a mask"):
        evaluate(pairs, lambda path: answers[path.stem], 0.5, as_segmented=True)


def test_ignored_pixels_change_no_further_score(tmp_path):
    mask = np.zeros(SIZE, dtype=np.uint8)
    mask[2:6, 2:6], mask[10:20, 10:18] = 255, 128
    for kind in ("image", "mask"):
        Image.fromarray(mask).save(tmp_path / f"{kind}.png")
    pair = Pair("a", tmp_path / "image.png", tmp_path / "mask.png", "a", ignore=128, picture_spacing_mm=(1, 1, 1))
    scored = evaluate([pair], lambda path: (mask > 0).astype(float), 0.5)
    assert scored.further.lesion_f1.value == 1.0
    assert scored.further.volume_error_ml.value == scored.further.calibration_error.value == 0.0


def test_a_normal_volume_is_scored_slice_by_slice(volumes, tmp_path):
    pairs, answers = volumes
    normal = Normal("healthy", tmp_path / "healthy.nii.gz", "healthy")
    scored = evaluate(pairs[1:], lambda path: answers[path.name], 0.5, normals=[normal], draws=20)
    assert (scored.n_normal_slices, scored.n_normal_patients) == (9, 1)


def test_an_image_that_is_refused_is_named(study):
    _, _, _, pairs = study

    def refuse(path):
        raise NotHead("no slice shows a head")

    with pytest.raises(NotHead, match=r"^000_0\.png: no slice shows a head"):
        evaluate(pairs, refuse, 0.5)


def test_one_patient_with_a_figure_gives_it_no_interval(tmp_path):
    answers, _ = make_study(tmp_path / "study", patients=4, slices=2)
    (tmp_path / "healthy").mkdir()
    Image.fromarray(np.zeros(SIZE, dtype=np.uint8)).save(tmp_path / "healthy/one.png")
    answers["one"] = np.zeros(SIZE)
    normals = find_normals(tmp_path / "healthy")
    scored = evaluate(find_pairs(tmp_path / "study"), lambda path: answers[path.stem], 0.5, normals=normals, draws=50)
    assert (scored.further.quiet.value, scored.further.quiet.low) == (1.0, None)
    assert scored.further.dice_with_blood.low is not None


def test_no_interval_has_zero_width_because_one_patient_alone_has_the_figure(tmp_path):
    answers, _ = make_study(tmp_path, patients=3, slices=1)
    for patient in ("001", "002"):
        Image.fromarray(np.zeros(SIZE, dtype=np.uint8)).save(tmp_path / f"masks/{patient}_0.png")
        answers[f"{patient}_0"] = np.where(answers[f"{patient}_0"] > 0.5, 0.4, 0.0)
    scored = evaluate(find_pairs(tmp_path), lambda path: answers[path.stem], 0.5, draws=50)
    for scores in (scored.per_slice, scored.per_patient, scored.pooled):
        for metric in ("average_precision", "precision", "recall"):
            score = getattr(scores, metric)
            assert score.value is not None and score.low is score.high is None, metric
    assert scored.further.detection_auc.low is None
