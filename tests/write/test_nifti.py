import gzip
import time

import nibabel
import numpy as np
import pytest
import SimpleITK

from strokeseg.scan import Scan
from strokeseg.write import nifti
from write_cases import ball, planes, scan_of

OBLIQUE_ROW = np.array([np.cos(0.2), np.sin(0.2), 0.0])
OBLIQUE_COLUMN = np.array([-np.sin(0.2) * np.cos(0.3), np.cos(0.2) * np.cos(0.3), -np.sin(0.3)])
OBLIQUE_NORMAL = np.cross(OBLIQUE_ROW, OBLIQUE_COLUMN)


def itk(path):
    return SimpleITK.ReadImage(str(path))


def volume_and_centroid(path):
    """Measure a mask as SimpleITK sees it, in its own LPS mm."""
    image = itk(path)
    marked = np.argwhere(SimpleITK.GetArrayFromImage(image))[:, ::-1]
    points = np.array([image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index]) for index in marked])
    return len(marked) * np.prod(image.GetSpacing()), points.mean(0)


@pytest.mark.parametrize(
    "where",
    [
        planes(6, (0, 0, 5)),
        planes(6, (0, 0, 5), row_cosine=(-1, 0, 0), column_cosine=(0, -1, 0), spacing_mm=(0.4, 0.6)),
        planes(6, 3.5 * OBLIQUE_NORMAL, OBLIQUE_ROW, OBLIQUE_COLUMN, (0.7, 0.4)),
        planes(1, (0, 0, 1)),
    ],
    ids=["axial", "turned", "oblique", "one slice"],
)
def test_regular_planes_are_written_exactly_where_they_lie(where, tmp_path):
    scan = scan_of(where)
    mask = np.zeros(scan.shape, dtype=bool)
    marked = (len(mask) - 1, 11, 40)
    mask[marked] = True
    assert nifti.save(tmp_path, scan, mask) == {"mask": "mask.nii.gz", "ct": "ct.nii.gz"}
    ct, seen = itk(tmp_path / "ct.nii.gz"), itk(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(ct), scan.hu)
    assert np.argwhere(SimpleITK.GetArrayFromImage(seen)).tolist() == [list(marked)]
    expected = scan.planes.to_lps_mm([marked])[0]
    for image in (ct, seen):
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint([40, 11, marked[0]]), expected, atol=1e-3)


def test_tilted_series_keeps_its_volume_and_place(tmp_path):
    tilt = np.radians(18)
    where = planes(30, (0, 0, 4.2), column_cosine=(0, np.cos(tilt), -np.sin(tilt)), at=(-60, -60, 0))
    scan = scan_of(where, 240, 240)
    assert where.tilt_deg == pytest.approx(18)
    mask = ball(scan, (5, 3, 50), 22)
    nifti.save(tmp_path, scan, mask)
    pixel_mm3 = 0.5 * 0.5 * 4.2 * np.cos(tilt)
    volume, centroid = volume_and_centroid(tmp_path / "mask.nii.gz")
    assert volume == pytest.approx(mask.sum() * pixel_mm3, rel=0.02)
    assert volume == pytest.approx(4 / 3 * np.pi * 22**3, rel=0.02)
    assert np.abs(centroid - (5, 3, 50)).max() < 0.25
    assert itk(tmp_path / "ct.nii.gz").GetDirection() == pytest.approx(itk(tmp_path / "mask.nii.gz").GetDirection())


def test_tilted_ct_holds_what_lies_there(tmp_path):
    tilt = np.radians(15)
    where = planes(12, (0, 0, 4), column_cosine=(0, np.cos(tilt), -np.sin(tilt)), at=(-20, -20, 0))
    rows, columns = np.mgrid[:80, :80]
    at = (
        where.positions_mm[:, None, None, :]
        + rows[..., None] * 0.5 * where.column_cosine
        + columns[..., None] * 0.5 * where.row_cosine
    )
    hu = np.rint(at @ [8.0, -5.0, 3.0] + 40).astype(np.int16)  # linear in LPS: interpolation must return it
    nifti.save(tmp_path, Scan(hu, where), np.zeros(hu.shape, dtype=bool))
    image = itk(tmp_path / "ct.nii.gz")
    for point in [(0, 0, 20), (-12.3, 5.5, 11.7), (14.2, -9.9, 27.0)]:
        index = [round(i) for i in image.TransformPhysicalPointToContinuousIndex(point)]
        exact = np.dot(image.TransformIndexToPhysicalPoint(index), [8.0, -5.0, 3.0]) + 40
        assert image[index] == pytest.approx(exact, abs=1.5)


