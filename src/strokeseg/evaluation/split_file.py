"""A split as a file: one row for each image, with its side and its hashes.

The columns are source, name, patient, side (train, validation, left-out), kind (positive, negative, boxed, unlabelled),
sha256 (of the pixels as they are read, not of the file) and dhash (see :mod:`strokeseg.evaluation.leakage`).
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg import atomic_write
from strokeseg.errors import TrainError

SIDES = ("train", "validation", "left-out")
KINDS = ("positive", "negative", "boxed", "unlabelled")
REMEDY = "Write it with `strokeseg train CONFIG --write-split FILE`."


@dataclass(frozen=True)
class SplitRow:
    """One image of a split.

    Attributes
    ----------
    source, name : str
        Source and name of the sample; together they are unique in a file.
    patient : str
        The patient, as the source names it.
    side : str
        One of :data:`SIDES`; images that are left out are used neither for training nor for validation.
    kind : str
        One of :data:`KINDS`.
    sha256 : str
        SHA-256 of the pixels, 64 hex digits.
    dhash : str
        Perceptual hash, 64 hex digits.
    """

    source: str
    name: str
    patient: str
    side: str
    kind: str
    sha256: str
    dhash: str


COLUMNS = [field.name for field in fields(SplitRow)]


def pixel_sha256(hu: NDArray[np.int16]) -> str:
    """Compute the SHA-256 of a slice's shape and pixels, 64 hex digits.

    Parameters
    ----------
    hu : ndarray of int16, shape (rows, columns)
        Hounsfield units.
    """
    text = f"{hu.shape[0]}x{hu.shape[1]}:".encode()
    return hashlib.sha256(text + np.ascontiguousarray(hu, dtype="<i2").tobytes()).hexdigest()


def read(path: Path, *, leaking: bool = False) -> list[SplitRow]:
    """Read a split and check it.

    Parameters
    ----------
    path : Path
        The file.
    leaking : bool, default: False
        Allow a patient on both sides.

    Raises
    ------
    TrainError
        `train`, if the file is missing or not a split, holds an image twice, or has a patient on both sides.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.DictReader(stream)
            if reader.fieldnames != COLUMNS:
                raise TrainError(f"{path.name}: the columns are {reader.fieldnames}, not {COLUMNS}", REMEDY)
            rows = [_parse_row(entry, f"{path.name}, line {reader.line_num}") for entry in reader]
    except FileNotFoundError:
        raise TrainError(f"{path.name}: no such split", REMEDY) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainError(f"{path.name}: not a readable split: {error}", REMEDY) from None
    _check_unique(rows, path.name)
    if not leaking:
        _check_one_side(rows, path.name)
    return rows


def write(rows: Iterable[SplitRow], path: Path) -> None:
    """Write a split, whole or not at all.

    Raises
    ------
    NotWritable, DiskFull
        `not-writable`, `disk-full`.
    """
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(asdict(row) for row in rows)
    atomic_write.write_file(path, text.getvalue().encode(), "Name another file.")


def _parse_row(entry: dict[Any, Any], line: str) -> SplitRow:
    if None in entry or None in entry.values():
        raise TrainError(f"{line}: not {len(COLUMNS)} columns", REMEDY)
    row = SplitRow(**entry)
    if row.side not in SIDES or row.kind not in KINDS:
        raise TrainError(f"{line}: side {row.side!r}, kind {row.kind!r}: must be of {SIDES} and {KINDS}", REMEDY)
    if not all(re.fullmatch("[0-9a-f]{64}", digits) for digits in (row.sha256, row.dhash)):
        raise TrainError(f"{line}: sha256 and dhash are not 64 hex digits each", REMEDY)
    return row


def _check_unique(rows: Sequence[SplitRow], name: str) -> None:
    seen: set[tuple[str, str]] = set()
    for row in rows:
        if (row.source, row.name) in seen:
            raise TrainError(f"{name}: {row.source} {row.name} is listed twice", "Keep one of the two rows.")
        seen.add((row.source, row.name))


def _check_one_side(rows: Sequence[SplitRow], name: str) -> None:
    training = {row.patient for row in rows if row.side == "train"}
    both = sorted(training & {row.patient for row in rows if row.side == "validation"})
    if both:
        raise TrainError(
            f"{name}: {len(both)} patients on both sides, the first is {both[0]}",
            "Put every image of a patient on one side.",
        )
