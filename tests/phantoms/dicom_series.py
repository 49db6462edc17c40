"""DICOM series of many kinds, a result for each without a network, and independent validators of DICOM objects.

The true segmentation is computed frame by frame from the files' pixels with pydicom alone, independent of how strokeseg
rotates or sorts slices.
"""

from __future__ import annotations

import atexit
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.datadict import DicomDictionary, keyword_for_tag
from scipy import ndimage

from phantoms import head_series, results
from phantoms.head_series import Geometry
from strokeseg.outputs import dicom
from strokeseg.reading import read_one

Z = tuple(np.arange(-48.0, 63.0, 6.0))
SMALL = Geometry(z_mm=Z, shape=(91, 81), spacing_mm=(2.2, 2.1))  # 7371 pixels: no whole number of bytes a frame
STUDY = {
    "PatientName": "Müller^Zoë=山田^太郎",
    "PatientID": "P-4711",
    "PatientBirthDate": "19410317",
    "PatientSex": "F",
    "StudyInstanceUID": "1.3.6.1.4.1.90.1.77",
    "StudyDate": "20200101",
    "StudyTime": "120000",
    "StudyID": "77",
    "StudyDescription": "CT Schädel nativ",
    "AccessionNumber": "A-815",
    "ReferringPhysicianName": "House^Gregory",
    "FrameOfReferenceUID": "1.3.6.1.4.1.90.2.77",
}
SERIES = "1.3.6.1.4.1.90.3.77"


def make_slices(geometry=SMALL, **options):
    made = head_series.make_datasets(geometry, series=SERIES, **options)
    for data in made:
        data.SpecificCharacterSet = "ISO_IR 192"
        for keyword, value in STUDY.items():
            setattr(data, keyword, value)
    return made


def rotate_quarter(made):
    """Rotate the stored pixels by 90 degrees, with matching direction cosines."""
    for data in made:
        pixels, row_mm, column_mm = data.pixel_array, *data.PixelSpacing
        row, column = np.array(data.ImageOrientationPatient[:3]), np.array(data.ImageOrientationPatient[3:])
        # np.rot90 lays the last column into the first row; the old rows then run along the new columns.
        first = np.array(data.ImagePositionPatient) + row * column_mm * (pixels.shape[1] - 1)
        data.PixelData = np.ascontiguousarray(np.rot90(pixels)).tobytes()
        data.Rows, data.Columns = pixels.shape[1], pixels.shape[0]
        data.PixelSpacing = [column_mm, row_mm]
        data.ImageOrientationPatient = [f"{v:.8f}" for v in (*column, *(-row))]
        data.ImagePositionPatient = [f"{v:.6f}" for v in first]
    return made


def write_concatenation(made, folder):
    for number, part in enumerate(np.split(np.arange(len(made)), [5, 12]), start=1):
        data = head_series.make_enhanced([made[i] for i in part])
        data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"1.2.9.{number}"
        data.ConcatenationUID, data.SOPInstanceUIDOfConcatenationSource = "1.2.8", "1.2.9"
        data.InConcatenationNumber, data.InConcatenationTotalNumber = number, 3
        data.ConcatenationFrameOffsetNumber = int(part[0])
        head_series.write(data, folder / f"part{number}.dcm")


def shuffle(made):
    return [made[i] for i in np.random.default_rng(4).permutation(len(made))]


def _write_files(make, **options):
    return lambda folder: head_series.write_series(folder, make(), **options)


def _write_multiframe(make, **options):
    return lambda folder: head_series.write(head_series.make_enhanced(make(), **options), folder / "ct.dcm")


UNEVEN = SMALL.but(z_mm=(*np.arange(-48.0, 0.0, 8.0), *np.arange(0.0, 63.0, 5.0)))
GAP = SMALL.but(z_mm=tuple(z for z in Z if not 20 < z < 31))
KINDS = {
    "plain": _write_files(make_slices),
    "files in no order": _write_files(lambda: shuffle(make_slices())),
    "implicit": _write_files(make_slices, syntax="implicit"),
    "run lengths": _write_files(make_slices, syntax="rle"),
    "signed": _write_files(lambda: make_slices(signed=True, intercept=0.0)),
    "half steps": _write_files(lambda: make_slices(slope=0.5)),
    "tilted": _write_files(lambda: make_slices(SMALL.but(tilt_deg=18))),
    "tilted back": _write_files(lambda: make_slices(SMALL.but(tilt_deg=-23))),
    "uneven": _write_files(lambda: make_slices(UNEVEN)),
    "tilted and uneven": _write_files(lambda: make_slices(UNEVEN.but(tilt_deg=15))),
    "missing slices": _write_files(lambda: make_slices(GAP)),
    "rows to the right": _write_files(lambda: make_slices(SMALL.but(row_sign=-1))),
    "columns to the front": _write_files(lambda: make_slices(SMALL.but(column_sign=-1))),
    "face down": _write_files(lambda: make_slices(SMALL.but(row_sign=-1, column_sign=-1))),
    "quarter turn": _write_files(lambda: rotate_quarter(make_slices())),
    "quarter turn, mirrored": _write_files(lambda: rotate_quarter(make_slices(SMALL.but(row_sign=-1)))),
    "quarter turn, tilted": _write_files(lambda: rotate_quarter(make_slices(SMALL.but(tilt_deg=12)))),
    "one slice": _write_files(lambda: make_slices(SMALL.but(z_mm=(9.0,)))),
    "twice the same slice": _write_files(lambda: [*make_slices(), make_slices()[9]]),
    "enhanced": _write_multiframe(make_slices),
    "enhanced, in no order": _write_multiframe(lambda: shuffle(make_slices())),
    "enhanced, nothing shared": _write_multiframe(make_slices, shared=False),
    "enhanced, of one frame": _write_multiframe(lambda: make_slices(SMALL.but(z_mm=(9.0,)))),
    "enhanced, tilted and turned": _write_multiframe(
        lambda: rotate_quarter(make_slices(SMALL.but(tilt_deg=12, row_sign=-1)))
    ),
    "legacy enhanced": _write_multiframe(make_slices, legacy=True),
    "concatenation": lambda folder: write_concatenation(make_slices(SMALL.but(tilt_deg=9)), folder),
}