def test_uneven_series_keeps_its_volume_and_place(tmp_path):
    where = planes(1, (0, 0, 1))
    heights = np.concatenate([np.arange(0, 40, 2.5), np.arange(40, 100, 5.0)])
    positions = np.column_stack([np.full(heights.size, -60.0), np.full(heights.size, -60.0), heights])
    where = type(where)(positions, where.row_cosine, where.column_cosine, (0.5, 0.5))
    scan = scan_of(where, 240, 240)
    mask = ball(scan, (0, 0, 42), 24)
    nifti.save(tmp_path, scan, mask)
    volume, centroid = volume_and_centroid(tmp_path / "mask.nii.gz")
    assert volume == pytest.approx(4 / 3 * np.pi * 24**3, rel=0.02)
    assert np.abs(centroid[:2]).max() < 0.25 and abs(centroid[2] - 42) < 1.25
    spacing = itk(tmp_path / "ct.nii.gz").GetSpacing()
    assert spacing == pytest.approx((0.5, 0.5, 2.5))


def test_nothing_is_made_up_where_slices_are_missing(tmp_path):
    where = planes(10, (0, 0, 5))
    kept = [0, 1, 2, 3, 7, 8, 9]
    where = type(where)(where.positions_mm[kept], where.row_cosine, where.column_cosine, where.pixel_spacing_mm)
    scan = scan_of(where)
    nifti.save(tmp_path, scan, np.ones(scan.shape, dtype=bool))
    mask = np.asarray(nibabel.load(tmp_path / "mask.nii.gz").dataobj)
    assert mask.shape[2] == 10
    assert mask.any((0, 1)).tolist() == [True] * 4 + [False] * 3 + [True] * 3


def test_header_says_what_a_viewer_needs(tmp_path):
    nifti.save(tmp_path, scan := scan_of(planes(4, (0, 0, 5))), np.ones(scan.shape, dtype=bool))
    ct, mask = nibabel.load(tmp_path / "ct.nii.gz"), nibabel.load(tmp_path / "mask.nii.gz")
    for image in (ct, mask):
        assert (int(image.header["sform_code"]), int(image.header["qform_code"])) == (1, 1)
        np.testing.assert_allclose(image.get_qform(), image.get_sform(), atol=1e-4)
        assert image.header.get_xyzt_units()[0] == "mm"
        assert nibabel.aff2axcodes(image.affine) == ("L", "P", "S")
    assert ct.get_data_dtype() == np.int16 and mask.get_data_dtype() == np.uint8
    assert np.unique(np.asarray(mask.dataobj)).tolist() == [1]


def test_unknown_spacing_claims_no_millimetres(tmp_path):
    scan = Scan.from_array(np.zeros((3, 20, 30), dtype=np.int16), calibrated=False, kind="pictures")
    nifti.save(tmp_path, scan, np.zeros(scan.shape, dtype=bool))
    header = nibabel.load(tmp_path / "ct.nii.gz").header
    assert header.get_zooms() == (1, 1, 1)
    assert header.get_xyzt_units()[0] == "unknown"
    assert b"not to scale" in bytes(header["descrip"])


def test_same_scan_gives_the_same_bytes(tmp_path):
    scan = scan_of(planes(4, (0, 1, 5)))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        nifti.save(tmp_path / name, scan, scan.hu > 40)
    for name in ("ct.nii.gz", "mask.nii.gz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        assert gzip.decompress((tmp_path / "one" / name).read_bytes())[:4] == (348).to_bytes(4, "little")


@pytest.mark.slow
def test_an_ordinary_scan_takes_about_a_second(tmp_path):
    scan = scan_of(planes(40, (0, 0.8, 4)), 512, 512)
    start = time.process_time()
    nifti.save(tmp_path, scan, scan.hu > 1400)
    assert time.process_time() - start < 5  # measured 1-2 s with noise instead of a head; wide, for busy machines
