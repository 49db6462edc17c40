"""Fuzz `read` with damaged files of every kind: each must end in a scan or a StrokesegError, in time and memory.

`make fuzz` reads 10,000 of them and prints the outcomes; `tests/reading/test_fuzz.py` reads some in `make test`. Every
mutation follows from (seed, kind, number). To repeat one in tests/: `python -m stress.fuzz KIND NUMBER SEED`.
"""

import faulthandler
import gzip
import io
import json
import os
import resource
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from zlib import crc32

import nibabel
import numpy as np
import pydicom
from PIL import Image

from phantoms import head_series
from strokeseg.errors import StrokesegError
from strokeseg.reading import read

TESTS = Path(__file__).parents[1]
MAX_S = 5.0  # processor time; on an idle machine no file took more than a second
MAX_MIB = 1024
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


def read_mutations(kind, folder, count, seed, *, start=0, budget_s=float("inf"), hang_s=None):
    """Read mutations of one kind; gives how many ended how, and keeps that in the folder's ``state`` meanwhile.

    ``hang_s`` : the process ends where one file takes longer, in a decoder's own code too

    Raises
    ------
    AssertionError
        that names the mutation
    """
    path = KINDS[kind](folder)
    whole = path.read_bytes()
    tags = find_tags(whole) if kind in DICOM else ()
    read(path)  # warm: the clock is for the file, and not for what is imported
    if hang_s:
        limit_addresses()
    outcomes, begin = Counter(), time.perf_counter()
    for number in range(start, start + count):
        if time.perf_counter() - begin > budget_s:
            break
        path.write_bytes(mutate(whole, np.random.default_rng([seed, crc32(kind.encode()), number]), tags))
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
        assert spent < MAX_S, f"{kind} {number} {seed} took {spent:.1f} s"
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
    assert peak < MAX_MIB, f"{kind} {seed}: {peak} MiB"


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
    each = -(-total // len(KINDS))
    print(f"{each} mutations of each of {len(KINDS)} kinds, seed {seed}", flush=True)
    passed = True
    with ThreadPoolExecutor(2) as pool:
        for future in as_completed([pool.submit(run_in_process, kind, each, seed) for kind in KINDS]):
            outcome = future.result()
            print(outcome, flush=True)
            passed = passed and not outcome.faults
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