def read_frames(folder):
    """Read every stored frame: (SOP instance, number or None) to its Hounsfield units and its plane."""
    frames = {}
    for path in sorted(folder.rglob("*.dcm")):
        data = pydicom.dcmread(path)
        pixels = data.pixel_array.reshape(-1, data.Rows, data.Columns).astype(float)
        many = int(data.get("NumberOfFrames", 1) or 1)
        for index in range(len(pixels)):
            shared = data.get("SharedFunctionalGroupsSequence", [pydicom.Dataset()])[0]
            own = data.get("PerFrameFunctionalGroupsSequence", [pydicom.Dataset()] * many)[index]

            def find(group, keyword, own=own, shared=shared, data=data):
                for place in (own, shared):
                    if group in place:
                        return place[group].value[0][keyword].value
                return data[keyword].value

            slope = float(find("PixelValueTransformationSequence", "RescaleSlope"))
            intercept = float(find("PixelValueTransformationSequence", "RescaleIntercept"))
            plane = (
                np.array(find("PlanePositionSequence", "ImagePositionPatient"), float),
                np.array(find("PlaneOrientationSequence", "ImageOrientationPatient"), float),
                np.array(find("PixelMeasuresSequence", "PixelSpacing"), float),
            )
            frames[data.SOPInstanceUID, index + 1 if many > 1 else None] = (pixels[index] * slope + intercept, plane)
    return frames


def mark_lesion(hu):
    return (hu > 50) & (hu < 100)


def label_lesion(scan):
    return ndimage.label(mark_lesion(scan.hu), np.ones((3, 3, 3)))[0].astype(np.int32)


def make_document(scan, labels, **findings):
    lesions = []
    for number in range(1, int(labels.max()) + 1):
        places = np.flatnonzero((labels == number).any((1, 2)))
        lesions.append(results.make_lesion(number, int(places[0]), int(places[-1]), side="left", place="deep"))
    made = results.make_document(scan, lesions)
    return made.model_copy(update={"findings": made.findings.model_copy(update=findings)})


def write_objects(folder, scan, labels=None, formats=dicom.FORMATS, document=None, probability=None, **options):
    """Write a scan's DICOM objects; return their paths by name, and the remarks."""
    labels = label_lesion(scan) if labels is None else labels
    document = document or make_document(scan, labels)
    probability = (labels > 0).astype(np.float16) * np.float16(0.75) if probability is None else probability
    folder.mkdir(parents=True, exist_ok=True)
    files, remarks = dicom.save(folder, scan, document, labels, probability, formats, **options)
    return {name: folder / file for name, file in files.items()}, remarks


def write_and_read(folder, kind):
    """Write and read a series of a kind; return its folder and the scan."""
    KINDS[kind](folder)
    return folder, read_one(folder)


@cache
def read_cached(kind):
    """Return what :func:`write_and_read` returns, written once per process; tests must not change the folder."""
    place = tempfile.TemporaryDirectory(prefix="strokeseg-dicom-")
    atexit.register(place.cleanup)
    return write_and_read(Path(place.name), kind)


MARKER = "ZZPLANTEDZZ"


def make_marked_slices():
    """Make slices with the marker in every text attribute of the standard that can hold it."""
    made = make_slices()
    for data in made:
        for tag, (kind, many, _, retired, _) in DicomDictionary.items():
            keyword = keyword_for_tag(tag)
            fits = kind in {"LO", "SH", "PN", "LT", "ST", "UT", "UC", "AE"} and "1" in many and not retired
            if keyword and fits and tag >= 0x00080000:
                setattr(data, keyword, MARKER)
        data.add_new(0x00090010, "LO", MARKER)
        data.add_new(0x00091001, "LO", MARKER)
    return made


def add_second_lesion(scan):
    """Add a second small lesion in the brain, on the slices around the middle of the first."""
    labels = label_lesion(scan)
    middle = int((labels == 1).sum((1, 2)).argmax())
    hu = scan.hu.copy()
    rows, columns = np.nonzero(hu[middle] == 35)
    row, column = rows[len(rows) // 3], columns[len(rows) // 3]
    low, high = max(0, middle - 1), min(len(hu), middle + 2)
    labels[low:high, row : row + 3, column : column + 4] = 2
    return replace(scan, hu=hu), labels


def find_program(name):
    """Find a program of Debian or of the tests' environment, or skip the test."""
    path = (
        shutil.which(name)
        or shutil.which(name, path=str(Path(sys.executable).parent))
        or shutil.which(name, path="/usr/sbin")
    )
    if path is None:
        pytest.skip(f"{name} is not installed (requirements/debian.txt, strokeseg[dev])")
    return path


def list_errors(path):
    """List the errors that dciodvfy reports."""
    run = subprocess.run([find_program("dciodvfy"), "-new", str(path)], capture_output=True, text=True, check=False)
    lines = (run.stdout + run.stderr).splitlines()
    assert lines  # it names the object's type
    return [line for line in lines if line.startswith("Error")]


def list_warnings(path):
    run = subprocess.run([find_program("dciodvfy"), "-new", str(path)], capture_output=True, text=True, check=False)
    return [line for line in (run.stdout + run.stderr).splitlines() if line.startswith("Warning")]
