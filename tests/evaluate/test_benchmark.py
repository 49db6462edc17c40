import json
from io import StringIO

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from sklearn.metrics import average_precision_score, f1_score

from strokeseg.errors import TrainError
from strokeseg.evaluate import Evaluation, Pair, evaluate, find_pairs, table

SIZE = (24, 20)


def a_study(folder, patients=6, slices=3, seed=0):
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
    answers, truths = a_study(folder)
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
    assert json.loads(text, parse_constant=pytest.fail)["schema"] == "strokeseg.evaluation/1"
    assert Evaluation.model_validate_json(text) == evaluation


def test_pixels_on_the_threshold_are_blood(tmp_path):
    a_study(tmp_path, patients=1, slices=1)
    (pair,) = find_pairs(tmp_path)
    evaluation = evaluate([pair], lambda path: np.full(SIZE, 0.5, dtype=np.float16), 0.5)
    assert evaluation.slices[0].predicted_pixels == SIZE[0] * SIZE[1]


def test_one_patient_has_scores_and_no_interval(tmp_path):
    answers, _ = a_study(tmp_path, patients=1)
    evaluation = evaluate(find_pairs(tmp_path), lambda path: answers[path.stem], 0.5)
    assert evaluation.pooled.dice.value is not None
    assert evaluation.pooled.dice.low is None
    assert "–" not in shown(evaluation)


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
    truth, _ = pair.truth()
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


def shown(evaluation):
    drawn = StringIO()
    Console(file=drawn, width=80).print(table(evaluation))
    return drawn.getvalue()


def test_the_table_shows_every_metric_with_its_interval(study):
    _, _, evaluation, _ = study
    text = shown(evaluation)
    score = evaluation.per_patient.dice
    for words in ("Dice", "IoU", "AP", "Precision", "Recall", "18 slices of 6 patients", "95%"):
        assert words in text
    assert f"{score.value:.3f} ({score.low:.3f}–{score.high:.3f})" in text


def test_progress_counts_the_images(study):
    answers, _, _, pairs = study
    calls = []
    evaluate(
        pairs, lambda path: answers[path.stem], 0.5, draws=2, progress=lambda done, whole: calls.append((done, whole))
    )
    assert calls == [(number, 18) for number in range(1, 19)]
