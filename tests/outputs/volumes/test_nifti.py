import gzip
import time

import nibabel
import numpy as np
import pytest
import SimpleITK

from phantoms.results import make_planes, make_scan, mark_ball
from slowdown import measure_slowdown
from strokeseg.outputs.volumes import nifti
from strokeseg.outputs.volumes.regular_grid import make_regular
from strokeseg.scan import Scan

OBLIQUE_ROW = np.array([np.cos(0.2), np.sin(0.2), 0.0])
OBLIQUE_COLUMN = np.array([-np.sin(0.2) * np.cos(0.3), np.cos(0.2) * np.cos(0.3), -np.sin(0.3)])
OBLIQUE_NORMAL = np.cross(OBLIQUE_ROW, OBLIQUE_COLUMN)


def save(folder, scan, mask):
    return nifti.save(folder, scan, make_regular(scan, mask.astype(np.int32)))


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
        make_planes(6, (0, 0, 5)),
        make_planes(6, (0, 0, 5), row_cosine=(-1, 0, 0), column_cosine=(0, -1, 0), spacing_mm=(0.4, 0.6)),
        make_planes(6, 3.5 * OBLIQUE_NORMAL, OBLIQUE_ROW, OBLIQUE_COLUMN, (0.7, 0.4)),
        make_planes(1, (0, 0, 1)),
    ],
    ids=["axial", "turned", "oblique", "one slice"],
)
def test_regular_planes_are_written_exactly_where_they_lie(where, tmp_path):
    scan = make_scan(where)
    mask = np.zeros(scan.shape, dtype=bool)
    marked = (len(mask) - 1, 11, 40)
    mask[marked] = True
    files = {"mask": "mask.nii.gz", "ct": "ct.nii.gz", "lesion_volume": "lesions.nii.gz"}
    assert save(tmp_path, scan, mask) == files
    ct, mask_image = itk(tmp_path / "ct.nii.gz"), itk(tmp_path / "mask.nii.gz")
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(ct), scan.hu)
    assert np.argwhere(SimpleITK.GetArrayFromImage(mask_image)).tolist() == [list(marked)]
    expected = scan.planes.to_lps_mm([marked])[0]
    for image in (ct, mask_image):
        np.testing.assert_allclose(image.TransformIndexToPhysicalPoint([40, 11, marked[0]]), expected, atol=1e-3)


def test_tilted_series_keeps_its_volume_and_place(tmp_path):
    tilt = np.radians(18)
    where = make_planes(30, (0, 0, 4.2), column_cosine=(0, np.cos(tilt), -np.sin(tilt)), at=(-60, -60, 0))
    scan = make_scan(where, 240, 240)
    assert where.tilt_deg == pytest.approx(18)
    mask = mark_ball(scan, (5, 3, 50), 22)
    save(tmp_path, scan, mask)
    pixel_mm3 = 0.5 * 0.5 * 4.2 * np.cos(tilt)
    volume, centroid = volume_and_centroid(tmp_path / "mask.nii.gz")
    assert volume == pytest.approx(mask.sum() * pixel_mm3, rel=0.02)
    assert volume == pytest.approx(4 / 3 * np.pi * 22**3, rel=0.02)
    assert np.abs(centroid - (5, 3, 50)).max() < 0.25
    assert itk(tmp_path / "ct.nii.gz").GetDirection() == pytest.approx(itk(tmp_path / "mask.nii.gz").GetDirection())


def test_tilted_ct_holds_what_lies_there(tmp_path):
    tilt = np.radians(15)
    where = make_planes(12, (0, 0, 4), column_cosine=(0, np.cos(tilt), -np.sin(tilt)), at=(-20, -20, 0))
    rows, columns = np.mgrid[:80, :80]
    at = (
        where.positions_mm[:, None, None, :]
        + rows[..., None] * 0.5 * where.column_cosine
        + columns[..., None] * 0.5 * where.row_cosine
    )
    hu = np.rint(at @ [8.0, -5.0, 3.0] + 40).astype(np.int16)  # linear in LPS: interpolation must return it
    save(tmp_path, Scan(hu, where), np.zeros(hu.shape, dtype=bool))
    image = itk(tmp_path / "ct.nii.gz")
    for point in [(0, 0, 20), (-12.3, 5.5, 11.7), (14.2, -9.9, 27.0)]:
        index = [round(i) for i in image.TransformPhysicalPointToContinuousIndex(point)]
        exact = np.dot(image.TransformIndexToPhysicalPoint(index), [8.0, -5.0, 3.0]) + 40
        assert image[index] == pytest.approx(exact, abs=1.5)


def test_uneven_series_keeps_its_volume_and_place(tmp_path):
    where = make_planes(1, (0, 0, 1))
    heights = np.concatenate([np.arange(0, 40, 2.5), np.arange(40, 100, 5.0)])
    positions = np.column_stack([np.full(heights.size, -60.0), np.full(heights.size, -60.0), heights])
    where = type(where)(positions, where.row_cosine, where.column_cosine, (0.5, 0.5))
    scan = make_scan(where, 240, 240)
    mask = mark_ball(scan, (0, 0, 42), 24)
    save(tmp_path, scan, mask)
    volume, centroid = volume_and_centroid(tmp_path / "mask.nii.gz")
    assert volume == pytest.approx(4 / 3 * np.pi * 24**3, rel=0.02)
    assert np.abs(centroid[:2]).max() < 0.25 and abs(centroid[2] - 42) < 1.25
    spacing = itk(tmp_path / "ct.nii.gz").GetSpacing()
    assert spacing == pytest.approx((0.5, 0.5, 2.5))


