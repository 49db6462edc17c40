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


@pytest.fixture
def scans(tmp_path):
    """Whole scans: a stack of pictures with blood and one without, and a volume with blood and a speck beside it."""
    folder = tmp_path / "scans"
    hu, truth = head(), head() == 65
    for name, planes in (("p1", hu), ("p2", head(lesion=False))):
        (folder / name).mkdir(parents=True)
        for index, plane in enumerate(planes):
            grey = np.clip(plane / 80 * 255, 0, 255).astype(np.uint8)
            Image.fromarray(grey).save(folder / name / f"{index}.png")
    (folder / "masks/p1").mkdir(parents=True)
    for index in range(LESION_SLICES[0], LESION_SLICES[1] + 1):
        Image.fromarray(truth[index].astype(np.uint8) * 255).save(folder / f"masks/p1/{index}.png")
    with_speck = hu.copy()
    with_speck[9, 60:70, 60:70] = 65
    save_nifti(folder / "p3.nii.gz", with_speck)
    save_nifti(folder / "masks/p3.nii.gz", truth.astype(np.int16))
    (folder / "index.csv").write_text("patient,blood\np2,0\n")
    return folder


CALIBRATED = {
    "volume": None,
    "blood": {
        "floor_ml": 0.05,
        **{curve: {"intercept": 0.9, "slope": 1.3, "with_blood": 9, "without": 9} for curve in ("scan", "one_slice")},
    },
    "figures": {},
}


def test_whole_scans_are_scored_by_the_answers_that_segment_gives(run, models, scans, tmp_path):
    networks.save_network(models, "default", make_network(), SIZE, calibration=CALIBRATED)
    given = ("--whole-scans", "--assume-spacing", "5,1.5,1.5", "--window", "40,80", "--json", "-")
    code, stdout, stderr = run("evaluate", scans, *given)
    assert (code, stderr) == (0, "")
    report = json.loads(stdout)
    rows = {row["name"]: row for row in report["whole_scans"]["scans"]}
    assert sorted(rows) == ["p1", "p2", "p3"]
    for name, path in (("p1", "p1"), ("p2", "p2"), ("p3", "p3.nii.gz")):
        run("segment", scans / path, "--window", "40,80", "-o", tmp_path / name)
        result = json.loads((tmp_path / name / "result.json").read_text(encoding="utf-8"))
        findings = result["findings"]
        assert rows[name]["hemorrhage"] is findings["hemorrhage"]
        assert rows[name]["confidence"] == findings["confidence"] is not None
        answered = [{key: lesion[key] for key in ("id", "pixels", "probability")} for lesion in findings["lesions"]]
        assert rows[name]["answered_lesions"] == answered
        assert rows[name]["predicted_pixels"] == sum(lesion["pixels"] for lesion in findings["lesions"])
        assert report["whole_scans"]["models"][0] == result["model"]
    assert (rows["p1"]["hemorrhage"], rows["p2"]["hemorrhage"]) == (True, False)
    assert len(rows["p3"]["answered_lesions"]) == 2
    assert rows["p3"]["predicted_ml"] == pytest.approx(findings["volume_ml"], abs=0.001)
    assert [rows[name]["spacing_assumed"] for name in ("p1", "p3")] == [True, False]


def test_the_figures_of_whole_scans(run, scans):
    """Blood is found in both and nothing in the third: one false lesion, the speck of 100 pixels."""
    given = ("--whole-scans", "--window", "40,80", "--json", "-")
    report = json.loads(run("evaluate", scans, *given)[1])
    whole = report["whole_scans"]
    assert report["schema"] == "strokeseg.evaluation/3" and report["as_segmented"] is True
    assert (whole["n_scans"], whole["n_patients_with_blood"], whole["n_patients_without_blood"]) == (3, 2, 1)
    for figure in ("sensitivity", "specificity", "patient_auc", "quiet_scans"):
        assert whole[figure]["value"] == 1.0, figure
    # Of 28 slices without blood one is marked, and it scores as high as those with blood.
    assert whole["quiet_slices"]["value"] == pytest.approx(27 / 28)
    assert whole["slice_auc"]["value"] == pytest.approx(27.5 / 28)
    assert whole["false_lesions"]["value"] == pytest.approx(1 / 3)
    assert whole["lesions"][0]["found"]["value"] == 1.0
    assert whole["dice_with_blood"]["value"] > 0.8
    assert whole["dice_empty_is_1"]["value"] == pytest.approx((2 * whole["dice_with_blood"]["value"] + 1) / 3)
    # Pictures without a spacing: relative volumes, and none in ml.
    assert whole["spacing_assumed_mm"] is None and report["patients"][0]["truth_ml"] is None
    assert abs(whole["volume"]["bias_relative"]["value"]) < 0.2
    assert report["n_slices"] == 36 and report["per_patient"]["dice"]["value"] > 0.9


