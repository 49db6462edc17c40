"""The direction of a stack is found from the anatomy, and does not change the answer."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import strokeseg
from data_sets import find_data_set
from strokeseg.errors import UsageError
from strokeseg.reading import read_one
from strokeseg.reading.pictures import slice_order

SAMPLES = Path(__file__).parents[3] / "samples"


def save_stack(folder, planes, window=(40.0, 80.0)):
    """Write slices as 8-bit pictures through a window, in the given order."""
    folder.mkdir(parents=True, exist_ok=True)
    low = window[0] - window[1] / 2
    for number, plane in enumerate(planes):
        grey = np.clip((plane.astype(float) - low) / window[1], 0, 1) * 255
        Image.fromarray(np.rint(grey).astype(np.uint8)).save(folder / f"{number:02}.png")
    return folder


def order_remark(scan):
    (remark,) = (remark for remark in scan.remarks if remark.code in ("slice-order", "assumed-order"))
    return remark


@pytest.fixture(scope="module")
def head():
    """A real head CT with positions: sorted from the skull base to the vertex."""
    return read_one(SAMPLES / "ge_head.zip").hu


@pytest.mark.parametrize("window", [(40.0, 80.0), (40.0, 120.0)])
def test_a_stack_that_begins_at_the_vertex_is_turned(tmp_path, head, window):
    upwards = read_one(save_stack(tmp_path / "up", head, window), window=window)
    downwards = read_one(save_stack(tmp_path / "down", head[::-1], window), window=window)
    assert (order_remark(upwards).code, order_remark(upwards).severity) == ("slice-order", "info")
    assert (order_remark(downwards).code, order_remark(downwards).severity) == ("slice-order", "repaired")
    assert np.array_equal(upwards.hu, downwards.hu)


def test_the_stated_order_is_used_and_doubted_if_the_anatomy_contradicts(tmp_path, head):
    folder = save_stack(tmp_path / "down", head[::-1])
    as_they_are = read_one(folder, order="lowest-first")
    assert order_remark(as_they_are).severity == "warning" and "contradicts" in order_remark(as_they_are).message
    turned = read_one(folder, order="highest-first")
    assert order_remark(turned).severity == "repaired"
    assert np.array_equal(as_they_are.hu[::-1], turned.hu)


def test_three_slices_show_no_direction(tmp_path, head):
    scan = read_one(save_stack(tmp_path / "few", head[12:15]))
    assert order_remark(scan).code == "assumed-order" and "--order" in order_remark(scan).message


def test_an_unknown_order_is_refused(tmp_path, head):
    with pytest.raises(UsageError, match=r"--order .upwards. is not one of auto, lowest-first, highest-first"):
        read_one(save_stack(tmp_path / "few", head[12:15]), order="upwards")


def test_an_order_stated_for_dicom_is_named_as_unused():
    scan = read_one(SAMPLES / "ge_head.zip", order="highest-first")
    (remark,) = (remark for remark in scan.remarks if remark.code == "unused-option")
    assert remark.message.startswith("--order not used")


def test_evidence_changes_its_sign_with_the_direction():
    areas = np.random.default_rng(0).uniform(0.1, 1, (20, 4))
    assert np.allclose(slice_order.collect_evidence(areas), -slice_order.collect_evidence(areas[::-1]))


def test_a_stack_without_a_head_shows_no_direction():
    assert slice_order.estimate_order(np.full((9, 64, 64), -1000, np.int16), (40.0, 80.0)).lowest_first == 0.5


@pytest.mark.slow
def test_whole_patients_from_both_ends_get_the_same_mask(tmp_path):
    """Patients of CT-ICH that may be trained on; their first slice is the lowest."""
    folder = find_data_set("ctich")
    with (folder / "index.csv").open() as lines:
        rows = [row for row in csv.DictReader(lines) if row["role"] == "train"]
    bleeding = sorted({row["patient"] for row in rows if row["blood"] == "1"})[:2]
    for patient in [*bleeding, *sorted({row["patient"] for row in rows if row["blood"] == "0"})[:2]]:
        pictures = sorted((folder / patient).glob("*.jpg"))
        for number, picture in enumerate(reversed(pictures)):
            (tmp_path / patient).mkdir(exist_ok=True)
            shutil.copy(picture, tmp_path / patient / f"{number:02}.jpg")
        as_it_is, reversed_ = strokeseg.segment(folder / patient), strokeseg.segment(tmp_path / patient)
        assert order_remark(as_it_is.scan).severity == "info" and order_remark(reversed_.scan).severity == "repaired"
        assert np.array_equal(as_it_is.mask, reversed_.mask)
        assert as_it_is.findings.confidence == reversed_.findings.confidence
