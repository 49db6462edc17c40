import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.cli.conftest import LESION_ML, LESION_SLICES, head, save_nifti


def pictures(folder, hu):
    """Save slices as 8-bit pictures through the window 40,80."""
    folder.mkdir()
    for index, plane in enumerate(np.clip(hu / 80 * 255, 0, 255).astype(np.uint8)):
        Image.fromarray(plane).save(folder / f"slice_{index}.png")
    return folder


def test_a_bleed_is_measured_and_shown(run, bleeding, tmp_path):
    out = tmp_path / "out"
    code, stdout, _ = run("segment", bleeding, "-o", out, "--formats", "json,nifti")
    assert code == 0
    volume = float(re.search(r"([\d.]+) ml", stdout)[1])
    assert volume == pytest.approx(LESION_ML, rel=0.1)
    assert stdout.startswith("Hemorrhage detected: 1 lesion")
    assert f"between slices {LESION_SLICES[0] + 1} and {LESION_SLICES[1] + 1} of 12" in stdout
    assert {path.name for path in out.iterdir()} == {
        "ct.nii.gz",
        "mask.nii.gz",
        "lesions.nii.gz",
        "lesions.ctbl",
        "lesions_itksnap.txt",
        "result.json",
        "result.schema.json",
    }


def test_no_bleed_is_also_done(run, healthy, tmp_path):
    code, stdout, stderr = run("segment", healthy, "-o", tmp_path / "out", "--formats", "json")
    assert code == 0 and stderr == ""
    assert stdout.startswith("No hemorrhage detected on 12 slices.")


def test_the_report_is_named(run, bleeding, tmp_path):
    _, stdout, _ = run("segment", bleeding, "-o", tmp_path / "out")
    named = re.search(r"Report: (\S+)", stdout)[1]
    assert Path(named).read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_json_is_the_document_and_all_of_stdout(run, bleeding, tmp_path):
    out = tmp_path / "out"
    code, stdout, stderr = run("segment", bleeding, "-o", out, "--json", "--formats", "nifti")
    assert code == 0 and stderr == ""
    assert json.loads(stdout) == json.loads((out / "result.json").read_text(encoding="utf-8"))
    assert json.loads(stdout)["findings"]["volume_ml"] == pytest.approx(LESION_ML, rel=0.1)


@pytest.mark.parametrize(
    ("name", "folder"),
    [("a.b.nii.gz", "a.b_strokeseg"), ("[red]x.nii", "[red]x_strokeseg"), ("stack", "stack_strokeseg")],
)
def test_results_go_to_a_folder_named_after_the_input(run, tmp_path, name, folder):
    source = pictures(tmp_path / name, head()) if name == "stack" else save_nifti(tmp_path / name, head())
    code, stdout, _ = run("segment", source, "--formats", "json")
    assert code == 0
    assert (tmp_path / "work" / folder / "result.json").is_file()
    assert f"Results: {folder}" in stdout


def test_pictures_have_a_volume_only_with_their_spacing(run, tmp_path):
    source = pictures(tmp_path / "stack", head())
    _, stdout, _ = run("segment", source, "-o", tmp_path / "a", "--formats", "json", "--window", "40,80")
    assert "volume unknown" in stdout and "spacing is unknown" in stdout and "Pixels" in stdout
    found = run("segment", source, "-o", tmp_path / "b", "--json", "--window", "40,80", "--spacing", "5,1.5,1.5")[1]
    assert json.loads(found)["findings"]["volume_ml"] == pytest.approx(LESION_ML, rel=0.1)
    assert json.loads(found)["input"]["window"] == [40, 80]


def test_results_inside_the_input_are_refused(run, tmp_path, monkeypatch):
    source = pictures(tmp_path / "stack", head())
    before = sorted(source.iterdir())
    monkeypatch.chdir(source)
    for arguments in ((".", "-o", source / "deep" / "er"), (source, "-o", source)):
        code, stdout, stderr = run("segment", *arguments)
        assert (code, stdout) == (2, "")
        assert stderr.startswith("error[usage]: the output folder lies in the input")
    assert sorted(source.iterdir()) == before


def test_the_results_of_the_working_folder_lie_beside_it(run, tmp_path, monkeypatch):
    source = pictures(tmp_path / "stack", head())
    before = sorted(source.iterdir())
    monkeypatch.chdir(source)
    code, _, _ = run("segment", ".", "--formats", "json")
    assert code == 0 and (tmp_path / "stack_strokeseg/result.json").exists()
    assert sorted(source.iterdir()) == before


def test_an_option_without_use_is_said(run, bleeding, tmp_path):
    code, stdout, stderr = run("segment", bleeding, "-o", tmp_path / "o", "--window", "40,80", "--formats", "json")
    assert (code, stderr) == (0, "")
    assert "warning: --window not used: not applicable to this kind of input." in stdout


def test_flip_and_threads_answer_alike(run, bleeding, tmp_path):
    def findings(*more):
        return json.loads(run("segment", bleeding, "-o", tmp_path / "o", "--json", "--formats", "json", *more)[1])

    plain, other = findings(), findings("--flip", "--threads", "1", "--engine", "onnxruntime")
    assert other["findings"]["volume_ml"] == pytest.approx(plain["findings"]["volume_ml"], rel=0.05)


def test_inspect_tells_the_geometry_and_writes_nothing(run, bleeding, tmp_path):
    code, stdout, stderr = run("inspect", bleeding)
    assert code == 0 and stderr == ""
    assert stdout.startswith("bleeding.nii.gz: accepted")
    for line in (
        "12 x 128 x 128",
        "1.500 x 1.500 mm",
        "5.00 mm",
        "60 x 192 x 192 mm",
        "Hounsfield units",
        "0.0 degrees",
    ):
        assert line in stdout
    assert list((tmp_path / "work").iterdir()) == []


def test_inspect_json_has_the_input_of_the_result(run, bleeding, tmp_path):
    code, stdout, stderr = run("inspect", bleeding, "--json")
    assert code == 0 and stderr == ""
    result = json.loads(run("segment", bleeding, "-o", tmp_path / "o", "--json", "--formats", "json")[1])
    (series,) = json.loads(stdout)["series"]
    assert series["input"] == result["input"]
    assert series["status"] == result["status"] == "accepted"


def test_inspect_shows_no_scale_where_none_is_known(run, tmp_path):
    _, stdout, _ = run("inspect", pictures(tmp_path / "stack", head()))
    assert re.search(r"pixel spacing +unknown", stdout) and re.search(r"extent +unknown", stdout)
    assert "not calibrated" in stdout and "window" in stdout


def test_a_name_cannot_steer_the_terminal(run, tmp_path):
    source = save_nifti(tmp_path / "\x1b[31mred[bold]:smile:.nii", head())
    _, stdout, _ = run("inspect", source)
    assert stdout.startswith(r"\x1b[31mred[bold]:smile:.nii: accepted")
    source.unlink()
    _, _, stderr = run("inspect", source)
    assert r"\x1b[31mred[bold]:smile:.nii: no such file" in stderr and "\x1b" not in stderr
