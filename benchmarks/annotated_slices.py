"""Annotated slices with lesions of known type, from the data sets that have them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strokeseg.measurements.lesion import types
from strokeseg.scan import Scan

Diagnoses = dict[tuple[int, int], list[str]]

ABBREVIATIONS = {
    "intraparenchymal": "IPH",
    "intraventricular": "IVH",
    "subdural": "SDH",
    "epidural": "EDH",
    "subarachnoid": "SAH",
}
CODES = tuple(ABBREVIATIONS[name] for name in types.TYPES)
# The pixel values of BHSD and MBH-Seg, and the columns of CT-ICH's table.
_PIXELS = {1: "EDH", 2: "IPH", 3: "IVH", 4: "SAH", 5: "SDH"}
_COLUMNS = {
    "Epidural": "EDH",
    "Intraparenchymal": "IPH",
    "Intraventricular": "IVH",
    "Subarachnoid": "SAH",
    "Subdural": "SDH",
}
SOURCES = ("bhsd_mini", "mbhseg25_mini", "ctich_train", "phe_sich")


@dataclass(frozen=True)
class AnnotatedSlice:
    """A slice with annotated lesions.

    Attributes
    ----------
    source : str
        Data set.
    name : str
        Name of the slice in the data set.
    patient : str
        Patient, with the data set's prefix.
    scan : Scan
        The slice, grey levels mapped to Hounsfield units.
    labels : ndarray of uint8
        0, or 1 + the index of the pixel's type in :data:`CODES`.
    """

    source: str
    name: str
    patient: str
    scan: Scan
    labels: NDArray[np.uint8]


def read_annotated_slices(root: Path, sources: Sequence[str] = SOURCES) -> Iterator[AnnotatedSlice]:
    """Read the slices for training and validation; none is of a test patient.

    CT-ICH's masks hold no types. The type is the slice's diagnosis, for slices with a single diagnosis.

    Parameters
    ----------
    root : Path
        Folder of the data sets.
    sources : sequence of str
        Data sets to read.

    Yields
    ------
    AnnotatedSlice
        A slice.
    """
    for source in [name for name in sources if name in ("bhsd_mini", "mbhseg25_mini")]:
        for row in _read_rows(root / source / "index.csv"):
            pixels = np.asarray(Image.open(root / source / "labels" / row["file"]))
            labels = sum((pixels == value).astype(np.uint8) * _label_of(code) for value, code in _PIXELS.items())
            scan = _read_scan(root / source / "images_hu0_255" / row["file"], (127.5, 255.0))
            yield AnnotatedSlice(
                source, row["file"], f"{source}:{row['volume']}", scan, np.asarray(labels, dtype=np.uint8)
            )
    diagnoses = _read_diagnoses(root)
    for row in _read_rows(root / "ctich_train" / "index.csv") if "ctich_train" in sources else []:
        yield from _read_ctich(root, "ctich_train", row["id"], diagnoses)
    for row in _read_rows(root / "phe_sich_clots" / "index.csv") if "phe_sich" in sources else []:
        mask = np.asarray(Image.open(_find_file(root / "phe_sich_clots" / "masks", row["id"])).convert("L"))
        scan = _read_scan(_find_file(root / "phe_sich_clots" / "images", row["id"]), (40.0, 80.0))
        labels = (mask == 255).astype(np.uint8) * _label_of("IPH")
        yield AnnotatedSlice("phe_sich", row["id"], f"phe:{row['patient']}", scan, labels)


def read_test_slices(root: Path) -> Iterator[AnnotatedSlice]:
    """Read the slices with a single diagnosis of CT-ICH's test patients, for scoring only."""
    diagnoses = _read_diagnoses(root)
    for path in sorted((root / "ctich_jpg" / "masks").iterdir()):
        yield from _read_ctich(root, "ctich_jpg", path.stem, diagnoses)


def _read_ctich(root: Path, source: str, name: str, diagnoses: Diagnoses) -> Iterator[AnnotatedSlice]:
    patient, number = name.split("_")
    codes = diagnoses.get((int(patient), int(number)), [])
    if len(codes) == 1:
        mask = np.asarray(Image.open(_find_file(root / source / "masks", name)).convert("L")) > 127
        scan = _read_scan(_find_file(root / source / "images", name), (40.0, 120.0))
        yield AnnotatedSlice(source, name, f"ctich:{patient}", scan, mask.astype(np.uint8) * _label_of(codes[0]))


def _read_diagnoses(root: Path) -> Diagnoses:
    return {
        (int(row["PatientNumber"]), int(row["SliceNumber"])): [
            code for column, code in _COLUMNS.items() if row[column] == "1"
        ]
        for row in _read_rows(root / "ctich_jpg" / "hemorrhage_diagnosis.csv")
    }


def _label_of(code: str) -> int:
    return 1 + CODES.index(code)


def _read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def _find_file(folder: Path, name: str) -> Path:
    return next(iter(sorted(folder.glob(f"{name}.*"))))


def _read_scan(path: Path, window: tuple[float, float]) -> Scan:
    grey = np.asarray(Image.open(path).convert("L")) / 255 * window[1] + window[0] - window[1] / 2
    return replace(Scan.from_array(grey, calibrated=False, kind="pictures"), window=window)
