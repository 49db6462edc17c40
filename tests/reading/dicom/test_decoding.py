"""Hounsfield units from every storage format."""

import time

import numpy as np
import pydicom
import pytest
import SimpleITK
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate, generate_frames

from data_sets import find_case
from phantoms import head_series
from phantoms.head_series import Geometry
from slowdown import measure_slowdown
from strokeseg.errors import NoHounsfield, NotCT, NotHead, UnreadableFile, UnsupportedTransferSyntax
from strokeseg.reading import read_one
from strokeseg.reading.dicom import codestream

GEOMETRY = Geometry()
TRUTH = GEOMETRY.plane_hu(9.0)  # through the middle of the lesion


def make_slice(**options):
    return head_series.ct_dataset(TRUTH, GEOMETRY.position(9.0), GEOMETRY, **options)


@pytest.mark.parametrize(
    "syntax", ["explicit", "implicit", "rle", "no-preamble", "no-meta", *head_series.GDCM_SYNTAXES]
)
def test_every_transfer_syntax_gives_the_same_hounsfield_units(tmp_path, syntax):
    scan = read_one(head_series.write(make_slice(), tmp_path / "slice.dcm", syntax))
    assert np.array_equal(scan.hu[0], TRUTH)


@pytest.mark.parametrize("syntax", ["rle", "jpeg-ls", "jpeg-lossless"])
def test_signed_pixels_survive_compression(tmp_path, syntax):
    scan = read_one(head_series.write(make_slice(signed=True, intercept=0.0), tmp_path / "slice.dcm", syntax))
    assert np.array_equal(scan.hu[0], TRUTH)


@pytest.mark.parametrize(
    "options",
    [
        {"slope": 1.0, "intercept": -1024.0},
        {"slope": 1.0, "intercept": -1000.0},
        {"slope": 1.0, "intercept": 0.0, "signed": True},
        {"slope": 1.0, "intercept": -8192.0},
        {"slope": 0.5, "intercept": -1024.0},
        {"slope": 0.25, "intercept": -1024.5, "signed": True},
        {"slope": -1.0, "intercept": 3000.0},
    ],
)
def test_every_rescale_gives_the_same_hounsfield_units(tmp_path, options):
    scan = read_one(head_series.write(make_slice(**options), tmp_path / "slice.dcm"))
    assert np.abs(scan.hu[0].astype(int) - TRUTH).max() <= (1 if options["intercept"] == -1024.5 else 0)


def test_each_slice_has_its_own_rescale(tmp_path):
    slices = [
        head_series.ct_dataset(
            GEOMETRY.plane_hu(z), GEOMETRY.position(z), GEOMETRY, instance=n, intercept=-1000.0 - 8 * n
        )
        for n, z in enumerate(GEOMETRY.z_mm)
    ]
    scan = read_one(head_series.write_series(tmp_path, slices))
    assert all(np.array_equal(plane, GEOMETRY.plane_hu(z)) for plane, z in zip(scan.hu, GEOMETRY.z_mm, strict=True))


def make_padded_slice(signed, intercept, stored, tag, vr):
    data = make_slice(signed=signed, intercept=intercept)
    values = np.frombuffer(data.PixelData, "<i2" if signed else "<u2").copy().reshape(TRUTH.shape)
    values[:10] = stored
    data.PixelData = values.tobytes()
    data.add_new("PixelPaddingValue", vr, tag)
    return data


@pytest.mark.parametrize(
    "case",
    [
        (True, 0.0, -1500, -1500, "SS"),  # GE
        (True, 0.0, -2000, -2000, "SS"),
        (True, -1024.0, -2000, 63536, "US"),  # the same number, written as if unsigned
        (False, -1024.0, 63536, 63536, "US"),
        (False, -1024.0, 63536, -2000, "SS"),
    ],
)
def test_padding_becomes_air_and_nothing_else_changes(tmp_path, case):
    scan = read_one(head_series.write(make_padded_slice(*case), tmp_path / "slice.dcm"))
    assert (scan.hu[0, :10] == -1024).all() and np.array_equal(scan.hu[0, 10:], TRUTH[10:])


