"""The patients of images: by a column of index.csv, by a regular expression, or by the names of the files."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path

from strokeseg.errors import TrainError
from strokeseg.evaluation.image_files import get_stem, is_volume


def patient_lookup(folder: Path, patient: str | None) -> Callable[[Path], str]:
    """Return a function from an image's path to its patient."""
    rows = _read_index(folder / "index.csv")
    columns = list_index_columns(folder)
    column = patient or "patient"
    if column in columns:

        def by_column(image: Path) -> str:
            value = rows.get(get_stem(image.name), {}).get(column)
            if not value:
                raise TrainError(f"index.csv has no {column} for {image.name}", "Give every image a row.")
            return value

        return by_column
    if patient is not None:
        return _expression_lookup(patient, columns)
    return _patient_of_name


def _patient_of_name(image: Path) -> str:
    stem = get_stem(image.name)
    return stem if is_volume(image) else re.sub(r"(.)_[^_]*$", r"\1", stem)


def _expression_lookup(patient: str, columns: list[str]) -> Callable[[Path], str]:
    try:
        expression = re.compile(patient)
    except re.error as error:
        raise TrainError(
            f"patient {patient!r} is neither a column of index.csv nor a regular expression: {error}"
        ) from None

    def by_expression(image: Path) -> str:
        match = expression.search(get_stem(image.name))
        if match is None:
            known = f"; index.csv has the columns {', '.join(columns)}" if columns else ""
            raise TrainError(
                f"patient {patient!r} is not a column of index.csv and does not match {image.name}{known}",
                "Name a column, or a regular expression whose first group is the patient.",
            )
        return str(match[1] if match.groups() else match[0])

    return by_expression


def _read_index(path: Path) -> dict[str, dict[str, str]]:
    """Read index.csv by its column id (or file): stem of the image to row."""
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainError(f"{path}: not a readable table: {error}", "Save it as CSV in UTF-8.") from None
    key = next((name for name in ("id", "file", "image") if rows and name in rows[0]), None)
    return {get_stem(Path(row[key] or "").name): row for row in rows} if key else {}


def list_index_columns(folder: Path) -> list[str]:
    """List the columns of a folder's index.csv; none without that file."""
    return list(next(iter(_read_index(folder / "index.csv").values()), {}))
