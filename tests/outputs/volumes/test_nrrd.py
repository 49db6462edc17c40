import gzip
import re

import numpy as np
import pytest
import SimpleITK
from pydicom.sr.codedict import codes

from phantoms.results import make_planes, make_scan, mark_ball
from strokeseg.outputs import lesion_labels
from strokeseg.outputs.volumes import nifti, nrrd, regular_grid
from strokeseg.outputs.volumes.regular_grid import make_regular
from strokeseg.scan import Planes, Scan

TILT = np.radians(17)
WHERE = {
    "axial": make_planes(8, (0, 0, 5)),
    "turned": make_planes(8, (0, 0, 5), row_cosine=(-1, 0, 0), column_cosine=(0, -1, 0), spacing_mm=(0.4, 0.6)),
    "tilted": make_planes(20, (0, 0, 3), column_cosine=(0, np.cos(TILT), -np.sin(TILT))),
}


def two_lesions(scan):
    """A larger and a smaller ball, by their places."""
    middle = scan.planes.to_lps_mm([(len(scan.hu) / 2, 32, 36)])[0]
    larger, smaller = mark_ball(scan, middle + np.array([6, 0, 0]), 7.5), mark_ball(scan, middle - (10, 3, 0), 4.5)
    return np.where(larger, 1, np.where(smaller, 2, 0)).astype(np.int32)


def save(folder, scan, lesions, to_scale=True):
    assert nrrd.save(folder, make_regular(scan, lesions), to_scale) == {"segmentation": "lesions.seg.nrrd"}
    return folder / "lesions.seg.nrrd"


def parse(path):
    """Take a NRRD file apart by hand: fields, key/value pairs, and the array (slice, row, column)."""
    head, _, body = path.read_bytes().partition(b"\n\n")
    first, *lines = head.decode("ascii").split("\n")
    assert re.fullmatch(r"NRRD000[1-5]", first)
    fields = dict(line.split(": ", 1) for line in lines if ":=" not in line)
    pairs = dict(line.split(":=", 1) for line in lines if ":=" in line)
    kind = {"unsigned char": "u1", "unsigned short": "<u2"}[fields["type"]]
    sizes = [int(size) for size in fields["sizes"].split()]
    return fields, pairs, np.frombuffer(gzip.decompress(body), kind).reshape(sizes[::-1])


@pytest.mark.parametrize("name", WHERE)
def test_lies_on_the_grid_of_the_mask_for_simpleitk(name, tmp_path):
    scan = make_scan(WHERE[name])
    lesions = two_lesions(scan)
    image = SimpleITK.ReadImage(str(save(tmp_path, scan, lesions)))
    nifti.save(tmp_path, scan, make_regular(scan, lesions))
    for other in ("mask.nii.gz", "lesions.nii.gz"):
        grid = SimpleITK.ReadImage(str(tmp_path / other))
        assert grid.GetSize() == image.GetSize()
        for corner in ([0, 0, 0], [5, 40, 3]):
            np.testing.assert_allclose(
                grid.TransformIndexToPhysicalPoint(corner), image.TransformIndexToPhysicalPoint(corner), atol=1e-3
            )
    values = SimpleITK.GetArrayFromImage(image)
    np.testing.assert_array_equal(values, SimpleITK.GetArrayFromImage(grid))
    for number in (1, 2):
        at = np.argwhere(values == number).mean(0)[::-1]
        position = image.TransformContinuousIndexToPhysicalPoint([float(v) for v in at])
        # The lesion's own middle, from the positions of its pixels.
        truth = scan.planes.to_lps_mm(np.argwhere(lesions == number)).mean(0)
        assert np.abs(np.array(position) - truth).max() < 0.5


def test_header_says_what_slicer_asks(tmp_path):
    scan = make_scan(WHERE["axial"])
    lesions = two_lesions(scan)
    fields, pairs, values = parse(save(tmp_path, scan, lesions))
    assert fields["space"] == "left-posterior-superior" and fields["encoding"] == "gzip"
    assert fields["space directions"] == "(0.5,0,0) (0,0.5,0) (0,0,5)"
    assert fields["space origin"] == "(-60,-70,20)"
    np.testing.assert_array_equal(values, lesions)
    assert pairs["Segmentation_MasterRepresentation"] == "Binary labelmap"
    assert pairs["StrokeSeg_Scale"] == "to scale"
    for segment, number in ((0, 1), (1, 2)):
        own = {key.removeprefix(f"Segment{segment}_"): text for key, text in pairs.items() if f"nt{segment}_" in key}
        assert (own["ID"], own["Name"]) == (f"lesion_{number}", f"Hemorrhage {number}")
        assert (own["LabelValue"], own["Layer"]) == (str(number), "0")
        assert all(0 <= float(part) <= 1 for part in own["Color"].split())
        at = np.argwhere(lesions == number)[:, ::-1]
        extent = np.array(own["Extent"].split(), int).reshape(3, 2)
        np.testing.assert_array_equal(extent[:, 0], at.min(0))
        np.testing.assert_array_equal(extent[:, 1], at.max(0))
        for code in (codes.SCT.Hemorrhage, codes.SCT.MorphologicallyAbnormalStructure, codes.SCT.Brain):
            assert f"~{code.scheme_designator}^{code.value}^{code.meaning}~" in own["Tags"]
    assert "Segment2_ID" not in pairs
    assert pairs["Segment0_Color"] != pairs["Segment1_Color"]