def test_a_padding_range_becomes_air(tmp_path):
    data = make_padded_slice(True, 0.0, -1800, -2000, "SS")
    data.add_new("PixelPaddingRangeLimit", "SS", -1500)
    assert (read_one(head_series.write(data, tmp_path / "slice.dcm")).hu[0, :10] == -1024).all()


def test_a_padding_value_inside_tissue_tears_no_hole(tmp_path):
    data = make_slice(signed=True, intercept=0.0)
    data.add_new("PixelPaddingValue", "SS", 35)
    assert np.array_equal(read_one(head_series.write(data, tmp_path / "slice.dcm")).hu[0], TRUTH)


@pytest.mark.parametrize("missing", [("RescaleSlope",), ("RescaleIntercept",), ("RescaleSlope", "RescaleIntercept")])
def test_no_rescale_is_refused(tmp_path, missing):
    data = make_slice()
    for keyword in missing:
        delattr(data, keyword)
    with pytest.raises(NoHounsfield, match="no rescale"):
        read_one(head_series.write(data, tmp_path / "slice.dcm"))


@pytest.mark.parametrize(("slope", "intercept"), [(0.0, -1024.0), (1.0, 1e9)])
def test_a_rescale_that_cannot_be_is_refused(tmp_path, slope, intercept):
    data = make_slice()
    data.RescaleSlope, data.RescaleIntercept = slope, intercept
    with pytest.raises(NoHounsfield, match="the rescale slope is"):
        read_one(head_series.write(data, tmp_path / "slice.dcm"))


def test_a_rescale_that_forgets_the_offset_is_never_read_as_it_is(tmp_path):
    """The values are lowered with a remark, or refused with the offset; the tests of the gate cover which."""
    data = make_slice()
    data.RescaleIntercept = 0  # the stored values are 1024 above HU
    path = head_series.write(data, tmp_path / "slice.dcm")
    try:
        scan = read_one(path)
    except NoHounsfield as error:
        assert "1024 above" in error.message
    else:
        assert np.array_equal(scan.hu[0], TRUTH) and "1024 above" in scan.remarks[0].message


def test_mr_is_refused(tmp_path):
    with pytest.raises(NotCT, match="modality MR"):
        read_one(head_series.write(head_series.make_mr(make_slice()), tmp_path / "slice.dcm"))
    with pytest.raises(NotCT, match="modality MR"):
        read_one(get_testdata_file("MR_small.dcm"))


def test_a_multi_frame_object_without_places_is_refused_with_what_to_do(tmp_path):
    data = make_slice()
    data.NumberOfFrames = 2
    data.PixelData *= 2
    with pytest.raises(UnreadableFile, match="multi-frame object that does not say where") as caught:
        read_one(head_series.write(data, tmp_path / "slice.dcm"))
    assert "enhanced CT" in caught.value.remedy


def test_a_syntax_without_decoder_is_refused_by_name(tmp_path):
    data = pydicom.dcmread(head_series.write(make_slice(), tmp_path / "slice.dcm", "rle"))
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # a video
    data.PixelData = encapsulate([bytes(range(1, 200))])
    data.save_as(tmp_path / "slice.dcm")
    with pytest.raises(UnsupportedTransferSyntax, match=r"MPEG-4 AVC/H\.264") as caught:
        read_one(tmp_path / "slice.dcm")
    assert "gdcmconv" in caught.value.remedy


def test_compressed_pixels_that_nothing_explains_are_refused(tmp_path):
    data = pydicom.dcmread(head_series.write(make_slice(), tmp_path / "slice.dcm", "rle"))
    data.PixelData = encapsulate([bytes(range(1, 200))])
    del data.file_meta.TransferSyntaxUID
    data.save_as(tmp_path / "slice.dcm", implicit_vr=False, little_endian=True, enforce_file_format=False)
    with pytest.raises(UnsupportedTransferSyntax, match="does not say how"):
        read_one(tmp_path / "slice.dcm")


