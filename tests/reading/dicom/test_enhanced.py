"""Multi-frame CT: the same scan as from single files, however the frames are written."""

import numpy as np
import pydicom
import pytest
import SimpleITK

from phantoms import head_series
from phantoms.head_series import LESION_CENTRE_MM, LESION_ML, Geometry
from strokeseg.errors import InconsistentGeometry, SeveralSeries, TooLarge, UnreadableFile
from strokeseg.reading import limits, read, read_one


def collect_codes(scan):
    return {remark.code for remark in scan.remarks}


def assert_same_scan(scan, other):
    assert np.array_equal(scan.hu, other.hu)
    assert scan.planes.positions_mm == pytest.approx(other.planes.positions_mm)
    assert scan.planes.pixel_spacing_mm == other.planes.pixel_spacing_mm


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("geometry", [Geometry(), Geometry(tilt_deg=18), Geometry(row_sign=-1)])
def test_an_enhanced_ct_is_what_its_single_frames_are(tmp_path, shared, legacy, geometry):
    slices = head_series.make_datasets(geometry)
    single = read_one(head_series.write_series(tmp_path / "single", slices))
    order = np.random.default_rng(4).permutation(len(slices))
    path = head_series.write(
        head_series.make_enhanced([slices[i] for i in order], shared=shared, legacy=legacy),
        tmp_path / "multi" / "ct.dcm",
    )
    scan = read_one(path)
    assert_same_scan(scan, single)
    volume, centroid = head_series.measure_lesion(scan)
    assert volume == pytest.approx(LESION_ML, rel=0.02)
    assert np.abs(centroid - LESION_CENTRE_MM).max() < 0.6


def test_an_enhanced_ct_is_what_simpleitk_reads(tmp_path):
    path = head_series.write(head_series.make_enhanced(head_series.make_datasets()), tmp_path / "ct.dcm")
    image = SimpleITK.ReadImage(str(path))
    assert np.array_equal(SimpleITK.GetArrayFromImage(image).astype(np.int16), read_one(path).hu)


def test_each_frame_has_its_own_rescale(tmp_path):
    geometry = Geometry()
    slices = [
        head_series.ct_dataset(
            geometry.plane_hu(z), geometry.position(z), geometry, instance=n, intercept=-1000.0 - 8 * n
        )
        for n, z in enumerate(geometry.z_mm)
    ]
    scan = read_one(head_series.write(head_series.make_enhanced(slices), tmp_path / "ct.dcm"))
    assert all(np.array_equal(plane, geometry.plane_hu(z)) for plane, z in zip(scan.hu, geometry.z_mm, strict=True))


@pytest.mark.parametrize(("fragments", "table"), [(1, True), (1, False), (3, True), (3, False)])
@pytest.mark.parametrize("codec", ["jpegls_encode", "htj2k_encode"])
def test_compressed_frames_in_fragments(tmp_path, fragments, table, codec):
    import imagecodecs

    slices = head_series.make_datasets()[10:24]
    single = read_one(head_series.write_series(tmp_path / "single", slices))
    path = head_series.write(head_series.make_enhanced(slices), tmp_path / "multi" / "ct.dcm")
    frames = [bytes(getattr(imagecodecs, codec)(item.pixel_array)) for item in slices]
    uid = "1.2.840.10008.1.2.4.80" if codec == "jpegls_encode" else "1.2.840.10008.1.2.4.201"
    head_series.write_encapsulated(path, frames, uid, fragments=fragments, table=table)
    assert_same_scan(read_one(path), single)


def write_concatenation(folder, slices, cuts):
    """Write one multi-frame CT as several files."""
    for number, part in enumerate(np.split(np.arange(len(slices)), cuts), start=1):
        data = head_series.make_enhanced([slices[i] for i in part])
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.9.{number}"
        data.ConcatenationUID, data.SOPInstanceUIDOfConcatenationSource = "1.2.8", "1.2.9"
        data.InConcatenationNumber, data.InConcatenationTotalNumber = number, len(cuts) + 1
        data.ConcatenationFrameOffsetNumber = int(part[0])
        head_series.write(data, folder / f"part{number}.dcm")
    return folder


def test_a_concatenation_is_one_volume(tmp_path):
    slices = head_series.make_datasets()
    single = read_one(head_series.write_series(tmp_path / "single", slices))
    scan = read_one(write_concatenation(tmp_path / "parts", slices, [10, 25]))
    assert_same_scan(scan, single)
    assert scan.remarks == ()


