"""Fuzz `read` with damaged files of every kind: each must end in a scan or a StrokesegError, in time and memory.

Whole inputs of the wrong kind are read too: wrong scales, series with foreign slices, bombs, pictures of anything.
`make fuzz` reads 20,000 in all and prints the outcomes; `tests/reading/test_fuzz.py` reads some in `make test`. Every
input follows from (seed, kind, number). To repeat one in tests/: `python -m stress.fuzz KIND NUMBER SEED`.
"""

import faulthandler
import functools
import gzip
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import nibabel
import numpy as np
import pydicom
from PIL import Image, ImageDraw

from phantoms import head_series
from strokeseg.errors import StrokesegError
from strokeseg.reading import read

TESTS = Path(__file__).parents[1]
MAX_S = 5.0  # processor time; on an idle machine no file took more than a second
MAX_MIB = 1024
MAX_BOMB_MIB, MAX_BOMB_S = 1430, 20.0  # 1.5 GB; what is just within the limits is read
HANG_S = 30.0  # wall time after which the reading process is ended
MAX_FAULTS = 20  # per kind; then the kind is left
ADDRESS_LIMIT_MIB = 4096  # address space beyond that of the process at its start, whether used or not
SMALL = head_series.Geometry(shape=(90, 80), spacing_mm=(2.2, 2.1), z_mm=(3.0, 6.0, 9.0, 12.0))
HU = SMALL.plane_hu(9.0)


def write_dicom(folder, syntax="explicit"):
    return head_series.write(head_series.ct_dataset(HU, SMALL.position(9.0), SMALL), folder / "slice.dcm", syntax)


def write_enhanced(folder, codec=None):
    slices = head_series.make_datasets(SMALL)
    path = head_series.write(head_series.make_enhanced(slices, shared=False), folder / "slice.dcm")
    if codec:
        import imagecodecs

        frames = [bytes(getattr(imagecodecs, codec)(item.pixel_array)) for item in slices]
        head_series.write_encapsulated(path, frames, "1.2.840.10008.1.2.4.80", fragments=2)
    return path


