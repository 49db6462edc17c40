"""A lesion of known volume and position, read from series of every geometry."""

import numpy as np
import pytest
import SimpleITK

from phantoms import dicom_series, head_series
from phantoms.head_series import LESION_CENTRE_MM, LESION_ML, Geometry
from strokeseg.errors import InconsistentGeometry, NotCT, SeveralSeries, UnreadableFile
from strokeseg.reading import read, read_one

EVEN = np.arange(-48.0, 63.0, 3.0)
# Thin below and thick above, as at the skull's base.
MIXED = np.concatenate([np.arange(-48.0, -3.0, 1.5), np.arange(-3.0, 63.0, 3.0)])
JITTERED = EVEN + np.random.default_rng(3).uniform(-0.6, 0.6, EVEN.size)

GEOMETRIES = {
    "even": Geometry(),
    "tilted": Geometry(tilt_deg=18.5),
    "tilted-back": Geometry(tilt_deg=-30),
    "mixed": Geometry(z_mm=tuple(MIXED)),
    "jittered": Geometry(z_mm=tuple(JITTERED)),
    "mixed-tilted": Geometry(z_mm=tuple(MIXED), tilt_deg=12),
    "feet-first-supine": Geometry(row_sign=-1),
    "prone": Geometry(row_sign=-1, column_sign=-1),
    "feet-first-prone": Geometry(column_sign=-1),
    "feet-first-tilted": Geometry(row_sign=-1, tilt_deg=20),
    "downwards": Geometry(z_mm=tuple(EVEN[::-1])),
    "thick-pixels": Geometry(shape=(120, 100), spacing_mm=(1.6, 1.7)),
}


def collect_codes(scan):
    return {remark.code for remark in scan.remarks}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_the_lesion_keeps_its_volume_and_position(tmp_path, name):
    geometry = GEOMETRIES[name]
    order = np.random.default_rng(1).permutation(len(geometry.z_mm))
    scan = read_one(head_series.write_series(tmp_path / "in", head_series.make_datasets(geometry), order=order))
    volume, centroid = head_series.measure_lesion(scan)
    assert volume == pytest.approx(LESION_ML, rel=0.02)
    assert np.abs(centroid - LESION_CENTRE_MM).max() < 0.5 * min(geometry.spacing_mm)
    assert scan.planes.tilt_deg == pytest.approx(abs(geometry.tilt_deg), abs=0.05)
    assert ("gantry-tilt" in collect_codes(scan)) == (geometry.tilt_deg != 0)
    assert ("uneven-spacing" in collect_codes(scan)) == ("mixed" in name or "jittered" in name)
    assert collect_codes(scan) <= {"gantry-tilt", "uneven-spacing"}


@pytest.mark.parametrize("name", GEOMETRIES)
def test_every_pixel_stays_at_its_place_in_the_patient(tmp_path, name):
    scan = read_one(head_series.write_series(tmp_path, head_series.make_datasets(GEOMETRIES[name])))
    indices = np.stack(np.meshgrid(*(np.arange(0, n, 7) for n in scan.shape), indexing="ij"), axis=-1).reshape(-1, 3)
    truth = head_series.head_hu(scan.planes.to_lps_mm(indices))
    # Rounding of DS strings moves a pixel on an ellipsoid's very surface in or out.
    assert (scan.hu[tuple(indices.T)] == truth).mean() > 0.9995


@pytest.mark.parametrize("name", GEOMETRIES)
def test_slices_go_from_the_feet_up_and_the_planes_agree(tmp_path, name):
    scan = read_one(head_series.write_series(tmp_path, head_series.make_datasets(GEOMETRIES[name])))
    assert scan.planes.normal[2] > 0
    assert (scan.planes.gaps_mm > 0).all() and (np.diff(scan.planes.positions_mm[:, 2]) > 0).all()
    assert len(scan.sop_instance_uids) == len(scan.hu) == len(set(scan.sop_instance_uids))


def test_each_slice_keeps_its_sop_uid(tmp_path):
    slices = head_series.make_datasets(Geometry(row_sign=-1))  # turned end for end on reading
    expected = {data.SOPInstanceUID: float(data.ImagePositionPatient[2]) for data in slices}
    scan = read_one(head_series.write_series(tmp_path, slices))
    assert [expected[uid] for uid in scan.sop_instance_uids] == pytest.approx(list(scan.planes.positions_mm[:, 2]))


