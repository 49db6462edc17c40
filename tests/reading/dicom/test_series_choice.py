"""The choice of a series by headers, before pixels are decoded."""

import numpy as np
import pytest

from phantoms import head_series
from phantoms.head_series import Geometry
from strokeseg.errors import DifferentPatients, NotCT, SeveralSeries, UnreadableFile
from strokeseg.reading import read, read_one
from strokeseg.reading.dicom import decoding, series_decoder

THICK = Geometry(z_mm=tuple(np.arange(-48.0, 60.0, 6.0)))
THIN = Geometry(z_mm=tuple(np.arange(-48.0, 60.0, 1.5)))
SHORT = Geometry(z_mm=(0.0, 1.5))


def write_series(folder, uid, geometry=THICK, **tags):
    slices = head_series.make_datasets(geometry, series=uid)
    for data in slices:
        for keyword, value in tags.items():
            setattr(data, keyword, value)
    return head_series.write_series(folder / uid, slices)


@pytest.fixture
def decoded_uids(monkeypatch):
    """Record the series UID of every decoded slice."""
    uids = []
    real = decoding.decode_hounsfield

    def record_series(frame, header):
        uids.append(header.series_uid)
        return real(frame, header)

    monkeypatch.setattr(series_decoder, "decode_hounsfield", record_series)
    return uids


def collect_codes(scan):
    return {remark.code for remark in scan.remarks}


WORSE = {
    "siemens": {"ConvolutionKernel": "H60s"},
    "siemens-iterative": {"ConvolutionKernel": ["J70h", "3"]},
    "siemens-new": {"ConvolutionKernel": "Hr59d"},
    "ge": {"ConvolutionKernel": "BONEPLUS"},
    "philips": {"ConvolutionKernel": "YD"},
    "canon": {"ConvolutionKernel": "FC81"},
    "contrast": {"ContrastBolusAgent": "IOMERON"},
    "derived": {"ImageType": ["DERIVED", "PRIMARY", "AXIAL"]},
}


@pytest.mark.parametrize("name", WORSE)
def test_the_better_series_is_chosen_by_its_header_and_the_other_never_decoded(tmp_path, name, decoded_uids):
    write_series(tmp_path, "1.2.3.1", ConvolutionKernel="H31s")
    write_series(tmp_path, "1.2.3.2", **WORSE[name])
    scan = read_one(tmp_path)
    assert scan.series_uid == "1.2.3.1" and "chose-series" in collect_codes(scan)
    assert set(decoded_uids) == {"1.2.3.1"}


@pytest.mark.parametrize("kernel", ["H31s", "J40s", "Hr40f", "STANDARD", "SOFT", "UB", "FC26", "B"])
def test_soft_kernels_are_of_equal_right(tmp_path, kernel):
    write_series(tmp_path, "1.2.3.1", ConvolutionKernel=kernel)
    write_series(tmp_path, "1.2.3.2")
    with pytest.raises(SeveralSeries):
        read_one(tmp_path)


def test_no_slice_is_decoded_twice(tmp_path, decoded_uids):
    write_series(tmp_path, "1.2.3.1")
    read_one(tmp_path)
    assert len(decoded_uids) == len(THICK.z_mm)


def test_a_thin_series_stands_out_beside_a_thick_one(tmp_path, decoded_uids):
    write_series(tmp_path, "1.2.3.1")
    write_series(tmp_path, "1.2.3.2", THIN)
    assert read_one(tmp_path).series_uid == "1.2.3.2" and set(decoded_uids) == {"1.2.3.2"}


def test_a_thin_series_for_bone_does_not_beat_a_thick_soft_one(tmp_path):
    write_series(tmp_path, "1.2.3.1")
    write_series(tmp_path, "1.2.3.2", THIN, ConvolutionKernel="H70h")
    assert read_one(tmp_path).series_uid == "1.2.3.1"


def test_two_slices_of_a_bolus_never_beat_the_head(tmp_path, decoded_uids):
    write_series(tmp_path, "1.2.3.1", THIN, ConvolutionKernel="H70h")
    write_series(tmp_path, "1.2.3.2", SHORT)
    assert read_one(tmp_path).series_uid == "1.2.3.1" and set(decoded_uids) == {"1.2.3.1"}