def write_jpeg(folder, bits):
    import imagecodecs

    path = write_dicom(folder)
    data = pydicom.dcmread(path)
    grey = np.clip((HU + 100) // 2, 0, 255).astype(np.uint8 if bits == 8 else np.uint16)
    data.BitsAllocated, data.BitsStored, data.HighBit = (8 if bits == 8 else 16), bits, bits - 1
    data.RescaleSlope, data.RescaleIntercept = 2, -100
    data.PixelData = grey.tobytes()
    data["PixelData"].VR = "OW"
    data.save_as(path)
    frame = bytes(imagecodecs.jpeg8_encode(grey, 95, bitspersample=bits))
    return head_series.write_encapsulated(path, [frame], f"1.2.840.10008.1.2.4.{50 if bits == 8 else 51}")


def write_nifti(folder, ending=".nii"):
    path = folder / f"head{ending}"
    nibabel.Nifti1Image(HU.T[..., None], np.diag([-2.1, -2.2, 5, 1])).to_filename(path)
    return path


def write_volume(folder, ending):
    import SimpleITK

    image = SimpleITK.GetImageFromArray(HU[None])
    image.SetSpacing((2.1, 2.2, 5.0))
    path = folder / f"head.{ending}"
    SimpleITK.WriteImage(image, str(path))
    return path


def write_tiff_pages(folder):
    path = folder / "slices.tif"
    first, *rest = [Image.fromarray(np.clip(SMALL.plane_hu(z) * 3, 0, 255).astype(np.uint8)) for z in SMALL.z_mm]
    first.save(path, save_all=True, append_images=rest)
    return path


def write_picture(folder, ending="png"):
    path = folder / f"slice.{ending}"
    Image.fromarray(np.clip(HU * 3, 0, 255).astype(np.uint8)).save(path)
    return path


def write_zip(folder, method=zipfile.ZIP_DEFLATED):
    data = write_dicom(folder / "in").read_bytes()
    path = folder / "study.zip"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(zipfile.ZipInfo("slice.dcm"), data, method)  # without the time of now
    return path


def write_tar(folder, packing=""):
    data = write_dicom(folder / "in").read_bytes()
    path = folder / "study.tar"
    # gzip would write the time of now.
    target = gzip.GzipFile(path, "wb", mtime=0) if packing == "gz" else None
    with tarfile.open(path, "w:" if target else f"w:{packing}", fileobj=target) as archive:
        info = tarfile.TarInfo("study/" + "a" * 120)  # longer than the record has place for
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    if target:
        target.close()
    return path


DICOM = {
    "explicit": write_dicom,
    "implicit": lambda folder: write_dicom(folder, "implicit"),
    "no-preamble": lambda folder: write_dicom(folder, "no-preamble"),
    "no-meta": lambda folder: write_dicom(folder, "no-meta"),
    "big-endian": lambda folder: write_dicom(folder, "big-endian"),
    "deflated": lambda folder: write_dicom(folder, "deflated"),
    "rle": lambda folder: write_dicom(folder, "rle"),
    "jpeg-baseline": lambda folder: write_jpeg(folder, 8),
    "jpeg-extended": lambda folder: write_jpeg(folder, 12),
    "jpeg-lossless": lambda folder: write_dicom(folder, "jpeg-lossless"),
    "jpeg-lossless-sv1": lambda folder: write_dicom(folder, "jpeg-lossless-sv1"),
    "jpeg-ls": lambda folder: write_dicom(folder, "jpeg-ls"),
    "jpeg-2000": lambda folder: write_dicom(folder, "jpeg-2000"),
    "htj2k": lambda folder: write_dicom(folder, "htj2k"),
    "enhanced": write_enhanced,
    "enhanced-jpeg-ls": lambda folder: write_enhanced(folder, "jpegls_encode"),
}
KINDS = {
    **DICOM,
    "zip": write_zip,
    "zip-stored": lambda folder: write_zip(folder, zipfile.ZIP_STORED),
    "tar": write_tar,
    "tar.gz": lambda folder: write_tar(folder, "gz"),
    "tar.xz": lambda folder: write_tar(folder, "xz"),
    "nii": write_nifti,
    "nii.gz": lambda folder: write_nifti(folder, ".nii.gz"),
    "nrrd": lambda folder: write_volume(folder, "nrrd"),
    "nhdr": lambda folder: write_volume(folder, "nhdr"),
    "mha": lambda folder: write_volume(folder, "mha"),
    "png": write_picture,
    "jpg": lambda folder: write_picture(folder, "jpg"),
    "tif": lambda folder: write_picture(folder, "tif"),
    "tif-pages": write_tiff_pages,
    "webp": lambda folder: write_picture(folder, "webp"),
    "bmp": lambda folder: write_picture(folder, "bmp"),
}


def make_wrong_scale(folder, rng):
    """Write a noisy head in values that are mostly no Hounsfield units."""
    hu = np.stack([SMALL.plane_hu(z) for z in (-20.0, -10.0, 0.0, 10.0, 20.0)]) + rng.normal(0, 6, (5, 90, 80))
    if rng.random() < 0.5:
        low, width = rng.uniform(-1100, 100), 10 ** rng.uniform(1, 4)
        hu = np.clip((hu - low) / width, 0, 1) * rng.choice([1, 80, 100, 255, 4095, 32767])
    if rng.random() < 0.6:
        hu = hu * rng.choice([-1, 0, 0.01, 0.5, 0.9, 1, 1.1, 2, 30]) + rng.choice([0, rng.integers(-3000, 3000)])
    if rng.random() < 0.3:
        hu = np.clip(hu, *sorted(rng.uniform(-1100, 3000, 2)))
    if rng.random() < 0.2:
        hu[rng.random(hu.shape) < 0.2] = rng.choice([-2000, -32768, 0, 32767, np.nan, np.inf])
    dtype = rng.choice(["i2", "f4", "u1", "i4"])
    finite = np.nan_to_num(hu, posinf=0) if dtype != "f4" else hu
    limits = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype != "f4" else (-np.inf, np.inf)
    values = np.clip(finite, *limits).astype(dtype)
    path = folder / rng.choice(["head.nii", "head.nii.gz", "head.img"])
    image_class = nibabel.Nifti1Pair if path.suffix == ".img" else nibabel.Nifti1Image
    image_class(values.T, np.diag([-2.1, -2.2, 10, 1])).to_filename(path)
    return folder


def make_foreign_slices(folder, rng):
    """Write a series of which some slices differ in one or more attributes."""
    z_mm = tuple(np.arange(-20.0, 30.0, 5.0))
    slices = head_series.make_datasets(SMALL.but(z_mm=z_mm))
    changes = {
        "PatientID": ["OTHER", "", "SECRET-ID "],
        "StudyInstanceUID": ["1.9"],
        "SeriesInstanceUID": ["1.2.4", ""],
        "AcquisitionNumber": [1, 2],
        "RescaleIntercept": [0, -1000, 100, 1e7],
        "RescaleSlope": [2, 0, -1],
        "PixelSpacing": [[1, 1], [0.1, 90]],
        "ImagePositionPatient": [[0, 0, 0], [-80, -90, 5000], [1e5, 0, 0]],
        "ImageOrientationPatient": [[1, 0, 0, 0, 0, -1], [0, 1, 0, 1, 0, 0], [1, 0, 0, 0, 0.9, 0.436]],
        "SliceThickness": [0.1, 90],
        "Modality": ["OT", "MR", "SC"],
        "ImageType": [["DERIVED", "SECONDARY"], ["ORIGINAL", "PRIMARY", "LOCALIZER"]],
        "LossyImageCompression": ["01", "SECRET"],
        "LossyImageCompressionRatio": [338.7, [3, 20], 0],
        "Rows": [45],
        "ContrastBolusAgent": ["SECRET"],
    }
    for index in rng.choice(len(slices), rng.integers(1, len(slices)), replace=False):
        for keyword in rng.choice(list(changes), rng.integers(1, 4), replace=False):
            value = changes[keyword][rng.integers(len(changes[keyword]))]
            setattr(slices[index], keyword, value)
        if rng.random() < 0.3:
            slices[index].PixelData = rng.integers(0, 4096, (90, 80), dtype=np.uint16).tobytes()
    kept = [data for data in slices if rng.random() < 0.95] or slices
    return head_series.write_series(folder / "series", kept, order=rng.permutation(len(kept)))


@functools.cache
def compress_zeros(mib, wbits):
    compressor = zlib.compressobj(9, wbits=wbits)
    return b"".join(compressor.compress(bytes(2**20)) for _ in range(mib)) + compressor.flush()


def make_bomb(folder, rng):
    """Write a small file that states or inflates to a large one."""
    sizes = [int(each) for each in 2 ** rng.integers(5, 14, 3)]
    mib = int(rng.choice([1, 16, 128]))
    kind = rng.choice(["nii.gz", "nrrd", "mha", "png", "zip"])
    path = folder / f"bomb.{kind}"
    if kind == "nii.gz":
        header = nibabel.Nifti1Header()
        header.set_data_shape(sizes)
        header.set_data_dtype(rng.choice(["u1", "i2", "f8"]))
        header["vox_offset"], header["magic"] = 352, b"n+1"
        path.write_bytes(gzip.compress(header.binaryblock + bytes(4), mtime=0) + compress_zeros(mib, 31))
    elif kind == "nrrd":
        head = f"NRRD0004\ntype: short\ndimension: 3\nsizes: {sizes[0]} {sizes[1]} {sizes[2]}\nendian: little\n"
        path.write_bytes(head.encode() + b"encoding: gzip\n\n" + compress_zeros(mib, 31))
    elif kind == "mha":
        head = (
            f"NDims = 3\nDimSize = {sizes[0]} {sizes[1]} {sizes[2]}\nElementType = MET_SHORT\nCompressedData = True\n"
        )
        path.write_bytes(head.encode() + b"ElementDataFile = LOCAL\n" + compress_zeros(mib, 15))
    else:
        data = io.BytesIO()
        Image.new(str(rng.choice(["L", "I;16", "RGB", "1"])), (sizes[0], sizes[1])).save(data, "PNG")
        path.write_bytes(data.getvalue())
        if kind == "zip":
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for number in range(int(rng.integers(1, 200))):
                    archive.writestr(zipfile.ZipInfo(f"{number}.png"), data.getvalue(), zipfile.ZIP_DEFLATED)
    return path


def make_pictures(folder, rng):
    """Write pictures of anything: heads through any window, noise, shapes, writing, in any mode, size and order."""
    columns, rows = (int(each) for each in rng.integers(1, 300, 2))
    for number in range(int(rng.integers(1, 5))):
        if rng.random() < 0.1:
            columns, rows = rows, columns
        image = Image.new("L", (columns, rows), int(rng.integers(256)))
        if rng.random() < 0.4:
            low, width = rng.uniform(-1100, 60), 10 ** rng.uniform(1, 3.5)
            grey = np.clip((SMALL.plane_hu(rng.uniform(-80, 80)) - low) / width, 0, 1) * 255
            image = Image.fromarray(grey.astype(np.uint8)).resize((columns, rows))
        draw = ImageDraw.Draw(image)
        for _ in range(int(rng.integers(6))):
            corners = np.sort(rng.integers(-20, 320, (2, 2)), axis=0).ravel().tolist()
            draw.ellipse(corners, fill=int(rng.integers(256)), outline=255)
            draw.text(corners[:2], "SECRET", fill=255)
        if rng.random() < 0.3:
            image = Image.fromarray(rng.integers(0, 256, (rows, columns), dtype=np.uint8))
        mode, ending = rng.choice(["L", "L", "RGB", "RGBA", "P", "1"]), rng.choice(["png", "png", "bmp", "tif", "webp"])
        image.convert("RGBA" if mode == "RGBA" and ending != "bmp" else "L" if mode == "RGBA" else str(mode)).save(
            folder / f"{number}.{ending}"
        )
    return folder


MADE = {
    "wrong-scale": make_wrong_scale,
    "foreign-slices": make_foreign_slices,
    "bomb": make_bomb,
    "pictures": make_pictures,
}
"""Kinds whose inputs are made whole, each for a number."""


def mutate(data, rng, tags=()):
    """Flip bytes (mostly in the header), cut, repeat, put zeros or 255 in, or lie about a tag's length or its kind.

    ``tags`` are places of a DICOM file's elements.
    """
    data = bytearray(data)
    reach = len(data) if rng.random() < 0.4 else min(len(data), 1200)
    way = rng.integers(8 if len(tags) else 6)
    where = int(rng.integers(reach))
    if way == 0:
        return bytes(data[:where])
    if way == 1:
        return bytes(data[:where] + data[where + int(rng.integers(1, 64)) :])
    if way == 2:
        return bytes(data[:where] + data[where : where + 40] + data[where:])
    if way == 3:
        data[where : where + 8] = bytes([int(rng.choice([0, 255, 127, 128]))] * 8)
        return bytes(data)
    if way >= 6:
        number = int(rng.integers(len(tags)))
        start, end = tags[number], (*tags, len(data))[number + 1]
        if way == 6:  # the whole element is gone
            return bytes(data[:start] + data[end:])
        data[start + 4 : start + 8] = rng.integers(256, size=4, dtype=np.uint8).tobytes()
        return bytes(data)
    for index in rng.integers(reach, size=int(rng.integers(1, 12))):
        data[index] = int(rng.integers(256))
    return bytes(data)


def find_tags(data):
    """Find where a little-endian file's elements begin, in order, by their tags."""
    try:
        found = pydicom.dcmread(io.BytesIO(data), force=True)
        place, places = 0, []
        for tag in sorted([*found.file_meta.keys(), *found.keys()]):
            place = data.find(tag.group.to_bytes(2, "little") + tag.elem.to_bytes(2, "little"), place)
            if place < 0:
                return places
            places.append(place)
        return places
    except Exception:
        return []


def prepare_kind(kind, folder):
    """Return a function that writes an input of this kind by a generator of numbers, and returns its path."""
    if kind in MADE:
        read(write_nifti(folder))  # warm: the clock is for the input, and not for what is imported

        def write(rng):
            shutil.rmtree(folder / "input", ignore_errors=True)
            (folder / "input").mkdir()
            return MADE[kind](folder / "input", rng)

        return write
    path = KINDS[kind](folder)
    whole = path.read_bytes()
    tags = find_tags(whole) if kind in DICOM else ()
    read(path)  # warm

    def write_mutation(rng):
        path.write_bytes(mutate(whole, rng, tags))
        return path

    return write_mutation


def read_mutations(kind, folder, count, seed, *, start=0, budget_s=float("inf"), hang_s=None):
    """Read mutations of one kind; gives how many ended how, and keeps that in the folder's ``state`` meanwhile.

    ``hang_s`` : the process ends where one file takes longer, in a decoder's own code too

    Raises
    ------
    AssertionError
        that names the mutation
    """
    write = prepare_kind(kind, folder)
    if hang_s:
        limit_addresses()
    outcomes, begin = Counter(), time.perf_counter()
    for number in range(start, start + count):
        if time.perf_counter() - begin > budget_s:
            break
        path = write(np.random.default_rng([seed, crc32(kind.encode()), number]))
        (folder / "state").write_text(json.dumps([number, outcomes]))
        if hang_s:
            faulthandler.dump_traceback_later(hang_s, exit=True)
        clock = time.process_time()
        try:
            read(path)
            outcome = "read"
        except StrokesegError as error:
            assert error.message and error.remedy and "SECRET" not in str(error), (kind, number, seed)
            outcome = error.code
        except BaseException as error:
            raise AssertionError(f"{kind} {number} {seed} ended in {error!r}") from error
        finally:
            faulthandler.cancel_dump_traceback_later()
        spent = time.process_time() - clock
        assert spent < (MAX_BOMB_S if kind in MADE else MAX_S), f"{kind} {number} {seed} took {spent:.1f} s"
        outcomes[outcome] += 1
    return outcomes


def limit_addresses():
    """Limit the address space of this process to ADDRESS_LIMIT_MIB beyond its present one."""
    if sys.platform.startswith("linux"):
        own = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (own + ADDRESS_LIMIT_MIB * 2**20, resource.RLIM_INFINITY))


