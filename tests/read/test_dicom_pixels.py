"""Hounsfield units from every way of storing them."""

import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file

import synth
from strokeseg.errors import NoHounsfield, NotCT, NotHead, UnreadableFile, UnsupportedTransferSyntax
from strokeseg.read import read_one
from synth import Geometry

GEOMETRY = Geometry()
TRUTH = GEOMETRY.plane_hu(9.0)  # through the middle of the bleed


def one(**options):
    return synth.ct_dataset(TRUTH, GEOMETRY.position(9.0), GEOMETRY, **options)


@pytest.mark.parametrize("syntax", ["explicit", "implicit", "rle", "no-preamble", "no-meta", *synth.GDCM_SYNTAXES])
def test_every_transfer_syntax_gives_the_same_hounsfield_units(tmp_path, syntax):
    scan = read_one(synth.write(one(), tmp_path / "slice.dcm", syntax))
    assert np.array_equal(scan.hu[0], TRUTH)


@pytest.mark.parametrize("syntax", ["rle", "jpeg-ls", "jpeg-lossless"])
def test_signed_pixels_survive_compression(tmp_path, syntax):
    scan = read_one(synth.write(one(signed=True, intercept=0.0), tmp_path / "slice.dcm", syntax))
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
    scan = read_one(synth.write(one(**options), tmp_path / "slice.dcm"))
    assert np.abs(scan.hu[0].astype(int) - TRUTH).max() <= (1 if options["intercept"] == -1024.5 else 0)


def test_each_slice_has_its_own_rescale(tmp_path):
    slices = [
        synth.ct_dataset(GEOMETRY.plane_hu(z), GEOMETRY.position(z), GEOMETRY, instance=n, intercept=-1000.0 - 8 * n)
        for n, z in enumerate(GEOMETRY.z_mm)
    ]
    scan = read_one(synth.write_series(tmp_path, slices))
    assert all(np.array_equal(plane, GEOMETRY.plane_hu(z)) for plane, z in zip(scan.hu, GEOMETRY.z_mm, strict=True))


def padded(signed, intercept, stored, tag, vr):
    data = one(signed=signed, intercept=intercept)
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
    scan = read_one(synth.write(padded(*case), tmp_path / "slice.dcm"))
    assert (scan.hu[0, :10] == -1024).all() and np.array_equal(scan.hu[0, 10:], TRUTH[10:])


def test_a_padding_range_becomes_air(tmp_path):
    data = padded(True, 0.0, -1800, -2000, "SS")
    data.add_new("PixelPaddingRangeLimit", "SS", -1500)
    assert (read_one(synth.write(data, tmp_path / "slice.dcm")).hu[0, :10] == -1024).all()


def test_a_padding_value_inside_tissue_tears_no_hole(tmp_path):
    data = one(signed=True, intercept=0.0)
    data.add_new("PixelPaddingValue", "SS", 35)
    assert np.array_equal(read_one(synth.write(data, tmp_path / "slice.dcm")).hu[0], TRUTH)


@pytest.mark.parametrize("missing", [("RescaleSlope",), ("RescaleIntercept",), ("RescaleSlope", "RescaleIntercept")])
def test_no_rescale_is_refused(tmp_path, missing):
    data = one()
    for keyword in missing:
        delattr(data, keyword)
    with pytest.raises(NoHounsfield, match="no rescale"):
        read_one(synth.write(data, tmp_path / "slice.dcm"))


@pytest.mark.parametrize(("slope", "intercept"), [(0.0, -1024.0), (1.0, 1e9)])
def test_a_rescale_that_cannot_be_is_refused(tmp_path, slope, intercept):
    data = one()
    data.RescaleSlope, data.RescaleIntercept = slope, intercept
    with pytest.raises(NoHounsfield, match="the rescale slope is"):
        read_one(synth.write(data, tmp_path / "slice.dcm"))


def test_a_rescale_that_forgets_the_offset_is_refused_with_the_number(tmp_path):
    data = one()
    data.RescaleIntercept = 0  # the stored values are 1024 above HU
    with pytest.raises(NoHounsfield, match="1024 above") as caught:
        read_one(synth.write(data, tmp_path / "slice.dcm"))
    assert "-1024" in caught.value.remedy


def test_mr_is_refused(tmp_path):
    with pytest.raises(NotCT, match="modality MR"):
        read_one(synth.write(synth.as_mr(one()), tmp_path / "slice.dcm"))
    with pytest.raises(NotCT, match="modality MR"):
        read_one(get_testdata_file("MR_small.dcm"))


def test_a_multi_frame_object_is_refused_with_what_to_do(tmp_path):
    data = one()
    data.NumberOfFrames = 2
    with pytest.raises(UnreadableFile, match="multi-frame") as caught:
        read_one(synth.write(data, tmp_path / "slice.dcm"))
    assert "single frames" in caught.value.remedy


def test_a_syntax_without_decoder_is_refused_by_name(tmp_path):
    path = synth.write(one(), tmp_path / "slice.dcm", "jpeg-2000")
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.4.90", b"1.2.840.10008.1.2.4.57"[:-2] + b"51"))
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.201"  # HTJ2K: no permissive decoder
    data.save_as(path)
    with pytest.raises(UnsupportedTransferSyntax, match="High-Throughput JPEG 2000") as caught:
        read_one(path)
    assert "gdcmconv" in caught.value.remedy


def test_compressed_pixels_without_a_syntax_are_refused(tmp_path):
    path = synth.write(one(), tmp_path / "slice.dcm", "rle")
    data = pydicom.dcmread(path)
    del data.file_meta.TransferSyntaxUID
    data.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
    with pytest.raises(UnsupportedTransferSyntax, match="does not say how"):
        read_one(path)


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
    path = synth.write(one(), tmp_path / "slice.dcm", "jpeg-ls")
    data = pydicom.dcmread(path)
    data.Rows += 60
    data.save_as(path)
    with pytest.raises(UnreadableFile, match="180 x 160 of 1 samples, the header says 240 x 160"):
        read_one(path)


def test_a_frame_without_its_huffman_table_is_refused_and_does_not_end_the_process(tmp_path):
    path = synth.write(one(), tmp_path / "slice.dcm", "jpeg-lossless")
    path.write_bytes(path.read_bytes().replace(b"\xff\xc4", b"\x89\xc4", 1))
    with pytest.raises(UnreadableFile, match="do not begin as JPEG Lossless"):
        read_one(path)