def test_an_even_series_is_what_simpleitk_reads(tmp_path):
    head_series.write_series(
        tmp_path, head_series.make_datasets(), order=np.random.default_rng(2).permutation(len(EVEN))
    )
    files = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path))
    image = SimpleITK.ReadImage(files)
    scan = read_one(tmp_path)
    assert np.array_equal(SimpleITK.GetArrayFromImage(image), scan.hu)
    for index in ((0, 0, 0), (5, 17, 100), (36, 179, 159)):
        position = image.TransformIndexToPhysicalPoint([int(v) for v in index[::-1]])
        assert scan.planes.to_lps_mm([index])[0] == pytest.approx(position, abs=1e-4)


def test_missing_slices_are_remarked_and_widen_no_slice_beyond_one_and_a_half_steps(tmp_path):
    z = np.delete(EVEN, [19, 20])
    scan = read_one(head_series.write_series(tmp_path, head_series.make_datasets(Geometry(z_mm=tuple(z)))))
    [remark] = [remark for remark in scan.remarks if remark.code == "missing-slices"]
    assert remark.slices == [18] and "9.0 mm" in remark.message
    assert "uneven-spacing" not in collect_codes(scan)
    assert scan.weights_mm.max() == pytest.approx(1.25 * 3)
    volume, _ = head_series.measure_lesion(scan)
    assert 0.8 * LESION_ML < volume < LESION_ML  # the tissue in between was never imaged


def test_a_slice_given_three_times_counts_once(tmp_path):
    slices = head_series.make_datasets()
    order = [*range(len(slices)), 20, 20, 7]
    scan = read_one(head_series.write_series(tmp_path, slices, order=order))
    assert scan.shape[0] == len(slices)
    assert "duplicate-slices" in collect_codes(scan)
    assert head_series.measure_lesion(scan)[0] == pytest.approx(LESION_ML, rel=0.02)


def test_two_different_slices_at_one_place_are_refused(tmp_path):
    slices = head_series.make_datasets()
    other = head_series.ct_dataset(Geometry().plane_hu(0.0) + 5, Geometry().position(EVEN[20]), Geometry(), instance=77)
    with pytest.raises(InconsistentGeometry, match="one plane"):
        read_one(head_series.write_series(tmp_path, [*slices, other]))


def test_a_sagittal_series_is_refused(tmp_path):
    slices = head_series.make_datasets()
    for data in slices:
        data.ImageOrientationPatient = [0, 1, 0, 0, 0, -1]
        data.ImagePositionPatient = [data.ImagePositionPatient[2], 0, 0]
    with pytest.raises(InconsistentGeometry, match="not axial"):
        read_one(head_series.write_series(tmp_path, slices))


def test_orientations_that_differ_by_rounding_are_one_series(tmp_path):
    slices = head_series.make_datasets(Geometry(tilt_deg=18.2))  # a cosine of 0.9499...
    for index, data in enumerate(slices):
        cosine = 0.949999 if index % 2 else 0.950001
        data.ImageOrientationPatient = [1, 0, 0, 0, cosine, 0.31225]
    assert read_one(head_series.write_series(tmp_path, slices)).shape[0] == len(slices)


def test_a_few_odd_slices_are_left_out_and_many_are_refused(tmp_path):
    odd = head_series.make_datasets(Geometry(z_mm=(70.0, 73.0), shape=(90, 80)))
    scan = read_one(head_series.write_series(tmp_path / "few", head_series.make_datasets() + odd))
    assert scan.shape == (37, 180, 160) and "left-out" in collect_codes(scan)
    odd = head_series.make_datasets(Geometry(shape=(90, 80)))
    with pytest.raises(InconsistentGeometry, match="37 of 74"):
        read_one(head_series.write_series(tmp_path / "many", head_series.make_datasets() + odd))


def test_a_localizer_and_other_files_are_left_out(tmp_path):
    head_series.write_series(tmp_path, [*head_series.make_datasets(), head_series.make_localizer()])
    (tmp_path / "README.txt").write_text("not an image")
    scan = read_one(tmp_path)
    assert scan.shape[0] == 37
    [remark] = [remark for remark in scan.remarks if remark.code == "left-out"]
    assert "1 x localizer" in remark.message and "1 x other file" in remark.message


def test_a_localizer_alone_is_no_ct_slice(tmp_path):
    with pytest.raises(NotCT, match="localizer"):
        read_one(head_series.write_series(tmp_path, [head_series.make_localizer()]))