def test_a_missing_end_of_a_concatenation_is_said(tmp_path):
    folder = write_concatenation(tmp_path / "parts", head_series.make_datasets(), [10, 25])
    (folder / "part3.dcm").unlink()  # no gap shows that slices above are missing
    [remark] = [remark for remark in read_one(folder).remarks if remark.code == "missing-files"]
    assert "3 files" in remark.message and "1 are missing" in remark.message


def test_stacks_one_above_the_other_are_one_volume(tmp_path):
    slices = head_series.make_datasets()
    stacks = ["low"] * 15 + ["high"] * (len(slices) - 15)
    scan = read_one(head_series.write(head_series.make_enhanced(slices, stacks=stacks), tmp_path / "ct.dcm"))
    assert_same_scan(scan, read_one(head_series.write_series(tmp_path / "single", slices)))


def test_two_stacks_at_one_place_are_two_volumes(tmp_path):
    slices = head_series.make_datasets()
    stacks = ["1"] * len(slices) + ["2"] * len(slices)
    path = head_series.write(head_series.make_enhanced(slices + slices, stacks=stacks), tmp_path / "ct.dcm")
    assert [scan.shape[0] for scan in read(path)] == [len(slices)] * 2
    with pytest.raises(SeveralSeries):
        read_one(path)


def test_stacks_of_different_orientation_are_two_volumes(tmp_path):
    low = Geometry(z_mm=tuple(np.arange(-48.0, 0.0, 3.0)), tilt_deg=20)
    high = Geometry(z_mm=tuple(np.arange(60.0, 120.0, 3.0)))
    stacks = ["1"] * len(low.z_mm) + ["2"] * len(high.z_mm)
    slices = head_series.make_datasets(low) + head_series.make_datasets(high)
    path = head_series.write(head_series.make_enhanced(slices, stacks=stacks, shared=False), tmp_path / "ct.dcm")
    assert [scan.shape[0] for scan in read(path)] == [len(low.z_mm), len(high.z_mm)]


def test_two_phases_without_stacks_are_refused(tmp_path):
    slices = head_series.make_datasets()
    later = [
        head_series.ct_dataset(item.pixel_array.astype(np.int16) - 1004, item.ImagePositionPatient, Geometry())
        for item in slices
    ]
    with pytest.raises(InconsistentGeometry, match=r"frame 1 and ct\.dcm, frame 38 lie in one plane"):
        read_one(head_series.write(head_series.make_enhanced(slices + later), tmp_path / "ct.dcm"))


def test_localizer_frames_are_left_out(tmp_path):
    slices = head_series.make_datasets()
    slices[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    scan = read_one(head_series.write(head_series.make_enhanced(slices), tmp_path / "ct.dcm"))
    assert scan.shape[0] == len(slices) - 1 and "left-out" in collect_codes(scan)


def test_fewer_places_than_frames_are_refused(tmp_path):
    data = head_series.make_enhanced(head_series.make_datasets())
    data.PerFrameFunctionalGroupsSequence = data.PerFrameFunctionalGroupsSequence[:-1]
    with pytest.raises(UnreadableFile, match="does not say where"):
        read_one(head_series.write(data, tmp_path / "ct.dcm"))


@pytest.mark.parametrize("frames", [2, 60, 30_000])
def test_a_number_of_frames_that_lies_is_refused(tmp_path, frames):
    data = head_series.make_enhanced(head_series.make_datasets())
    data.NumberOfFrames = frames
    with pytest.raises(Exception) as caught:
        read_one(head_series.write(data, tmp_path / "ct.dcm"))
    assert caught.value.code == ("too-large" if frames > 20_000 else "unreadable")


def test_a_cut_enhanced_ct_is_refused(tmp_path):
    path = head_series.write(head_series.make_enhanced(head_series.make_datasets()), tmp_path / "ct.dcm")
    path.write_bytes(path.read_bytes()[:-30_000])
    with pytest.raises(UnreadableFile, match="cut off"):
        read_one(path)
    assert pydicom.dcmread(path, stop_before_pixels=True).NumberOfFrames == 37


def test_frames_are_bounded_over_all_files_and_by_their_bytes(tmp_path, monkeypatch):
    data = head_series.make_enhanced(head_series.make_datasets()[:8])
    for number in range(3):
        head_series.write(data, tmp_path / "many" / f"{number}.dcm")
    monkeypatch.setattr(limits, "MAX_FILES", 20)
    with pytest.raises(TooLarge, match="8 frames"):
        read_one(tmp_path / "many")
    monkeypatch.undo()
    data.NumberOfFrames, data.PixelData = 19_000, bytes(1000)
    with pytest.raises(UnreadableFile, match="19,000 frames in 1,000 bytes"):
        read_one(head_series.write(data, tmp_path / "lie.dcm"))
