"""Lists of studies: a CSV or Parquet file with a row each."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from strokeseg.batch import inputs, remote_storage
from strokeseg.batch.records import MANIFEST_ROW, BatchStudy, Failure, StudyRecord, explain_invalid_id, record_failure
from strokeseg.errors import StrokesegError, UnreadableFile, UsageError
from strokeseg.segmentation import models

COLUMNS = ("path", "id", "window", "spacing", "model", "series")
_REMEDY = f"Mend the row. Columns: {', '.join(COLUMNS)}; only path is needed (docs/batch.md)."


class _InvalidRowError(Exception):
    """A row that names no study; the sentence says why."""


def read_manifest(path: Path) -> Iterator[BatchStudy | StudyRecord]:
    """Read a manifest; a row that cannot be used becomes a failure and stops nothing.

    Paths are relative to the manifest's folder.

    Raises
    ------
    UnreadableFile, UsageError
        `unreadable`, if the file is no such list; `usage`, if it is Parquet and pyarrow is not installed.
    """
    rows = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path)
    for number, row in rows:
        text = {column: str(row.get(column) or "").strip() for column in COLUMNS}
        try:
            if None in row:
                raise _InvalidRowError("more fields than columns")
            yield _parse_row(text, path.parent)
        except _InvalidRowError as error:
            failure = Failure(code=MANIFEST_ROW, message=f"{path.name}, row {number}: {error}", remedy=_REMEDY)
            yield record_failure(BatchStudy(text["id"], text["path"], ""), "", failure)
        except remote_storage.FetchError as error:
            yield record_failure(
                BatchStudy(text["id"] or inputs.make_study_id(text["path"]), text["path"], ""),
                "",
                inputs.make_fetch_failure(error),
            )


def _parse_row(row: dict[str, str], folder: Path) -> BatchStudy:
    if not row["path"]:
        raise _InvalidRowError("no path")
    if "\0" in row["path"]:
        raise _InvalidRowError("the path holds a zero byte")
    url = remote_storage.is_url(row["path"])
    path = row["path"] if url else os.path.abspath(folder / Path(row["path"]).expanduser())
    own = row["id"] or inputs.make_study_id(path.rstrip("/").rpartition("/" if url else os.sep)[2])
    if wrong := explain_invalid_id(own):
        raise _InvalidRowError(wrong)
    window = _parse_numbers(row["window"], 2, "window", "CENTRE,WIDTH as 40,80")
    spacing = _parse_numbers(row["spacing"], 3, "spacing", "SLICE,ROW,COLUMN in mm as 5,0.45,0.45")
    if spacing is not None and min(spacing) <= 0:
        raise _InvalidRowError("spacing: every distance must be above 0 mm")
    if window is not None and window[1] <= 0:
        raise _InvalidRowError("window: the width must be above 0")
    if row["model"]:
        try:
            models.find_folder(row["model"])
        except StrokesegError as error:
            raise _InvalidRowError(error.message) from None
    return BatchStudy(
        own,
        path,
        remote_storage.compute_fingerprint(path) if url else inputs.compute_fingerprint(Path(path)),
        series=row["series"] or None,
        window=None if window is None else (window[0], window[1]),
        spacing_mm=None if spacing is None else (spacing[0], spacing[1], spacing[2]),
        model=row["model"] or None,
    )


def _parse_numbers(text: str, count: int, column: str, form: str) -> list[float] | None:
    if not text:
        return None
    try:
        numbers = [float(part) for part in text.strip("[]() ").replace(";", ",").split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(abs(number) < 1e5 for number in numbers):
        raise _InvalidRowError(f"{column}: {text[:40]!r} is not {form}")
    return numbers


def _read_csv(path: Path) -> Iterator[tuple[int, dict[Any, Any]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        reader = csv.DictReader(text.splitlines(keepends=True))
        _check_columns(path, list(reader.fieldnames or []))
        yield from ((reader.line_num, row) for row in reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _make_unreadable_error(path, error) from None


def _read_parquet(path: Path) -> Iterator[tuple[int, dict[Any, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise UsageError(
            f"{path.name}: reading Parquet needs pyarrow, which is not installed", "pip install 'strokeseg[batch]'"
        ) from None
    try:
        table = pyarrow.parquet.read_table(path, memory_map=False)
    except (OSError, pyarrow.ArrowException) as error:
        raise _make_unreadable_error(path, error) from None
    _check_columns(path, list(table.column_names))
    listed: Callable[[Any], Any] = lambda value: ",".join(map(str, value)) if isinstance(value, list) else value  # noqa: E731
    for number, row in enumerate(table.to_pylist(), start=1):
        yield number, {column: listed(value) for column, value in row.items()}


def _check_columns(path: Path, columns: list[str]) -> None:
    if "path" not in columns:
        raise UnreadableFile(f"{path.name}: has no column named path", f"Columns: {', '.join(COLUMNS)}.")
    if unknown := [column for column in columns if column not in COLUMNS]:
        # A misspelt window would otherwise be answered as if none were given.
        named = ", ".join(repr(str(column)[:40]) for column in unknown)
        raise UnreadableFile(f"{path.name}: unknown columns {named}", f"Columns: {', '.join(COLUMNS)}.")


def _make_unreadable_error(path: Path, error: Exception) -> UnreadableFile:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return UnreadableFile(f"{path.name}: cannot be read as a list of studies ({reason})", "Give a CSV or Parquet file.")