def test_no_bleeding_is_a_valid_segmentation_without_segments(tmp_path):
    scan = make_scan(WHERE["axial"])
    path = save(tmp_path, scan, np.zeros(scan.shape, np.int32))
    _, pairs, values = parse(path)
    assert not values.any() and not any(key.startswith("Segment0") for key in pairs)
    assert SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).max() == 0


def test_more_lesions_than_a_byte_counts(tmp_path):
    scan = make_scan(make_planes(1, (0, 0, 5)), 20, 20)
    lesions = np.arange(400, dtype=np.int32).reshape(1, 20, 20)
    path = save(tmp_path, scan, lesions)
    np.testing.assert_array_equal(parse(path)[2], lesions)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))), lesions)
    nifti.save(tmp_path, scan, make_regular(scan, lesions))
    np.testing.assert_array_equal(
        SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(tmp_path / "lesions.nii.gz"))), lesions
    )


def test_unknown_spacing_is_said(tmp_path):
    scan = Scan.from_array(np.zeros((3, 20, 30), dtype=np.int16), calibrated=False, kind="pictures")
    fields, pairs, _ = parse(save(tmp_path, scan, np.ones(scan.shape, np.int32), to_scale=False))
    assert fields["space directions"] == "(1,0,0) (0,1,0) (0,0,1)"
    assert pairs["StrokeSeg_Scale"].startswith("not to scale")


def test_tilted_lesions_keep_their_ids_and_their_pixels(tmp_path):
    scan = make_scan(WHERE["tilted"])
    lesions = two_lesions(scan)
    lesions[:, :, 37:][lesions[:, :, 37:] == 1] = 3  # a third one touches the first
    volume = make_regular(scan, lesions)
    # Evenly stepped planes are only moved in their plane: no pixel is won, lost or given to another lesion.
    np.testing.assert_array_equal(np.bincount(volume.labels.ravel())[1:], np.bincount(lesions.ravel())[1:])


@pytest.mark.parametrize("part", [0.4, 0.6])
def test_between_two_planes_an_outline_is_between_theirs_and_keeps_its_id(part):
    rows, columns = np.mgrid[:80, :80]
    away = np.hypot(rows - 40, columns - 40)
    lower, upper = np.where(away < 30, 5, 0), np.where(away < 10, 5, 0)
    interpolated = regular_grid._interpolate_labels(lower, upper, part)
    # From 30 to 10 pixels, evenly.
    assert np.sqrt((interpolated == 5).sum() / np.pi) == pytest.approx(30 - 20 * part, abs=0.6)
    assert set(np.unique(interpolated)) == {0, 5}


def test_uneven_lesions_keep_their_volumes(tmp_path):
    heights = np.concatenate([np.arange(0, 20, 2.5), np.arange(20, 60, 5.0)])
    positions = np.column_stack([np.full(heights.size, -15.0), np.full(heights.size, -15.0), heights])
    scan = make_scan(Planes(positions, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), (0.5, 0.5)), 80, 80)
    lesions = np.where(mark_ball(scan, (-2, 4, 22), 12), 1, 0) + np.where(mark_ball(scan, (17, 4, 22), 6.5), 2, 0)
    assert lesions.max() == 2
    volume = make_regular(scan, lesions.astype(np.int32))
    counts = np.bincount(volume.labels.ravel())[1:]
    # By hand: half the way to each neighbour.
    weights = np.where(heights < 20, 2.5, 5.0)
    weights[heights == 20] = 3.75
    for number, count in enumerate(counts, 1):
        areas = (lesions == number).sum((1, 2))
        # A slice of the grid right between a marked and an empty plane goes with either: half a step at the end.
        assert count * 2.5 == pytest.approx(areas @ weights, abs=1.25 * areas[np.flatnonzero(areas)[[0, -1]]].max())


def test_colour_tables_name_every_lesion_in_the_forms_of_their_programs(tmp_path):
    assert lesion_labels.save(tmp_path, 12) == {
        "lesion_colours": "lesions.ctbl",
        "lesion_labels": "lesions_itksnap.txt",
    }
    slicer = [line for line in (tmp_path / "lesions.ctbl").read_text("ascii").splitlines() if line[0] != "#"]
    snap = [line for line in (tmp_path / "lesions_itksnap.txt").read_text("ascii").splitlines() if line[0] != "#"]
    assert len(slicer) == len(snap) == 13
    colours = set()
    for number in range(13):
        index, name, *rgba = slicer[number].split(" ")
        assert int(index) == number and len(rgba) == 4 and all(0 <= int(part) <= 255 for part in rgba)
        fields = re.fullmatch(r'\s*(\d+)\s+(\d+)\s+(\d+)\s+(\d+)\s+(\S+)\s+([01])\s+([01])\s+"([^"]*)"', snap[number])
        assert fields is not None and int(fields[1]) == number
        if number:
            assert name == f"Hemorrhage_{number}" and rgba[3] == "255" and fields[8] == f"Hemorrhage {number}"
            assert list(fields.groups()[1:4]) == rgba[:3] and fields[5] == "1"
            colours.add(tuple(rgba))
    assert slicer[0].split(" ")[-1] == "0" and len(colours) == 10