def make_stored_slice(values, bits, *, high_bit=None, signed=False, intercept=-1024.0, allocated=16):
    """Make a slice of given stored words, as a manufacturer's software might write them."""
    data = make_slice(intercept=intercept)
    data.BitsAllocated, data.BitsStored, data.HighBit = allocated, bits, bits - 1 if high_bit is None else high_bit
    data.PixelRepresentation = int(signed)
    data.PixelData = values.astype("<u2").tobytes()
    return data


STORED = (TRUTH + 1024).astype(np.uint16)


def test_pixels_at_the_upper_end_of_their_words(tmp_path):
    data = make_stored_slice(STORED << 4, 12, high_bit=15)
    assert np.array_equal(read_one(head_series.write(data, tmp_path / "slice.dcm")).hu[0], TRUTH)


def test_a_high_bit_that_lies_moves_nothing(tmp_path):
    data = make_stored_slice(STORED | 1, 12, high_bit=15)
    assert np.array_equal(
        read_one(head_series.write(data, tmp_path / "slice.dcm")).hu[0], (STORED | 1).astype(int) - 1024
    )


@pytest.mark.parametrize("signed", [False, True])
def test_an_overlay_in_the_unused_bits_is_no_density(tmp_path, signed):
    values = (TRUTH.astype(np.int32) & 0xFFF).astype(np.uint16) if signed else STORED
    values = values.copy()
    values[40:60] |= 0x8000
    data = make_stored_slice(values, 12, signed=signed, intercept=0.0 if signed else -1024.0)
    data.add_new((0x6000, 0x0010), "US", data.Rows)
    data.add_new((0x6000, 0x0011), "US", data.Columns)
    data.add_new((0x6000, 0x0100), "US", 16)
    data.add_new((0x6000, 0x0102), "US", 15)
    assert np.array_equal(read_one(head_series.write(data, tmp_path / "slice.dcm")).hu[0], TRUTH)


def test_a_sign_that_is_not_extended_is_a_sign(tmp_path):
    """Twelve bits in two's complement, the upper four zero: the standard does not define them."""
    data = make_stored_slice((TRUTH.astype(np.int32) & 0xFFF).astype(np.uint16), 12, signed=True, intercept=0.0)
    assert np.array_equal(read_one(head_series.write(data, tmp_path / "slice.dcm")).hu[0], TRUTH)


@pytest.mark.parametrize("bits", [12, 16])
def test_padding_without_a_tag_is_air_and_no_bone(tmp_path, bits):
    values = STORED.copy()
    values[:10] = 63536  # -2000, unsigned
    scan = read_one(head_series.write(make_stored_slice(values, bits), tmp_path / "slice.dcm"))
    assert (scan.hu[0, :10] == -1024).all() and np.array_equal(scan.hu[0, 10:], TRUTH[10:])


def test_padding_below_what_twelve_bits_hold(tmp_path):
    values = TRUTH.astype("<i2").copy()
    values[:10] = -3024
    data = make_stored_slice(values.view("<u2"), 12, signed=True, intercept=0.0)
    data.add_new("PixelPaddingValue", "SS", -3024)
    scan = read_one(head_series.write(data, tmp_path / "slice.dcm"))
    assert (scan.hu[0, :10] == -1024).all() and np.array_equal(scan.hu[0, 10:], TRUTH[10:])


def test_monochrome1_changes_the_display_and_no_hounsfield_unit(tmp_path):
    data = make_slice()
    data.PhotometricInterpretation = "MONOCHROME1"
    assert np.array_equal(read_one(head_series.write(data, tmp_path / "slice.dcm")).hu[0], TRUTH)


def test_a_rescale_to_another_quantity_is_refused(tmp_path):
    data = make_slice()
    data.RescaleType = "Z_EFF"
    with pytest.raises(NoHounsfield, match="Z_EFF"):
        read_one(head_series.write(data, tmp_path / "slice.dcm"))


def test_pydicoms_head_is_read_as_pydicom_reads_it():
    path = get_testdata_file("J2K_pixelrep_mismatch.dcm")  # a real head; its codestream and header disagree on the sign
    data = pydicom.dcmread(path)
    scan = read_one(path)
    inside = data.pixel_array > -1500
    truth = data.pixel_array * int(data.RescaleSlope) + int(data.RescaleIntercept)
    assert np.array_equal(scan.hu[0][inside], truth[inside])


