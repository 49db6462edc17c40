"""Compressed pixels, compared with dcmtk and gdcm, which the package does not use."""

import shutil
import struct
import subprocess
import tracemalloc

import numpy as np
import pydicom
import pytest
from pydicom.encaps import generate_frames

from phantoms import head_series
from phantoms.head_series import Geometry
from strokeseg.errors import UnreadableFile
from strokeseg.reading import read_one

GEOMETRY = Geometry()
NOISE = np.random.default_rng(5).normal(0, 6, GEOMETRY.shape).round().astype(np.int16)
TRUTH = GEOMETRY.plane_hu(9.0) + NOISE * (GEOMETRY.plane_hu(9.0) > -500)  # 0 HU and above, but for the air


def write_slice(path, bits=16):
    data = head_series.ct_dataset(TRUTH, GEOMETRY.position(9.0), GEOMETRY)
    data.BitsStored, data.HighBit = bits, bits - 1
    return head_series.write(data, path)


# Tool, options, the tool that decodes, whether nothing is lost
DCMTK = {
    "rle": ("dcmcrle", [], "dcmdrle", True),
    "jpeg-lossless": ("dcmcjpeg", ["+el"], "dcmdjpeg", True),
    "jpeg-lossless-sv1": ("dcmcjpeg", ["+e1"], "dcmdjpeg", True),
    "jpeg-baseline-8": ("dcmcjpeg", ["+eb", "+un"], "dcmdjpeg", False),
    "jpeg-extended-12": ("dcmcjpeg", ["+ee", "+un", "+q", "98"], "dcmdjpeg", False),
    "jpeg-ls": ("dcmcjpls", ["+el"], "dcmdjpls", True),
    "jpeg-ls-near": ("dcmcjpls", ["+en", "+md", "2"], "dcmdjpls", False),
    "fragments": ("dcmcjpls", ["+el", "+fs", "4"], "dcmdjpls", True),
    "no-offset-table": ("dcmcjpls", ["+el", "-ot"], "dcmdjpls", True),
}


@pytest.mark.parametrize("name", DCMTK)
def test_what_dcmtk_encodes_is_read_as_dcmtk_decodes_it(tmp_path, name):
    encoder, options, decoder, lossless = DCMTK[name]
    if shutil.which(encoder) is None:
        pytest.skip("dcmtk is not installed (requirements/debian.txt)")
    source = write_slice(tmp_path / "native.dcm", 12)
    subprocess.run([encoder, *options, source, tmp_path / "packed.dcm"], check=True, capture_output=True)
    subprocess.run([decoder, tmp_path / "packed.dcm", tmp_path / "decoded.dcm"], check=True, capture_output=True)
    decoded = pydicom.dcmread(tmp_path / "decoded.dcm")
    truth = decoded.pixel_array * float(decoded.RescaleSlope) + float(decoded.RescaleIntercept)
    if not pydicom.dcmread(tmp_path / "packed.dcm").file_meta.TransferSyntaxUID.is_encapsulated:
        pytest.fail("dcmtk left the pixels as they were")
    scan = read_one(tmp_path / "packed.dcm")
    # Two decoders of lossy JPEG may round a pixel differently.
    assert np.abs(scan.hu[0] - truth).max() <= (0 if lossless or "ls" in name else float(decoded.RescaleSlope) * 1.01)
    if lossless:
        assert np.array_equal(scan.hu[0], TRUTH)


@pytest.mark.parametrize(("rate", "most"), [(None, 0), (75, 1)])
def test_jpeg_2000_is_read_as_gdcm_decodes_it(tmp_path, rate, most):
    import gdcm
    import imagecodecs

    path = write_slice(tmp_path / "slice.dcm")
    stored = (TRUTH + 1024).astype(np.uint16)
    lossy = {"level": rate, "reversible": False} if rate else {"level": 0, "reversible": True}
    frame = bytes(imagecodecs.jpeg2k_encode(stored, codecformat="j2k", **lossy))
    head_series.write_encapsulated(path, [frame], f"1.2.840.10008.1.2.4.9{1 if rate else 0}")
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    decoded = np.frombuffer(reader.GetImage().GetBuffer().encode("utf-8", errors="surrogateescape"), "<u2")
    scan = read_one(path)
    assert np.abs(scan.hu[0] + 1024 - decoded.reshape(TRUTH.shape)).max() <= most
    assert rate or np.array_equal(scan.hu[0], TRUTH)


def test_high_throughput_jpeg_2000(tmp_path):
    """Encoded by OpenJPH, decoded by OpenJPEG."""
    data = head_series.ct_dataset(TRUTH, GEOMETRY.position(9.0), GEOMETRY)
    assert np.array_equal(read_one(head_series.write(data, tmp_path / "slice.dcm", "htj2k")).hu[0], TRUTH)


MISLABELLED = {
    "jpeg-ls": "1.2.840.10008.1.2.1",
    "jpeg-2000": "1.2.840.10008.1.2.1",
    "rle": "1.2.840.10008.1.2.1",
    "jpeg-lossless": "1.2.840.10008.1.2.4.90",
    "htj2k": "1.2.840.10008.1.2.4.80",
}


