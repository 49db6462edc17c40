"""`strokeseg inspect`: the verdict, the geometry, the remarks, and a refusal as data."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from phantoms import head_series
from strokeseg.reading import read_one
from tests.cli.conftest import head, save_nifti

NUMBERS = {"type": "array", "items": {"type": "number"}}
COUNT, MEASURED = {"type": "integer", "minimum": 0}, {"type": ["number", "null"]}
HEAD = {
    "sampled_slices": COUNT,
    "head_like_slices": COUNT,
    "longest_run": COUNT,
    "run_mm": MEASURED,
    "probability": {"type": "number", "minimum": 0, "maximum": 1},
    "closed_skull": MEASURED,
    "brain_hu": MEASURED,
    "brain_spread_hu": MEASURED,
    "texture_hu": MEASURED,
    "asymmetry": MEASURED,
    "dark_outside": MEASURED,
    "skull_radius_mm": MEASURED,
    "brain_area_mm2": MEASURED,
}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": ["schema", "software", "series", "chosen", "refusal"],
    "properties": {
        "schema": {"const": "strokeseg.inspection/1"},
        "software": {"type": "string"},
        "chosen": {"type": ["string", "null"]},
        "series": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["status", "input", "geometry", "head", "remarks"],
                "properties": {
                    "name": {"type": ["string", "null"]},
                    "status": {"enum": ["accepted", "repaired"]},
                    "input": {"type": "object"},
                    "geometry": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": ["orientation", "step_mm", "extent_mm"],
                        "properties": {
                            "orientation": {"type": ["string", "null"]},
                            "step_mm": {"anyOf": [{"type": "null"}, NUMBERS]},
                            "extent_mm": {"anyOf": [{"type": "null"}, NUMBERS]},
                        },
                    },
                    "head": {
                        "type": "object",
                        "additionalProperties": False,
                        "required": list(HEAD),
                        "properties": HEAD,
                    },
                    "remarks": {"type": "array"},
                },
            },
        },
        "refusal": {
            "anyOf": [
                {"type": "null"},
                {
                    "type": "object",
                    "required": ["code", "message", "remedy"],
                    "additionalProperties": {"type": "string"},
                },
            ]
        },
    },
}


def tilted(folder, series="1.2.3"):
    geometry = head_series.Geometry(z_mm=(*np.arange(-48.0, 0.0, 3.0), *np.arange(0.0, 60.0, 5.0)), tilt_deg=12.0)
    return head_series.write_series(folder, head_series.make_datasets(geometry, series=series))


def test_the_geometry_is_that_of_the_series(run, tmp_path):
    code, stdout, stderr = run("inspect", tilted(tmp_path / "series"))
    assert code == 0 and stderr == ""
    cosine = np.cos(np.radians(12))
    assert f"{3 * cosine:.2f} to {5 * cosine:.2f} mm" in stdout and "12.0 degrees (from positions)" in stdout
    assert "columns left, rows back, slices head" in stdout
    assert "of 12 sampled" in stdout and "inner radius up to 7" in stdout
    assert "note[gantry-tilt]: " in stdout and "note[uneven-spacing]: " in stdout


def test_json_holds_its_schema_and_the_numbers(run, tmp_path):
    code, stdout, _ = run("inspect", tilted(tmp_path / "series"), "--json")
    answer = json.loads(stdout)
    jsonschema.validate(answer, SCHEMA)
    (series,) = answer["series"]
    cosine = np.cos(np.radians(12))
    assert code == 0 and answer["refusal"] is None
    assert series["geometry"]["step_mm"] == pytest.approx([3 * cosine, 5 * cosine], abs=1e-4)
    assert series["geometry"]["extent_mm"][1:] == pytest.approx([180 * 1.1, 160 * 1.05])
    assert series["head"]["head_like_slices"] > 0.6 * series["head"]["sampled_slices"]
    assert series["head"]["skull_radius_mm"] == pytest.approx(75, abs=5) and series["head"]["closed_skull"] == 1
    assert sum(series["input"]["slice_weights_mm"]) == pytest.approx(series["geometry"]["extent_mm"][0], abs=0.01)


def test_a_refusal_is_data_too(run, tmp_path):
    source = save_nifti(tmp_path / "flat.nii", np.zeros_like(head()))
    code, stdout, stderr = run("inspect", source, "--json")
    jsonschema.validate(json.loads(stdout), SCHEMA)
    assert code == 3 and json.loads(stdout)["refusal"]["remedy"] in stderr


def test_several_series_are_numbered_and_named(run, tmp_path):
    tilted(tmp_path / "study/a", "1.2.3")
    tilted(tmp_path / "study/b", "1.2.4")
    _, stdout, _ = run("inspect", tmp_path / "study")
    assert "study, series 1 of 2: accepted" in stdout and "study, series 2 of 2: accepted" in stdout
    assert "1.2.3" in stdout and "1.2.4" in stdout and "--series NAME" in stdout


def test_what_segment_would_refuse_or_choose_is_said(run, tmp_path):
    tilted(tmp_path / "study/a", "1.2.3")
    tilted(tmp_path / "study/b", "1.2.4")
    code, stdout, stderr = run("inspect", tmp_path / "study", "--json")
    answer = json.loads(stdout)
    jsonschema.validate(answer, SCHEMA)
    assert code == 3 and "error[several-series]" in stderr and len(answer["series"]) == 2
    assert answer["refusal"]["code"] == "several-series" and answer["chosen"] is None
    code, stdout, _ = run("inspect", tmp_path / "study")
    assert code == 3 and stdout.count("can be segmented with --series") == 2 and "none is preferred" in stdout
    code, stdout, _ = run("inspect", tmp_path / "study", "--series", "1.2.4", "--json")
    assert code == 0 and json.loads(stdout)["chosen"] == "1.2.4" and json.loads(stdout)["refusal"] is None

    for path in sorted((tmp_path / "study/b").iterdir())[4:]:
        path.unlink()
    code, stdout, _ = run("inspect", tmp_path / "study", "--json")
    answer = json.loads(stdout)
    assert code == 0 and len(answer["series"]) == 2 and answer["refusal"] is None
    assert answer["chosen"] == read_one(tmp_path / "study").series_uid == "1.2.3"
    _, stdout, _ = run("inspect", tmp_path / "study")
    assert "series 1 of 2: accepted, can be segmented\n" in stdout and "1.2.3 would be segmented" in stdout


def test_a_name_that_is_no_utf8_is_escaped_in_the_refusal(tmp_path, capfdbinary):
    from strokeseg.cli import main

    path = Path(os.fsdecode(bytes(tmp_path) + b"/h\xe9ad.nii"))
    path.write_bytes(b"no volume" * 100)
    assert main(["inspect", str(path), "--json"]) == 3
    out, _ = capfdbinary.readouterr()
    assert json.loads(out)["refusal"]["message"].startswith("h\udce9ad.nii: ")


def test_unknown_sides_are_not_named(run, tmp_path):
    import nibabel

    image = nibabel.Nifti1Image(head().transpose(2, 1, 0), None)
    image.header.set_zooms((1.5, 1.5, 5.0))
    image.to_filename(tmp_path / "head.nii")
    _, stdout, _ = run("inspect", tmp_path / "head.nii")
    assert "columns left" not in stdout and "warning[no-orientation]" in stdout


@pytest.mark.slow
def test_the_module_ends_with_the_commands_exit_code(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "strokeseg", "inspect", tmp_path / "none"], capture_output=True, check=False
    )
    assert done.returncode == 3
