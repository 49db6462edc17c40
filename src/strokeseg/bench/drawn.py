"""Drawn lesions of known type, slice by slice, from the data sets that have them."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strokeseg.measure import types
from strokeseg.scan import Scan

Diagnoses = dict[tuple[int, int], list[str]]

SHORT = {
    "intraparenchymal": "IPH",
    "intraventricular": "IVH",
    "subdural": "SDH",
    "epidural": "EDH",
    "subarachnoid": "SAH",
}
CODES = tuple(SHORT[name] for name in types.TYPES)
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
class Drawn:
    """One slice on which lesions are drawn: ``labels`` holds 0, or 1 + the index of the pixel's type in CODES."""

    source: str
    name: str
    patient: str
    scan: Scan
    labels: NDArray[np.uint8]


def drawn(root: Path, sources: Sequence[str] = SOURCES) -> Iterator[Drawn]:
    """Read every slice to learn from; no test patient is among them.

    CT-ICH's masks hold no types: the slice's diagnosis gives it, on slices with a single one.
    """
    for source in [name for name in sources if name in ("bhsd_mini", "mbhseg25_mini")]:
        for row in _rows(root / source / "index.csv"):
            pixels = np.asarray(Image.open(root / source / "labels" / row["file"]))
            labels = sum((pixels == value).astype(np.uint8) * _number(code) for value, code in _PIXELS.items())
            scan = _scan(root / source / "images_hu0_255" / row["file"], (127.5, 255.0))
            yield Drawn(source, row["file"], f"{source}:{row['volume']}", scan, np.asarray(labels, dtype=np.uint8))
    diagnoses = _diagnoses(root)
    for row in _rows(root / "ctich_train" / "index.csv") if "ctich_train" in sources else []:
        yield from _ctich(root, "ctich_train", row["id"], diagnoses)
    for row in _rows(root / "phe_sich_clots" / "index.csv") if "phe_sich" in sources else []:
        mask = np.asarray(Image.open(_file(root / "phe_sich_clots" / "masks", row["id"])).convert("L"))
        scan = _scan(_file(root / "phe_sich_clots" / "images", row["id"]), (40.0, 80.0))
        labels = (mask == 255).astype(np.uint8) * _number("IPH")
        yield Drawn("phe_sich", row["id"], f"phe:{row['patient']}", scan, labels)


def held_out(root: Path) -> Iterator[Drawn]:
    """Read the slices of a single type of CT-ICH's test patients: to score on once, never to learn or choose by."""
    diagnoses = _diagnoses(root)
    for path in sorted((root / "ctich_jpg" / "masks").iterdir()):
        yield from _ctich(root, "ctich_jpg", path.stem, diagnoses)


def _ctich(root: Path, source: str, name: str, diagnoses: Diagnoses) -> Iterator[Drawn]:
    patient, number = name.split("_")
    found = diagnoses.get((int(patient), int(number)), [])
    if len(found) == 1:
        mask = np.asarray(Image.open(_file(root / source / "masks", name)).convert("L")) > 127
        scan = _scan(_file(root / source / "images", name), (40.0, 120.0))
        yield Drawn(source, name, f"ctich:{patient}", scan, mask.astype(np.uint8) * _number(found[0]))


def _diagnoses(root: Path) -> Diagnoses:
    return {
        (int(row["PatientNumber"]), int(row["SliceNumber"])): [
            code for column, code in _COLUMNS.items() if row[column] == "1"
        ]
        for row in _rows(root / "ctich_jpg" / "hemorrhage_diagnosis.csv")
    }


def _number(code: str) -> int:
    return 1 + CODES.index(code)


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as lines:
        return list(csv.DictReader(lines))


def _file(folder: Path, name: str) -> Path:
    return next(iter(sorted(folder.glob(f"{name}.*"))))


def _scan(path: Path, window: tuple[float, float]) -> Scan:
    grey = np.asarray(Image.open(path).convert("L")) / 255 * window[1] + window[0] - window[1] / 2
    return replace(Scan.from_array(grey, calibrated=False, kind="pictures"), window=window)