def test_nothing_is_made_up_where_slices_are_missing(tmp_path):
    where = make_planes(10, (0, 0, 5))
    present = [0, 1, 2, 3, 7, 8, 9]
    where = type(where)(where.positions_mm[present], where.row_cosine, where.column_cosine, where.pixel_spacing_mm)
    scan = make_scan(where)
    save(tmp_path, scan, np.ones(scan.shape, dtype=bool))
    mask = np.asarray(nibabel.load(tmp_path / "mask.nii.gz").dataobj)
    assert mask.shape[2] == 10
    assert mask.any((0, 1)).tolist() == [True] * 4 + [False] * 3 + [True] * 3


def test_header_says_what_a_viewer_needs(tmp_path):
    save(tmp_path, scan := make_scan(make_planes(4, (0, 0, 5))), np.ones(scan.shape, dtype=bool))
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
    save(tmp_path, scan, np.zeros(scan.shape, dtype=bool))
    header = nibabel.load(tmp_path / "ct.nii.gz").header
    assert header.get_zooms() == (1, 1, 1)
    assert header.get_xyzt_units()[0] == "unknown"
    assert b"not to scale" in bytes(header["descrip"])


def test_same_scan_gives_the_same_bytes(tmp_path):
    scan = make_scan(make_planes(4, (0, 1, 5)))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        save(tmp_path / name, scan, scan.hu > 40)
    for name in ("ct.nii.gz", "mask.nii.gz"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
        assert gzip.decompress((tmp_path / "one" / name).read_bytes())[:4] == (348).to_bytes(4, "little")


def native(folder, scan, mask):
    files = nifti.save_native(folder, scan, mask)
    return {name: nibabel.load(folder / path) for name, path in files.items()}


@pytest.mark.parametrize("tilt_deg", [18.0, -25.0])
def test_native_planes_of_a_tilted_series_are_exact_under_a_sheared_affine(tilt_deg, tmp_path):
    tilt = np.radians(tilt_deg)
    where = make_planes(7, (0, 0, 4), column_cosine=(0, np.cos(tilt), -np.sin(tilt)), at=(-20, -30, 5))
    scan = make_scan(where)
    mask = mark_ball(scan, (0, -15, 15), 8)
    images = native(tmp_path, scan, mask)
    assert set(images) == {"mask_native", "ct_native"}
    for image, values in zip(images.values(), (mask, scan.hu), strict=True):
        np.testing.assert_array_equal(np.asarray(image.dataobj).transpose(2, 1, 0), values)
        # The place of (slice 5, row 40, column 11), by hand, and turned from LPS to RAS.
        lps = np.array([-20, -30, 5 + 5 * 4]) + 40 * 0.5 * np.array([0, np.cos(tilt), -np.sin(tilt)]) + (11 * 0.5, 0, 0)
        np.testing.assert_allclose(image.affine @ (11, 40, 5, 1), (-lps[0], -lps[1], lps[2], 1), atol=1e-4)
        header = image.header
        assert (int(header["sform_code"]), int(header["qform_code"])) == (1, 0)
        # What a program makes of the voxel sizes alone is right too: the step is that along the normal.
        voxel_mm3 = 0.5 * 0.5 * 4 * np.cos(tilt)
        assert float(np.prod(header.get_zooms())) == pytest.approx(voxel_mm3, rel=1e-5)
        assert abs(np.linalg.det(image.affine[:3, :3])) == pytest.approx(voxel_mm3, rel=1e-5)
    assert nifti.explain_missing_native(scan) is None


def test_native_planes_without_tilt_are_those_of_the_regular_pair(tmp_path):
    scan = make_scan(make_planes(6, (0, 0, 5), row_cosine=(-1, 0, 0), column_cosine=(0, -1, 0), spacing_mm=(0.4, 0.6)))
    mask = scan.hu > 900
    save(tmp_path, scan, mask)
    for name, image in native(tmp_path, scan, mask).items():
        other = nibabel.load(tmp_path / f"{name.removesuffix('_native')}.nii.gz")
        np.testing.assert_allclose(image.affine, other.affine, atol=1e-5)
        assert int(image.header["qform_code"]) == 1
        np.testing.assert_array_equal(np.asarray(image.dataobj), np.asarray(other.dataobj))


@pytest.mark.parametrize("heights", [[0, 2.5, 5, 7.5, 12.5, 17.5], [0, 5, 10, 15.2, 20, 25]])
def test_no_affine_is_made_up_for_uneven_planes(heights, tmp_path):
    where = make_planes(6, (0, 0, 5))
    positions = np.column_stack([np.zeros((6, 2)), heights])
    scan = make_scan(type(where)(positions, where.row_cosine, where.column_cosine, (0.5, 0.5)))
    assert native(tmp_path, scan, scan.hu > 900) == {} and not list(tmp_path.iterdir())
    assert nifti.explain_missing_native(scan).code == "no-native"


def test_native_pictures_without_a_scale_claim_no_millimetres(tmp_path):
    scan = Scan.from_array(np.zeros((3, 20, 30), dtype=np.int16), calibrated=False, kind="pictures")
    image = native(tmp_path, scan, np.zeros(scan.shape, bool))["ct_native"]
    assert image.header.get_zooms() == (1, 1, 1) and image.header.get_xyzt_units()[0] == "unknown"


@pytest.mark.slow
def test_an_ordinary_scan_takes_about_a_second(tmp_path):
    scan = make_scan(make_planes(40, (0, 0.8, 4)), 512, 512)
    start = time.process_time()
    save(tmp_path, scan, scan.hu > 1400)
    # Measured 1-2 s with noise instead of a head; wide, for busy machines.
    assert time.process_time() - start < 5 * measure_slowdown()