def test_options_of_segment_reach_the_answers(run, scans, tmp_path):
    """The speck of 1.1 ml beside the lesion is left out; the threshold is the one that is stated."""
    given = ("--whole-scans", "--window", "40,80", "--order", "lowest-first", "--json", "-")
    report = json.loads(run("evaluate", scans, *given, "--smallest-ml", "2", "--threshold", "0.9")[1])
    assert report["threshold"] == report["whole_scans"]["models"][0]["threshold"] == 0.9
    rows = {row["name"]: row for row in report["whole_scans"]["scans"]}
    assert len(rows["p3"]["answered_lesions"]) == 1
    args = ("--smallest-ml", "2", "--threshold", "0.9", "-o", tmp_path / "out")
    run("segment", scans / "p3.nii.gz", *args)
    findings = json.loads((tmp_path / "out" / "result.json").read_text(encoding="utf-8"))["findings"]
    assert rows["p3"]["predicted_pixels"] == findings["lesions"][0]["pixels"]


def test_the_tables_of_whole_scans_name_the_assumed_spacing(run, scans):
    given = ("--whole-scans", "--window", "40,80")
    assumed = "mm and ml by an assumed spacing of 0.45 x 0.4 x 5 mm"
    code, stdout, stderr = run("evaluate", scans, *given, "--assume-spacing", "5,0.45,0.4")
    assert (code, stderr) == (0, "")
    tables = " ".join(stdout.split())
    # Volumes, lesions by size, and the table with the surface distances.
    assert tables.count(assumed) == 3
    for words in ("Sensitivity", "Specificity", "both empty: 1", "ABC/2", "under 5 mm thick", "False lesions"):
        assert words in tables
    assert tables.index("Median error, relative") < tables.index("Error, relative") < tables.index("Error, ml")
    assert "assumed" not in run("evaluate", scans, *given)[1]


def test_scans_without_blood_of_another_folder(run, scans, tmp_path):
    save_nifti(tmp_path / "healthy.nii.gz", head(lesion=False))
    (tmp_path / "normals").mkdir()
    (tmp_path / "healthy.nii.gz").rename(tmp_path / "normals/n1.nii.gz")
    given = ("--whole-scans", "--window", "40,80", "--json", "-", "--normals", tmp_path / "normals")
    whole = json.loads(run("evaluate", scans, *given)[1])["whole_scans"]
    assert (whole["n_scans"], whole["n_patients_without_blood"], whole["specificity"]["value"]) == (4, 2, 1.0)


def test_a_refused_scan_is_listed_and_not_scored(run, scans):
    (scans / "p4").mkdir()
    Image.fromarray(np.full((64, 64), 90, dtype=np.uint8)).save(scans / "p4/1.png")
    (scans / "index.csv").write_text("patient,blood\np2,0\np4,0\n")
    given = ("--whole-scans", "--window", "40,80")
    whole = json.loads(run("evaluate", scans, *given, "--json", "-")[1])["whole_scans"]
    assert whole["refused"] == [{"name": "p4", "patient": "p4", "code": "not-head"}] and whole["n_scans"] == 3
    assert "1 scan refused, not scored" in run("evaluate", scans, *given)[1]


def test_an_index_that_contradicts_a_mask(run, scans):
    (scans / "index.csv").write_text("patient,blood\np1,0\np2,0\n")
    code, _, stderr = run("evaluate", scans, "--whole-scans", "--window", "40,80")
    assert code == 3 and "p1: index.csv says that it holds no blood, and its mask does" in stderr


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--role", "test"), "--role applies to whole scans"),
        (("--assume-spacing", "5,1,1"), "--assume-spacing applies to whole scans"),
        (("--operating-point", "sensitive"), "--operating-point does not change a probability map"),
        (("--smallest-ml", "1"), "--smallest-ml does not change a probability map"),
        (("--whole-scans", "--operating-point", "sensitive"), "no operating point 'sensitive'"),
        (("--set", "ctich"), "--set ctich needs --role train or --role test"),
        (("--set", "ctich", "--role", "validation"), "--set ctich needs"),
        (("--set", "phe_sich", "--role", "test"), "--set phe_sich needs no --role"),
        (("--set", "ctich", "--role", "train", "--ignore", "3"), "--set knows its images"),
    ],
)
def test_options_that_do_not_fit(run, scans, given, told):
    code, stdout, stderr = run("evaluate", scans, *given)
    assert (code, stdout) == (2, "") and told in stderr