def test_a_reformat_is_left_out_beside_the_original_and_read_alone(tmp_path):
    reformat = head_series.make_datasets(series="1.2.9")
    for data in reformat:
        data.ImageType = ["DERIVED", "SECONDARY", "REFORMATTED", "AVERAGE"]
    assert read_one(head_series.write_series(tmp_path / "alone", reformat)).series_uid == "1.2.9"
    scan = read_one(head_series.write_series(tmp_path / "beside", reformat + head_series.make_datasets()))
    assert scan.series_uid == "1.2.3" and "left-out" in collect_codes(scan)


def write_two_series(folder, first, second):
    head_series.write_series(folder / "a", head_series.make_datasets(Geometry(z_mm=tuple(first)), series="1.2.3.4"))
    head_series.write_series(folder / "b", head_series.make_datasets(Geometry(z_mm=tuple(second)), series="1.2.3.55"))
    return folder


def test_two_series_of_equal_right_are_refused_and_listed(tmp_path):
    write_two_series(tmp_path, EVEN, EVEN[::2])
    assert len(read(tmp_path)) == 2
    with pytest.raises(SeveralSeries) as caught:
        read_one(tmp_path)
    assert "1.2.3.4 (37 slices, 3.0 mm apart)" in caught.value.message and "1.2.3.55 (19" in caught.value.message
    assert "--series" in caught.value.remedy
    assert read_one(tmp_path, series="1.2.3.5").shape[0] == 19
    with pytest.raises(UnreadableFile, match=r"9\.9"):
        read_one(tmp_path, series="9.9")


def test_a_series_of_three_times_the_slices_stands_out(tmp_path):
    scan = read_one(write_two_series(tmp_path, EVEN, EVEN[:36:3]))
    assert scan.series_uid == "1.2.3.4" and "chose-series" in collect_codes(scan)


def test_a_second_series_that_cannot_be_used_is_remarked(tmp_path):
    write_two_series(tmp_path, EVEN, EVEN)
    for path in (tmp_path / "b").iterdir():
        data = head_series.ct_dataset(np.full((180, 160), -1000, np.int16), (0, 0, 0), Geometry(), series="1.2.3.55")
        data.ImagePositionPatient = [0, 0, int(path.stem[2:])]
        head_series.write(data, path)
    scan = read_one(tmp_path)
    assert scan.series_uid == "1.2.3.4"
    assert any("not-head" in remark.message for remark in scan.remarks if remark.code == "left-out")


def test_one_file_is_one_slice(tmp_path):
    scan = read_one(head_series.write(head_series.make_datasets()[19], tmp_path / "one.dcm"))
    assert scan.shape == (1, 180, 160) and "single-slice" in collect_codes(scan)
    assert scan.weights_mm == pytest.approx([3.0])


def test_an_option_of_pictures_is_said_to_be_unused(tmp_path):
    scan = read_one(head_series.write(head_series.make_datasets()[19], tmp_path / "one.dcm"), spacing_mm=(5, 1, 1))
    assert scan.pixel_spacing_mm == (1.1, 1.05) and "unused-option" in collect_codes(scan)


@pytest.mark.parametrize("row_sign", [1, -1])
def test_a_series_stored_with_a_quarter_turn_is_read_upright(tmp_path, row_sign):
    """Pixels rotated by 90 degrees with the matching cosines: the same lesion at the same position."""
    slices = dicom_series.rotate_quarter(head_series.make_datasets(Geometry(row_sign=row_sign)))
    scan = read_one(head_series.write_series(tmp_path, slices))
    volume, centroid = head_series.measure_lesion(scan)
    assert volume == pytest.approx(LESION_ML, rel=0.02)
    assert np.abs(centroid - LESION_CENTRE_MM).max() < 0.5
    assert abs(scan.planes.row_cosine[0]) == pytest.approx(1) and scan.planes.normal[2] > 0.9


def test_slices_of_a_hundred_forms_are_refused_before_each_is_held_against_each(tmp_path):
    slices = head_series.make_datasets(Geometry(z_mm=tuple(np.arange(-50.0, 50.0))))
    for number, data in enumerate(slices):
        data.PixelSpacing = [1 + number / 100] * 2
    with pytest.raises(InconsistentGeometry, match="more than 50 sizes"):
        read_one(head_series.write_series(tmp_path, slices))


def test_identical_slices_side_by_side_are_not_said_to_differ(tmp_path):
    slices = head_series.make_datasets()
    slices[3].ImagePositionPatient = list(np.add(slices[2].ImagePositionPatient, (30, 0, 0)))
    slices[3].PixelData = slices[2].PixelData
    with pytest.raises(InconsistentGeometry, match=r"IM0003\.dcm and IM0004\.dcm lie side by side in one plane"):
        read_one(head_series.write_series(tmp_path, slices))
