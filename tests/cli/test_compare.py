"""`strokeseg compare`, as a person uses it."""

import json

import numpy as np
import pytest
from PIL import Image

from data_sets import find_data_set
from tests.cli.conftest import LESION_ML, head


def test_a_scan_beside_itself_has_not_changed(run, bleeding, tmp_path):
    out = tmp_path / "change"
    code, stdout, _ = run("compare", bleeding, bleeding, "-o", out, "--json")
    assert code == 0
    document = json.loads(stdout)
    assert document["schema"] == "strokeseg.change/1"
    change = document["change"]
    assert change["change_ml"] == 0 and change["growth"] is False
    assert [lesion["kind"] for lesion in change["lesions"]] == ["same"]
    assert json.loads((out / "change.json").read_text()) == document
    assert (out / "change.html").is_file()


def test_a_new_lesion_is_reported_with_its_volume(run, healthy, bleeding, tmp_path):
    code, stdout, _ = run("compare", healthy, bleeding, "-o", tmp_path / "change", "--json")
    assert code == 0
    change = json.loads(stdout)["change"]
    assert [lesion["kind"] for lesion in change["lesions"]] == ["new"]
    assert change["change_ml"] == pytest.approx(LESION_ML, rel=0.1)


def test_the_answer_is_in_words(run, bleeding, tmp_path):
    code, stdout, _ = run("compare", bleeding, bleeding, "-o", tmp_path / "change")
    assert code == 0 and "change.html" in stdout and "research only" in stdout


def test_two_patients_are_refused_and_nothing_is_left(run, tmp_path):
    out = tmp_path / "change"
    two = find_data_set("rsna_volume/series.zip"), find_data_set("ge_head_dicom/series.zip")
    code, stdout, stderr = run("compare", *two, "-o", out, "--formats", "json")
    assert code == 3 and stdout == "" and "different-patients" in stderr
    assert not out.exists()


def test_pictures_without_a_scale_are_refused_with_the_flag_to_give(run, tmp_path):
    folder = tmp_path / "slices"
    folder.mkdir()
    for index, plane in enumerate(np.clip(head() / 80 * 255, 0, 255).astype(np.uint8)):
        Image.fromarray(plane).save(folder / f"slice_{index}.png")
    code, _, stderr = run("compare", folder, folder, "-o", tmp_path / "change")
    assert code == 3 and "--spacing" in stderr


def test_results_never_lie_in_an_input(run, tmp_path, bleeding):
    code, _, stderr = run("compare", tmp_path, bleeding, "-o", tmp_path / "change")
    assert code == 2 and "-o" in stderr