def test_of_twenty_series_the_only_head_is_found_with_a_glance_at_each(tmp_path, decoded_uids):
    for number in range(20):
        slices = head_series.make_datasets(THICK, series=f"1.2.3.{number + 1}")
        if number != 11:
            for data in slices:
                data.PixelData = np.full(THICK.shape, 1024, "<u2").tobytes()
        head_series.write_series(tmp_path / str(number), slices)
    scan = read_one(tmp_path)
    assert scan.series_uid == "1.2.3.12"
    assert len(decoded_uids) <= 20 * 12 + len(THICK.z_mm)
    assert any("19 other CT series cannot be used (not-head" in remark.message for remark in scan.remarks)


def test_a_refusal_lists_what_tells_the_series_apart(tmp_path):
    write_series(tmp_path, "1.2.3.1")
    write_series(tmp_path, "1.2.3.2", ContrastBolusAgent="x", ConvolutionKernel="BONE")
    write_series(tmp_path, "1.2.3.3")
    with pytest.raises(SeveralSeries) as caught:
        read_one(tmp_path)
    assert "1.2.3.1 (18 slices, 6.0 mm apart); 1.2.3.3" in caught.value.message
    assert "1.2.3.2" not in caught.value.message
    assert len(read(tmp_path)) == 3
    assert read_one(tmp_path, series="1.2.3.2").series_uid == "1.2.3.2"


def test_a_whole_uid_is_that_series_alone_and_a_beginning_must_fit_one(tmp_path):
    for uid in ("1.2.3.12", "1.2.3.1", "1.2.3.2"):
        write_series(tmp_path, uid, THIN if uid == "1.2.3.12" else THICK)
    assert read_one(tmp_path, series="1.2.3.1").series_uid == "1.2.3.1"
    assert [scan.series_uid for scan in read(tmp_path, series="1.2.3.1")] == ["1.2.3.1"]
    assert read_one(tmp_path, series="1.2.3.12").series_uid == "1.2.3.12"
    with pytest.raises(SeveralSeries, match=r"1\.2\.3\.1; 1\.2\.3\.12; 1\.2\.3\.2"):
        read_one(tmp_path, series="1.2.3")