def measure_peak_mib():
    """Return this process's own peak; ru_maxrss starts with that of its parent."""
    if sys.platform.startswith("linux"):
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) // 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 2**20


def run_worker(kind, folder, count, seed, start, budget_s, hang_s):
    outcomes = read_mutations(kind, Path(folder), count, seed, start=start, budget_s=budget_s, hang_s=hang_s)
    peak = measure_peak_mib()
    Path(folder, "done").write_text(json.dumps([outcomes, peak]))
    assert peak < (MAX_BOMB_MIB if kind in MADE else MAX_MIB), f"{kind} {seed}: {peak} MiB"


@dataclass
class Outcome:
    """Outcomes of the mutations of one kind: counts, peak memory, duration and faults."""

    kind: str
    outcomes: Counter = field(default_factory=Counter)
    peak_mib: int = 0
    duration_s: float = 0.0
    faults: list = field(default_factory=list)

    def __str__(self):
        counts = ", ".join(f"{code} {number}" for code, number in self.outcomes.most_common())
        line = (
            f"{self.kind:18} {self.outcomes.total():6} files {self.duration_s:6.1f} s {self.peak_mib:5} MiB   {counts}"
        )
        return "\n".join([line, *(f"  FAULT {fault}" for fault in self.faults)])


def run_in_process(kind, count, seed, *, budget_s=float("inf"), hang_s=HANG_S):
    """Read mutations of one kind in a subprocess; if a file ends it or hangs, another continues after that file."""
    outcome, begin, start = Outcome(kind), time.perf_counter(), 0
    while start < count and len(outcome.faults) < MAX_FAULTS:
        left_s = budget_s - (time.perf_counter() - begin)
        if left_s <= 0:
            break
        with tempfile.TemporaryDirectory() as folder:
            fault = _run_process(outcome, folder, count - start, seed, start, left_s, hang_s)
            if fault is None:
                break
            number, outcomes = _read_state(Path(folder, "state"), start)
        outcome.outcomes.update(outcomes)
        outcome.faults.append(f"{kind} {number} {seed}: {fault}")
        start = number + 1
    outcome.duration_s = time.perf_counter() - begin
    return outcome


