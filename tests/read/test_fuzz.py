"""Damaged files end in a scan or in an error of ours: nothing else is raised, printed or hung on."""

import time
import zipfile
from zlib import crc32

import nibabel
import numpy as np
import pytest
from PIL import Image

import synth
from strokeseg.errors import StrokesegError
from strokeseg.read import read

CODESTREAM = ("Corrupt JPEG", "Bogus Huffman", "Invalid", "Unsupported", "Tile part", "Stream ", "Expected", "Unknown")

HU = synth.Geometry(shape=(90, 80), spacing_mm=(2.2, 2.1)).plane_hu(9.0)


def dicom(folder, syntax="explicit"):
    geometry = synth.Geometry(shape=(90, 80), spacing_mm=(2.2, 2.1))
    return synth.write(synth.ct_dataset(HU, geometry.position(9.0), geometry), folder / "slice.dcm", syntax)


def nifti(folder, ending=".nii"):
    path = folder / f"head{ending}"
    nibabel.Nifti1Image(HU.T[..., None], np.diag([-2.1, -2.2, 5, 1])).to_filename(path)
    return path


def picture(folder, ending="png"):
    path = folder / f"slice.{ending}"
    Image.fromarray(np.clip(HU * 3, 0, 255).astype(np.uint8)).save(path)
    return path


def zipped(folder):
    path = folder / "study.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(dicom(folder), "slice.dcm")
    (folder / "slice.dcm").unlink()
    return path


KINDS = {
    "explicit": dicom,
    "implicit": lambda folder: dicom(folder, "implicit"),
    "no-meta": lambda folder: dicom(folder, "no-meta"),
    "rle": lambda folder: dicom(folder, "rle"),
    "jpeg-ls": lambda folder: dicom(folder, "jpeg-ls"),
    "jpeg-lossless": lambda folder: dicom(folder, "jpeg-lossless"),
    "jpeg-2000": lambda folder: dicom(folder, "jpeg-2000"),
    "deflated": lambda folder: dicom(folder, "deflated"),
    "nii": nifti,
    "nii.gz": lambda folder: nifti(folder, ".nii.gz"),
    "zip": zipped,
    "png": picture,
    "jpg": lambda folder: picture(folder, "jpg"),
    "tif": lambda folder: picture(folder, "tif"),
    "webp": lambda folder: picture(folder, "webp"),
    "bmp": lambda folder: picture(folder, "bmp"),
}


def mutated(data, rng):
    """Flip bytes (mostly in the header), cut, repeat, or put zeros or 255 in."""
    data = bytearray(data)
    reach = len(data) if rng.random() < 0.4 else min(len(data), 1200)
    way = rng.integers(6)
    where = int(rng.integers(reach))
    if way == 0:
        return bytes(data[:where])
    if way == 1:
        return bytes(data[:where] + data[where + int(rng.integers(1, 64)) :])
    if way == 2:
        return bytes(data[:where] + data[where : where + 40] + data[where:])
    if way == 3:
        data[where : where + 8] = bytes([int(rng.choice([0, 255, 127, 128]))] * 8)
        return bytes(data[: len(data)])
    for index in rng.integers(reach, size=int(rng.integers(1, 12))):
        data[index] = int(rng.integers(256))
    return bytes(data)


def run(kind, folder, count, seed):
    path = KINDS[kind](folder)
    whole = path.read_bytes()
    rng = np.random.default_rng([seed, crc32(kind.encode())])
    outcomes = {}
    for number in range(count):
        path.write_bytes(mutated(whole, rng))
        start = time.perf_counter()
        try:
            read(path)
            outcome = "read"
        except StrokesegError as error:
            assert error.message and error.remedy and "SECRET" not in str(error), (kind, seed, number)
            outcome = error.code
        except BaseException as error:
            raise AssertionError(f"mutation {number} of {kind} (seed {seed}) ended in {error!r}") from error
        assert time.perf_counter() - start < 5, (kind, seed, number)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    return outcomes


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_ends_in_a_scan_or_in_an_error_of_ours(tmp_path, kind, capfd, recwarn, caplog):
    KINDS[kind](tmp_path)
    capfd.readouterr(), recwarn.clear(), caplog.clear()
    outcomes = run(kind, tmp_path, 40, seed=0)
    assert "read" in outcomes or kind == "nii.gz"  # mutations both hurt and spare, but for a checksum
    assert "unreadable" in outcomes and not recwarn.list and not caplog.records
    printed = capfd.readouterr()
    # The C libraries inside gdcm write a line of their own about damaged codestreams; nothing else may be printed.
    lines = [line for line in printed.err.splitlines() if not line.startswith(CODESTREAM)]
    assert printed.out == "" and not lines


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files_end_in_a_scan_or_in_an_error_of_ours(tmp_path, kind):
    run(kind, tmp_path, 250, seed=1)