@pytest.mark.parametrize("syntax", MISLABELLED)
def test_a_wrong_label_of_compressed_pixels_is_seen_through(tmp_path, syntax):
    data = head_series.ct_dataset(TRUTH, GEOMETRY.position(9.0), GEOMETRY)
    path = head_series.write(data, tmp_path / "slice.dcm", syntax)
    data = pydicom.dcmread(path)
    old, new = data.file_meta.TransferSyntaxUID, MISLABELLED[syntax]
    raw = path.read_bytes()
    length = len(old) + len(old) % 2
    assert raw.count(old.encode()) == 1 and len(new) <= length
    path.write_bytes(raw.replace(old.encode().ljust(length, b"\0"), new.encode().ljust(length, b"\0")))
    assert np.array_equal(read_one(path).hu[0], TRUTH)


def test_uncompressed_pixels_labelled_as_compressed_are_read(tmp_path):
    path = write_slice(tmp_path / "slice.dcm")
    raw = path.read_bytes()
    data = pydicom.dcmread(path)
    data.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.70"
    data.file_meta.FileMetaInformationGroupLength = 0
    start = raw.index(b"\x08\x00\x08\x00")
    with open(path, "wb") as stream:
        stream.write(b"\0" * 128 + b"DICM")
        pydicom.filewriter.write_file_meta_info(stream, data.file_meta)
        stream.write(raw[start:])
    assert np.array_equal(read_one(path).hu[0], TRUTH)


@pytest.mark.parametrize("missing", ["meta", "syntax"])
def test_compressed_pixels_without_a_label_are_read(tmp_path, missing):
    data = head_series.ct_dataset(TRUTH, GEOMETRY.position(9.0), GEOMETRY)
    path = head_series.write(data, tmp_path / "slice.dcm", "jpeg-ls")
    data = pydicom.dcmread(path)
    if missing == "syntax":
        del data.file_meta.TransferSyntaxUID
        data.save_as(path, implicit_vr=False, little_endian=True, enforce_file_format=False)
    else:
        path.write_bytes(path.read_bytes()[path.read_bytes().index(b"\x08\x00\x08\x00") :])
    assert np.array_equal(read_one(path).hu[0], TRUTH)


@pytest.mark.parametrize("syntax", ["jpeg-ls", "jpeg-lossless", "jpeg-2000", "htj2k", "rle"])
def test_a_code_stream_that_breaks_off_is_refused_and_no_grey_is_filled_in(tmp_path, syntax):
    data = head_series.ct_dataset(TRUTH, GEOMETRY.position(9.0), GEOMETRY)
    path = head_series.write(data, tmp_path / "slice.dcm", syntax)
    data = pydicom.dcmread(path)
    [frame] = generate_frames(data.PixelData, number_of_frames=1)
    head_series.write_encapsulated(path, [frame[: len(frame) * 2 // 3]], data.file_meta.TransferSyntaxUID)
    with pytest.raises(UnreadableFile, match="cut off"):
        read_one(path)


def make_jp2(stored, before=b""):
    """Encode within boxes; ``before`` is the content of a box in front of the code stream."""
    import imagecodecs

    data = bytes(imagecodecs.jpeg2k_encode(stored, level=0, codecformat="jp2", reversible=True))
    start = data.index(b"jp2c") - 4
    return data[:start] + (8 + len(before)).to_bytes(4, "big") + b"free" + before + data[start:]


def test_a_code_stream_in_boxes_is_read_by_its_own_form_and_no_box_hides_another(tmp_path):
    stored = (TRUTH + 1024).astype(np.uint16)
    path = head_series.write_encapsulated(
        write_slice(tmp_path / "slice.dcm"), [make_jp2(stored)], "1.2.840.10008.1.2.4.90"
    )
    assert np.array_equal(read_one(path).hu[0], TRUTH)
    honest = make_jp2(stored)
    decoy = honest[honest.index(b"\xff\x4f\xff\x51") :][:60]  # of the form that the header says
    head_series.write_encapsulated(path, [make_jp2(np.tile(stored, (2, 3)), decoy)], "1.2.840.10008.1.2.4.90")
    with pytest.raises(UnreadableFile, match="are 360 x 480 of 1 samples"):
        read_one(path)
    head_series.write_encapsulated(path, [honest.replace(b"jp2c", b"free")], "1.2.840.10008.1.2.4.90")
    with pytest.raises(UnreadableFile, match="do not begin as JPEG 2000"):
        read_one(path)


def test_run_lengths_of_more_than_a_frame_claim_no_memory(tmp_path):
    path = head_series.write(
        head_series.ct_dataset(TRUTH, GEOMETRY.position(9.0), GEOMETRY), tmp_path / "slice.dcm", "rle"
    )
    head = struct.pack("<16I", 2, 64, 64 + 2_000_000, *[0] * 13)
    head_series.write_encapsulated(path, [head + b"\x81\0" * 2_000_000], "1.2.840.10008.1.2.5")
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableFile, match="damaged"):
            read_one(path)
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20  # 244 MiB unpacked
    finally:
        tracemalloc.stop()