def _run_process(outcome, folder, count, seed, start, left_s, hang_s):
    """Run a subprocess; return None if it finished, else how it ended."""
    call = f"fuzz.run_worker({outcome.kind!r}, {folder!r}, {count}, {seed}, {start}, float({str(left_s)!r}), {hang_s})"
    command = [sys.executable, "-c", f"import fuzz; {call}"]
    timeout_s = None if left_s == float("inf") else left_s + 2 * hang_s + 60
    try:
        completed = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            cwd=Path(__file__).parent,
            env=os.environ | {"PYTHONPATH": str(TESTS)},
        )
    except subprocess.TimeoutExpired:
        return "the process did not end"
    if Path(folder, "done").exists():
        outcomes, peak = json.loads(Path(folder, "done").read_text())
        outcome.outcomes.update(outcomes)
        outcome.peak_mib = max(outcome.peak_mib, peak)
        if completed.returncode:
            outcome.faults.append(completed.stderr.strip().splitlines()[-1])
        return None
    if "Timeout (" in completed.stderr:
        return f"hung for {hang_s:g} s"
    return f"ended with {completed.returncode}: {completed.stderr.strip()[-300:]}"


def _read_state(path, start):
    return json.loads(path.read_text()) if path.exists() and path.read_text() else (start, {})


def main(arguments):
    if len(arguments) == 3:  # one mutation, again
        with tempfile.TemporaryDirectory() as folder:
            print(read_mutations(arguments[0], Path(folder), 1, int(arguments[2]), start=int(arguments[1])))
        return 0
    total, seed = int(arguments[0]), int(arguments[1]) if len(arguments) > 1 else 2
    kinds = [*MADE, *KINDS]
    each = -(-total // len(kinds))
    print(f"{each} inputs of each of {len(kinds)} kinds, seed {seed}", flush=True)
    passed = True
    with ThreadPoolExecutor(2) as pool:
        for future in as_completed([pool.submit(run_in_process, kind, each, seed) for kind in kinds]):
            outcome = future.result()
            print(outcome, flush=True)
            passed = passed and not outcome.faults
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
