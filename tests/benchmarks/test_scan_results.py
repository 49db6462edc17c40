import json
from pathlib import Path

import pytest

from benchmarks import accuracy, accuracy_page, scan_results
from benchmarks.__main__ import main
from strokeseg.errors import TrainError
from strokeseg.evaluation import Evaluation
from strokeseg.evaluation.bootstrap import Bootstrap
from strokeseg.evaluation.schema import Score, Scores, SingleLevelScores
from tests.evaluation.test_scan_scores import MODEL, SOURCE, five_patients, froc_rows, score_rows

NONE = Score(value=None)
ROOT = Path(__file__).parents[2]


def write_evaluation(path, rows, **changes):
    """Write what `strokeseg evaluate --json` writes; the scores of pixels are left open."""
    pixels = Scores(**dict.fromkeys(Scores.model_fields, NONE))
    evaluation = Evaluation(
        threshold=0.5,
        as_segmented=True,
        n_patients=len(rows),
        n_slices=0,
        n_slices_with_blood=0,
        n_normal_patients=0,
        n_normal_slices=0,
        interval_level=0.95,
        bootstrap_draws=50,
        bootstrap_seed=0,
        per_slice=pixels,
        per_patient=pixels,
        pooled=pixels,
        further=SingleLevelScores(**dict.fromkeys(SingleLevelScores.model_fields, NONE)),
        whole_scans=score_rows(SOURCE | changes, rows, Bootstrap(0.95, 50, 0)) if rows else None,
        slices=[],
        patients=[],
    )
    path.write_text(evaluation.model_dump_json())
    return path


def test_the_page_has_no_section_without_figures():
    page = accuracy_page.render_page(accuracy.Results(), [])
    assert "Whole scans" not in page


def test_figures_are_stored_without_rows_and_shown(tmp_path):
    results, page = tmp_path / "accuracy.json", tmp_path / "results.md"
    test = write_evaluation(tmp_path / "test.json", five_patients(), role="test")
    validation = write_evaluation(tmp_path / "validation.json", froc_rows(), unseen=["default.csv"])
    for file in (test, validation, test):
        assert main(["accuracy", "--whole-scans", str(file), "--results", str(results), "--page", str(page)]) == 0
    stored = json.loads(results.read_text())["whole_scans"]
    assert [(each["scores"]["role"], each["scores"]["scans"]) for each in stored] == [("test", []), ("train", [])]
    text = page.read_text()
    public, rest = text.split("## Whole scans: validation")
    assert "## Whole scans: the public test" in public
    # Three with blood, two without; 2 of 3 found, 1 of 2 quiet.
    assert "| default | ctich | 3 | 2 | 0.667 (" in public and "| 0.500 (" in public
    assert "0.480" in public and "0.467" in public  # both conventions: 2.4 / 5 and 1.4 / 3
    # Of five lesions three are found, all of them with at most one false lesion per scan.
    assert "| 5: 0.600 (0.600) | 2: 1.000 (1.000) | 2: 0.000 (0.000) |" in rest


def test_every_table_with_mm_or_ml_names_the_assumed_spacing(tmp_path):
    file = write_evaluation(tmp_path / "test.json", five_patients(), role="test")
    results = accuracy.Results(whole_scans=[scan_results.read_scores([file])])
    lines = accuracy_page.render_page(results, []).split("## The zoo")[0].splitlines()
    headers = [index for index, line in enumerate(lines[:-1]) if lines[index + 1].startswith("|---")]
    with_units = [index for index in headers if " ml" in lines[index] or " mm" in lines[index]]
    assert len(with_units) == 2
    for index in with_units:
        assert lines[index].endswith("assumed spacing |") and lines[index + 2].endswith("| 0.45 x 0.45 x 5 mm |")


def test_an_operating_point_is_part_of_the_name(tmp_path):
    model = MODEL.model_copy(update={"operating_point": "sensitive"})
    file = write_evaluation(tmp_path / "test.json", five_patients(), role="test", models=[model])
    assert scan_results.read_scores([file]).name == "default, sensitive"


def test_folds_are_joined(tmp_path):
    rows = five_patients()
    folds = [
        write_evaluation(tmp_path / f"{index}.json", part, unseen=[f"{index}.csv"])
        for index, part in enumerate((rows[:3], rows[3:]))
    ]
    scores = scan_results.read_scores(folds).scores
    assert (scores.n_scans, scores.unseen) == (5, ["0.csv", "1.csv"])
    assert scores.sensitivity.value == pytest.approx(2 / 3) and scores.specificity.value == 0.5
    with pytest.raises(TrainError, match=r"0\.json, 0\.json: a scan is in two runs"):
        scan_results.read_scores([folds[0], folds[0]])


def test_patients_who_may_have_been_trained_on_are_no_validation(tmp_path):
    with pytest.raises(TrainError, match="were not left out"):
        scan_results.read_scores([write_evaluation(tmp_path / "a.json", five_patients())])


def test_a_file_without_whole_scans(tmp_path):
    with pytest.raises(TrainError, match=r"pairs\.json: no figures of whole scans"):
        scan_results.read_scores([write_evaluation(tmp_path / "pairs.json", [])])
    with pytest.raises(TrainError, match=r"none\.json: no figures of whole scans"):
        scan_results.read_scores([tmp_path / "none.json"])


def test_storing_whole_scans_keeps_the_networks(tmp_path):
    file = write_evaluation(tmp_path / "test.json", five_patients(), role="test")
    results = tmp_path / "accuracy.json"
    results.write_bytes((ROOT / "benchmarks/accuracy.json").read_bytes())
    before = accuracy.read_results(results).rows
    accuracy.store_whole_scans(results, scan_results.read_scores([file]))
    after = accuracy.read_results(results)
    assert after.rows == before and "test" in {each.scores.role for each in after.whole_scans}


def test_whole_scans_and_training_are_two_runs(tmp_path, capfd):
    assert main(["accuracy", "--whole-scans", str(tmp_path / "a.json"), "--again"]) == 2
    assert "--whole-scans excludes" in capfd.readouterr().err


def test_the_figures_of_a_shipped_network_are_of_the_network_that_is_shipped():
    shipped = {card.name: card.sha256 for card in accuracy_page.read_shipped_cards()}
    for each in accuracy.read_results(ROOT / "benchmarks/accuracy.json").whole_scans:
        for model in each.scores.models:
            assert shipped.get(model.name, model.sha256) == model.sha256, f"{each.name}: score it again"
