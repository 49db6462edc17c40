import json

import numpy as np
import pytest
from PIL import Image

from phantoms import networks
from tests.cli.conftest import LESION_SLICES, SIZE, head, make_network, save_nifti


@pytest.fixture
def pairs(tmp_path):
    """Write two patients' slices as pictures with masks; the healthy slices have empty masks."""
    folder = tmp_path / "pairs"
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    hu, truth = head(), head() == 65
    for patient in ("001", "002"):
        for index in (0, *LESION_SLICES):
            grey = np.clip(hu[index] / 80 * 255, 0, 255).astype(np.uint8)
            Image.fromarray(grey).save(folder / "images" / f"{patient}_{index}.png")
            Image.fromarray(truth[index].astype(np.uint8) * 255).save(folder / "masks" / f"{patient}_{index}.png")
    return folder


def test_the_table_and_the_figures(run, pairs, tmp_path):
    figures = tmp_path / "figures.json"
    code, stdout, stderr = run("evaluate", pairs, "--window", "40,80", "--json", figures)
    assert code == 0 and stderr == ""
    assert "6 slices of 2 patients" in stdout and "Dice" in stdout and "threshold 0.5" in stdout
    report = json.loads(figures.read_text(encoding="utf-8"))
    assert report["per_patient"]["dice"]["value"] > 0.9
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_a_dash_prints_json_in_place_of_the_table(run, pairs):
    code, stdout, stderr = run("evaluate", pairs, "--window", "40,80", "--threshold", "0.9", "--json", "-")
    assert code == 0 and stderr == ""
    assert json.loads(stdout)["threshold"] == 0.9
    assert json.loads(stdout)["n_slices_with_blood"] == 4


def test_options_reach_the_pairs(run, pairs):
    (pairs / "images").rename(pairs / "ct")
    (pairs / "masks").rename(pairs / "blood")
    given = ("--images", "ct", "--masks", "blood", "--window", "40,80", "--json", "-")
    report = json.loads(run("evaluate", pairs, *given, "--patient", r"(\d)_\d$")[1])
    assert {row["patient"] for row in report["patients"]} == {"1", "2"}
    mask = pairs / "blood" / "001_0.png"
    values = np.array(Image.open(mask))
    values[:5] = 128
    Image.fromarray(values).save(mask)
    assert run("evaluate", pairs, *given)[0] == 3
    assert run("evaluate", pairs, *given, "--ignore", "128")[0] == 0


def test_volumes_are_scored_on_their_own_grid(run, tmp_path):
    folder = tmp_path / "volumes"
    folder.mkdir()
    save_nifti(folder / "one.nii.gz", head())
    save_nifti(folder / "one_mask.nii.gz", (head() == 65).astype(np.int16))
    report = json.loads(run("evaluate", folder, "--json", "-")[1])
    assert report["n_slices"] == 12 and report["pooled"]["dice"]["value"] > 0.9


def test_a_folder_without_pairs(run, tmp_path):
    code, stdout, stderr = run("evaluate", tmp_path / "nowhere")
    assert (code, stdout) == (3, "")
    assert stderr.startswith("error[train]: ") and "remedy: " in stderr


@pytest.mark.parametrize("place", ["no/such/folder.json", "."])
def test_a_file_that_cannot_be_written_is_refused_before_the_work(run, tmp_path, place):
    code, stdout, stderr = run("evaluate", tmp_path / "nowhere", "--json", tmp_path / place)
    assert (code, stdout) == (3, "") and stderr.startswith("error[not-writable]: ")


def test_normals_and_a_spacing_reach_the_figures(run, pairs, tmp_path):
    healthy = tmp_path / "healthy"
    healthy.mkdir()
    save_nifti(healthy / "nine.nii.gz", head(lesion=False))
    given = ("--window", "40,80", "--spacing", "5,1.5,1.5", "--normals", healthy, "--json", "-")
    code, stdout, stderr = run("evaluate", pairs, *given)
    assert (code, stderr) == (0, "")
    report = json.loads(stdout)
    assert (report["n_normal_slices"], report["n_normal_patients"], report["n_slices"]) == (12, 1, 6)
    assert report["further"]["detection_auc"]["value"] == report["further"]["quiet"]["value"] == 1.0
    row = report["patients"][0]
    assert row["truth_ml"] == pytest.approx(row["truth_pixels"] * 5 * 1.5 * 1.5 / 1000)
    assert report["further"]["volume_error_ml"]["value"] < 0.2 * row["truth_ml"]


def test_as_segmented_scores_what_segment_gives(run, models, tmp_path):
    """A speck under the card's smallest volume is in the cut map and not in the finished mask."""
    networks.save_network(models, "default", make_network(), SIZE, smallest_mm3=3000.0)
    folder = tmp_path / "volumes"
    folder.mkdir()
    hu = head()
    hu[9, 60:70, 60:70] = 65
    save_nifti(folder / "one.nii.gz", hu)
    save_nifti(folder / "one_mask.nii.gz", (head() == 65).astype(np.int16))
    cut, finished = (
        json.loads(run("evaluate", folder, *further, "--json", "-")[1]) for further in ((), ("--as-segmented",))
    )
    assert (cut["as_segmented"], finished["as_segmented"]) == (False, True)
    run("segment", folder / "one.nii.gz", "-o", tmp_path / "out")
    findings = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["findings"]
    assert cut["patients"][0]["lesions_false"] == 1 and finished["patients"][0]["lesions_false"] == 0
    assert finished["patients"][0]["predicted_ml"] == pytest.approx(findings["volume_ml"], abs=0.01)


def test_a_threshold_and_the_finished_mask_contradict(run, pairs):
    code, stdout, stderr = run("evaluate", pairs, "--as-segmented", "--threshold", "0.3")
    assert (code, stdout) == (2, "") and "--as-segmented" in stderr
