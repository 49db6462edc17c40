"""Small files that would need gigabytes are refused with `too-large` before anything is inflated."""

import gzip
import io
import subprocess
import sys
import zipfile
import zlib

import nibabel
import numpy as np
import pytest
from PIL import Image

# Reads a file in a process that has 1.5 GB of memory at most, and prints the code of the refusal and the peak in MB.
PROGRAM = """
import re, sys
from pathlib import Path
from strokeseg.errors import InputError
from strokeseg.reading import read
try:
    read(sys.argv[1])
    code = "read"
except InputError as error:
    code = error.code
# Not ru_maxrss: it starts at the size of the process that started this one.
print(code, int(re.search(r"VmHWM: *\t* *([0-9]+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def write_picture_zip(path, mode):
    """Write black pictures of 4096 x 4096: a few hundred bytes each in a zip."""
    data = io.BytesIO()
    Image.new(mode, (4096, 4096)).save(data, "PNG")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(24):
            archive.writestr(f"{number}.png", data.getvalue())
    return path


def compress_zeros(count, wbits):
    compressor = zlib.compressobj(9, wbits=wbits)
    chunk = bytes(2**24)
    return b"".join(compressor.compress(chunk) for _ in range(count // 2**24)) + compressor.flush()


def make_nifti_header(shape):
    header = nibabel.Nifti1Header()
    header.set_data_shape(shape)
    header.set_data_dtype(np.int16)
    header["vox_offset"], header["magic"] = 352, b"n+1"
    return header.binaryblock + bytes(4)


def write_nifti(path, shape=(1024, 1024, 512), count=2**30):
    compressed = compress_zeros(count, 31)
    path.write_bytes(gzip.compress(make_nifti_header(shape)) + compressed)
    return path


def write_nrrd(path, count=2**30):
    head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: 1024 1024 {count // 2**21}\nencoding: gzip\nendian: little\n\n"
    path.write_bytes(head.encode() + compress_zeros(count, 31))
    return path


def write_metaimage(path, count=2**30):
    head = (
        f"NDims = 3\nDimSize = 1024 1024 {count // 2**21}\nElementType = MET_SHORT\nCompressedData = True\n"
        "ElementDataFile = LOCAL\n"
    )
    path.write_bytes(head.encode() + compress_zeros(count, 15))
    return path


BOMBS = {
    "pictures of 16 bits": lambda folder: write_picture_zip(folder / "bomb.zip", "I;16"),
    "pictures of 8 bits": lambda folder: write_picture_zip(folder / "bomb.zip", "L"),
    "NIfTI": lambda folder: write_nifti(folder / "bomb.nii.gz"),
    "NRRD": lambda folder: write_nrrd(folder / "bomb.nrrd"),
    "MetaImage": lambda folder: write_metaimage(folder / "bomb.mha"),
}


def measure_reading(path):
    run = subprocess.run([sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=True)
    code, peak_mb = run.stdout.split()
    return code, int(peak_mb)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_before_it_is_inflated(tmp_path, name):
    path = BOMBS[name](tmp_path)
    assert path.stat().st_size < 2**22
    code, peak_mb = measure_reading(path)
    assert code == "too-large"
    assert peak_mb < 400


@pytest.mark.slow
def test_what_is_just_within_the_limits_takes_less_than_one_and_a_half_gigabytes(tmp_path):
    for path in (
        write_nifti(tmp_path / "head.nii.gz", (1024, 1024, 319), 42 * 2**24),
        write_nrrd(tmp_path / "head.nrrd", 39 * 2**24),
    ):
        code, peak_mb = measure_reading(path)
        assert code == "no-hounsfield" and peak_mb < 1500


def test_a_compressed_nifti_is_read_to_its_checksum(tmp_path):
    """A cut or damaged end is refused, even though all voxels lie before it."""
    data = gzip.compress(make_nifti_header((8, 8, 8)) + bytes(1024))
    (tmp_path / "head.nii.gz").write_bytes(data[:-6] + b"\1\2" + data[-4:])
    assert measure_reading(tmp_path / "head.nii.gz")[0] == "unreadable"


def test_a_tail_behind_the_voxels_takes_no_memory(tmp_path):
    path = write_nifti(tmp_path / "head.nii.gz", (64, 64, 8))
    code, peak_mb = measure_reading(path)
    assert code == "no-hounsfield" and peak_mb < 400