def test_pydicoms_spine_is_no_head():
    with pytest.raises(NotHead):
        read_one(get_testdata_file("CT_small.dcm"))


def test_a_frame_smaller_than_the_header_says_is_refused_and_does_not_end_the_process(tmp_path):
    path = head_series.write(make_slice(), tmp_path / "slice.dcm", "jpeg-ls")
    data = pydicom.dcmread(path)
    data.Rows += 60
    data.save_as(path)
    with pytest.raises(UnreadableFile, match="180 x 160 of 1 samples, the header says 240 x 160"):
        read_one(path)


def test_a_frame_without_its_huffman_table_is_refused_and_does_not_end_the_process(tmp_path):
    path = head_series.write(make_slice(), tmp_path / "slice.dcm", "jpeg-lossless")
    path.write_bytes(path.read_bytes().replace(b"\xff\xc4", b"\x89\xc4", 1))
    with pytest.raises(UnreadableFile, match="do not begin as JPEG Lossless"):
        read_one(path)


@pytest.mark.parametrize("syntax", ["jpeg-ls", "jpeg-2000", "jpeg-lossless-sv1"])
@pytest.mark.parametrize("padding", [b"\xff", b"\xff\xff\xff", b"\0\xff"])
def test_a_code_stream_padded_with_ff_is_read_to_the_same_pixels(tmp_path, syntax, padding):
    path = head_series.write(head_series.make_datasets()[19], tmp_path / "slice.dcm", syntax)
    expected = read_one(path).hu
    data = pydicom.dcmread(path)
    [frame] = generate_frames(data.PixelData, number_of_frames=1)
    stream = frame.rstrip(b"\0") + padding
    head_series.write_encapsulated(path, [stream], data.file_meta.TransferSyntaxUID)
    assert np.array_equal(read_one(path).hu, expected)


def test_wg04_files_padded_with_ff_are_read():
    for name in ("CT2_J2KR", "CT2_JLSN", "head_j2k_padded_ff.dcm"):
        path = find_case(f"06_codestream_padded_with_ff/{name}")
        assert np.array_equal(read_one(path).hu[0], SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))[0])


def test_a_header_of_fill_bytes_takes_no_time():
    began = time.process_time()
    assert codestream.parse_header(b"\xff\xd8" + bytes([0xFF]) * 60_000_000) is None
    assert time.process_time() - began < 0.5 * measure_slowdown()


def write_with_intercepts(folder, intercepts):
    """Write the head with one intercept for each slice in the header, the stored values always for -1024."""
    slices = head_series.make_datasets(Geometry(z_mm=tuple(np.arange(-48.0, 60.0, 6.0))))
    for data, intercept in zip(slices, intercepts, strict=True):
        data.RescaleIntercept = intercept
    return head_series.write_series(folder, slices)


@pytest.mark.parametrize("wrong", [(5, 6, 7, 8), (0,), (0, 17), (3, 9, 10)])
@pytest.mark.parametrize("intercept", [0, -24])
def test_slices_that_lost_their_intercept_are_set_to_the_scale_of_the_others(tmp_path, wrong, intercept):
    expected = read_one(write_with_intercepts(tmp_path / "right", [-1024] * 18)).hu
    intercepts = [intercept if index in wrong else -1024 for index in range(18)]
    scan = read_one(write_with_intercepts(tmp_path / "wrong", intercepts))
    assert np.array_equal(scan.hu, expected)
    [remark] = [remark for remark in scan.remarks if remark.code == "hounsfield-offset"]
    assert remark.severity == "repaired" and remark.slices == list(wrong)


@pytest.mark.parametrize(("intercept", "offset"), [(-200, 824), (-2048, -1024)])
def test_slices_off_by_another_amount_are_refused(tmp_path, intercept, offset):
    intercepts = [intercept if index in (5, 6) else -1024 for index in range(18)]
    with pytest.raises(NoHounsfield, match=f"slice 6 is about {offset} HU off"):
        read_one(write_with_intercepts(tmp_path, intercepts))