@pytest.mark.parametrize(
    ("name", "change", "reason"),
    [
        ("dose report", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.67", "Modality": "SR"}, "modality SR"),
        ("capture", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"}, "secondary capture"),
        ("multi-frame capture", {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7.2"}, "secondary capture"),
        ("reformat", {"ImageType": ["DERIVED", "SECONDARY", "MPR"]}, "reformat"),
        ("localizer", {"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ("colour", {"SamplesPerPixel": 3}, "colour picture"),
    ],
)
def test_what_is_no_acquired_slice_is_left_out(tmp_path, name, change, reason):
    write_series(tmp_path, "1.2.3.1")
    other = head_series.make_datasets(SHORT, series="1.2.3.2")[0]
    for keyword, value in change.items():
        setattr(other, keyword, value)
    other.file_meta.MediaStorageSOPClassUID = other.SOPClassUID
    head_series.write(other, tmp_path / "other.dcm")
    scan = read_one(tmp_path)
    assert scan.series_uid == "1.2.3.1"
    assert any(f"1 x {reason}" in remark.message for remark in scan.remarks if remark.code == "left-out")
    (tmp_path / "1.2.3.1").rename(tmp_path.parent / f"{tmp_path.name}-away")
    if reason != "reformat":
        with pytest.raises(NotCT, match=reason):
            read_one(tmp_path)


def cut_file(path):
    """Cut a file in its header, after the series UID."""
    path.write_bytes(path.read_bytes()[:-57_700])
    return path


def test_a_file_that_cannot_be_read_is_left_out_unless_it_is_of_the_chosen_series(tmp_path):
    write_series(tmp_path, "1.2.3.1")
    other = write_series(tmp_path, "1.2.3.2", ContrastBolusAgent="x")
    cut_file(other / "IM0003.dcm")
    scan = read_one(tmp_path)
    assert scan.series_uid == "1.2.3.1"
    [remark] = [remark for remark in scan.remarks if remark.code == "left-out"]
    assert remark.severity == "warning" and "IM0003.dcm" in remark.message
    assert [scan.series_uid for scan in read(tmp_path)] == ["1.2.3.1"]
    for chosen in ("1.2.3.2", None):
        if chosen is None:
            cut_file(tmp_path / "1.2.3.1" / "IM0005.dcm")
        with pytest.raises(UnreadableFile, match=r"IM0003\.dcm" if chosen else r"IM0005\.dcm"):
            read_one(tmp_path, series=chosen)


def make_acquisitions(numbers, geometry=THICK, *, first=1, **tags):
    """Make the slices of one series; the n-th belongs to the n-th acquisition of ``numbers``."""
    slices = head_series.make_datasets(geometry)
    for instance, (data, number) in enumerate(zip(slices, numbers, strict=True), start=first):
        data.AcquisitionNumber, data.InstanceNumber = number, instance
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.7.{instance}"
        for keyword, value in tags.items():
            setattr(data, keyword, value)
    return slices


@pytest.mark.parametrize("size", [1, 4, 9])
def test_acquisitions_one_above_the_other_are_one_volume(tmp_path, size):
    """Sequential CT acquires slice by slice, or slab by slab."""
    numbers = [index // size + 1 for index in range(len(THICK.z_mm))]
    scan = read_one(head_series.write_series(tmp_path, make_acquisitions(numbers)))
    assert scan.shape[0] == len(THICK.z_mm) and scan.remarks == ()


def test_acquisitions_that_interleave_are_no_volume(tmp_path):
    shifted = Geometry(z_mm=tuple(np.array(THICK.z_mm) + 3))
    count = len(THICK.z_mm)
    later = make_acquisitions([2] * count, shifted, first=101)
    head_series.write_series(tmp_path / "plain", make_acquisitions([1] * count) + later)
    assert [scan.shape[0] for scan in read(tmp_path / "plain")] == [count, count]
    with pytest.raises(SeveralSeries):
        read_one(tmp_path / "plain")
    for data in later:
        data.ContrastBolusAgent = "IOMERON"
    head_series.write_series(tmp_path / "contrast", make_acquisitions([1] * count) + later)
    scan = read_one(tmp_path / "contrast")
    assert scan.shape[0] == count and scan.planes.positions_mm[0, 2] == THICK.z_mm[0]
    assert "chose-series" in collect_codes(scan)


def test_two_phases_of_slabs_are_two_volumes(tmp_path):
    """Each phase consists of two slabs; slabs with the same contrast medium belong together."""
    numbers = [1] * 9 + [2] * 9
    later = make_acquisitions([number + 2 for number in numbers], first=101, ContrastBolusAgent="IOMERON")
    scan = read_one(head_series.write_series(tmp_path, make_acquisitions(numbers) + later))
    assert scan.shape[0] == 18 and set(scan.sop_instance_uids) == {f"1.2.7.{n}" for n in range(1, 19)}
    assert collect_codes(scan) == {"chose-series"} and [scan.shape[0] for scan in read(tmp_path)] == [18, 18]


def make_slabs(overlap):
    """Make two slabs, acquisitions 1 and 2, of one series UID that share ``overlap`` slices of a head of 18 slices."""
    lower = Geometry(z_mm=THICK.z_mm[: 9 + overlap])
    upper = Geometry(z_mm=THICK.z_mm[9:])
    return make_acquisitions([1] * (9 + overlap), lower) + make_acquisitions([2] * 9, upper, first=101)


@pytest.mark.parametrize("overlap", [1, 2, 4])
def test_slabs_that_overlap_are_one_volume(tmp_path, overlap):
    slices = make_slabs(overlap)
    for data in slices[-9:]:  # acquired again: other noise
        pixels = data.pixel_array.copy()
        pixels[::2] += 1
        data.PixelData = pixels.tobytes()
    scan = read_one(head_series.write_series(tmp_path, slices))
    assert scan.planes.positions_mm[:, 2] == pytest.approx(THICK.z_mm)
    assert collect_codes(scan) == {"joined-slabs"}
    volume, _ = head_series.measure_lesion(scan)
    assert volume == pytest.approx(head_series.LESION_ML, rel=0.02)


def test_slabs_whose_slices_interleave_in_their_overlap_keep_an_even_step(tmp_path):
    upper = Geometry(z_mm=tuple(np.array(THICK.z_mm[8:]) + 3))
    slices = make_acquisitions([1] * 10, Geometry(z_mm=THICK.z_mm[:10])) + make_acquisitions([2] * 10, upper, first=101)
    scan = read_one(head_series.write_series(tmp_path, slices))
    assert scan.planes.gaps_mm.min() >= 3 - 1e-6 and scan.planes.gaps_mm.max() <= 9
    volume, _ = head_series.measure_lesion(scan)
    assert volume == pytest.approx(head_series.LESION_ML, rel=0.03)


def test_phases_of_one_series_uid_are_listed_by_names_that_select_them(tmp_path):
    count, shifted = len(THICK.z_mm), Geometry(z_mm=tuple(np.array(THICK.z_mm) + 3))
    slices = make_acquisitions([1] * count) + make_acquisitions([2] * count, shifted, first=101)
    head_series.write_series(tmp_path, slices)
    with pytest.raises(SeveralSeries) as caught:
        read_one(tmp_path)
    assert "1.2.3:1 (18 slices" in caught.value.message and "1.2.3:2 (18 slices" in caught.value.message
    assert "acquisition 2, z -45.0 to 57.0 mm" in caught.value.message
    for number, first_mm in ((1, -48), (2, -45)):
        scan = read_one(tmp_path, series=f"1.2.3:{number}")
        assert scan.series_name == f"1.2.3:{number}" and scan.series_uid == "1.2.3"
        assert scan.planes.positions_mm[0, 2] == first_mm
        assert [each.series_name for each in read(tmp_path, series=f"1.2:{number}")] == [f"1.2.3:{number}"]
    with pytest.raises(UnreadableFile, match="has 2 volumes, not 3"):
        read_one(tmp_path, series="1.2.3:3")


def test_one_series_uid_for_each_slice_is_one_volume(tmp_path):
    slices = head_series.make_datasets(THICK)
    for number, data in enumerate(slices):
        data.SeriesInstanceUID = f"1.2.3.{number}"
    scan = read_one(head_series.write_series(tmp_path / "one", slices))
    assert scan.shape[0] == len(slices) and collect_codes(scan) == {"joined-series"}
    slices[4].StudyInstanceUID = "1.2.99"
    with pytest.raises(SeveralSeries):
        read_one(head_series.write_series(tmp_path / "two", slices))


@pytest.mark.parametrize("angle_deg", [12, 40])
def test_decubitus_and_oblique_heads_keep_volume_and_place(tmp_path, angle_deg):
    """The frame of the table is rotated about the patient's long axis, as for a head that lies on its side."""
    for name, turn in {"side": 90, "oblique": angle_deg}.items():
        angle = np.radians(turn)
        row = np.array([np.cos(angle), np.sin(angle), 0])
        column = np.array([-np.sin(angle), np.cos(angle), 0])
        slices = []
        for number, z in enumerate(Geometry().z_mm, start=1):
            position = np.array([0, 0, z]) - 89.5 * 1.1 * column - 89.5 * 1.1 * row
            rows, columns = np.meshgrid(np.arange(180), np.arange(180), indexing="ij")
            points = position + 1.1 * (rows[..., None] * column + columns[..., None] * row)
            data = head_series.ct_dataset(
                head_series.head_hu(points), position, Geometry(spacing_mm=(1.1, 1.1)), instance=number
            )
            data.ImageOrientationPatient = [f"{v:.8f}" for v in (*row, *column)]
            slices.append(data)
        scan = read_one(head_series.write_series(tmp_path / name, slices))
        volume, centroid = head_series.measure_lesion(scan)
        assert volume == pytest.approx(head_series.LESION_ML, rel=0.02)
        assert np.abs(centroid - head_series.LESION_CENTRE_MM).max() < 0.6


def test_a_slice_of_another_patient_is_left_out(tmp_path):
    slices = head_series.make_datasets(THICK)
    slices[5].PatientID = "OTHER-SECRET"
    del slices[7].PatientID
    scan = read_one(head_series.write_series(tmp_path / "one", slices))
    assert scan.shape[0] == len(slices) - 1 and slices[5].SOPInstanceUID not in scan.sop_instance_uids
    [remark] = [remark for remark in scan.remarks if remark.code == "left-out"]
    assert remark.severity == "warning" and "1 slices with another patient ID" in remark.message
    for data in slices[: len(slices) // 2]:
        data.PatientID = "OTHER-SECRET"
    with pytest.raises(DifferentPatients, match="2 patient IDs") as caught:
        read_one(head_series.write_series(tmp_path / "two", slices))
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("ratio", "warning"), [(None, "unknown ratio"), (4.5, None), (338.687, "339:1"), ([2, 10], "20:1")]
)
def test_strong_lossy_compression_is_warned_of_with_its_ratio(tmp_path, ratio, warning):
    tags = {"LossyImageCompression": "01"} | ({} if ratio is None else {"LossyImageCompressionRatio": ratio})
    write_series(tmp_path, "1.2.3", **tags)
    messages = [remark.message for remark in read_one(tmp_path).remarks if remark.code == "lossy-compression"]
    assert len(messages) == (warning is not None) and (not messages or warning in messages[0])


@pytest.mark.parametrize("modality", ["OT", "SC"])
def test_slices_of_another_modality_may_be_given_as_pictures(tmp_path, modality):
    write_series(tmp_path, "1.2.3", Modality=modality)
    with pytest.raises(NotCT, match=f"modality {modality}") as caught:
        read_one(tmp_path)
    assert "give them as pictures" in caught.value.remedy
