"""Read a manifest: a CSV or Parquet file with one row per study."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from strokeseg.batch import inputs, remote_storage
from strokeseg.batch.records import MANIFEST_ROW, BatchStudy, Failure, StudyRecord, explain_invalid_id, record_failure
from strokeseg.errors import StrokesegError, UnreadableFile, UsageError
from strokeseg.scan_options import parse_order, parse_spacing, parse_window
from strokeseg.segmentation import models

COLUMNS = ("path", "id", "window", "spacing", "order", "model", "series")
_REMEDY = f"Correct the row. Columns: {', '.join(COLUMNS)}; only path is required (docs/batch.md)."


class _InvalidRowError(Exception):
    """A row that does not define a study; the message gives the reason."""


def read_manifest(path: Path) -> Iterator[BatchStudy | StudyRecord]:
    """Read the studies of a manifest; an invalid row becomes a failure and the rest is read.

    Paths are relative to the manifest's folder.

    Parameters
    ----------
    path : Path
        The manifest.

    Yields
    ------
    BatchStudy or StudyRecord
        The study of a row, or the failure of an invalid row.

    Raises
    ------
    UnreadableFile, UsageError
        `unreadable`, if the file is not a manifest; `usage`, if it is Parquet and pyarrow is not installed.
    """
    rows = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path)
    for number, row in rows:
        fields = {column: str(row.get(column) or "").strip() for column in COLUMNS}
        try:
            if None in row:
                raise _InvalidRowError("more fields than columns")
            yield _parse_row(fields, path.parent)
        except _InvalidRowError as error:
            failure = Failure(code=MANIFEST_ROW, message=f"{path.name}, row {number}: {error}", remedy=_REMEDY)
            yield record_failure(BatchStudy(fields["id"], fields["path"], ""), "", failure)
        except remote_storage.FetchError as error:
            study_id = fields["id"] or inputs.make_study_id(fields["path"])
            yield record_failure(BatchStudy(study_id, fields["path"], ""), "", inputs.make_fetch_failure(error))


def _parse_row(row: dict[str, str], folder: Path) -> BatchStudy:
    if not row["path"]:
        raise _InvalidRowError("no path")
    if "\0" in row["path"]:
        raise _InvalidRowError("the path contains a zero byte")
    is_url = remote_storage.is_url(row["path"])
    path = row["path"] if is_url else os.path.abspath(folder / Path(row["path"]).expanduser())
    study_id = row["id"] or inputs.make_study_id(path.rstrip("/").rpartition("/" if is_url else os.sep)[2])
    if reason := explain_invalid_id(study_id):
        raise _InvalidRowError(reason)
    try:
        window = parse_window(_strip_brackets(row["window"])) if row["window"] else None
    except ValueError as error:
        raise _InvalidRowError(f"window: {error}") from None
    try:
        spacing_mm = parse_spacing(_strip_brackets(row["spacing"])) if row["spacing"] else None
    except ValueError as error:
        raise _InvalidRowError(f"spacing: {error}") from None
    try:
        order = parse_order(row["order"]) if row["order"] else None
    except ValueError as error:
        raise _InvalidRowError(f"order: {error}") from None
    if row["model"]:
        try:
            models.find_folder(row["model"])
        except StrokesegError as error:
            raise _InvalidRowError(error.message) from None
    return BatchStudy(
        study_id,
        path,
        remote_storage.compute_fingerprint(path) if is_url else inputs.compute_fingerprint(Path(path)),
        series=row["series"] or None,
        window=window,
        spacing_mm=spacing_mm,
        order=order,
        model=row["model"] or None,
    )


def _strip_brackets(text: str) -> str:
    """Return a list such as "[40; 80]" in the form "40,80"."""
    return text.strip("[]() ").replace(";", ",")


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
    for number, row in enumerate(table.to_pylist(), start=1):
        yield number, {column: _join_list(value) for column, value in row.items()}


def _join_list(value: Any) -> Any:
    return ",".join(map(str, value)) if isinstance(value, list) else value


def _check_columns(path: Path, columns: list[str]) -> None:
    if "path" not in columns:
        raise UnreadableFile(f"{path.name}: has no column named path", f"Columns: {', '.join(COLUMNS)}.")
    if unknown := [column for column in columns if column not in COLUMNS]:
        # A misspelled "window" would otherwise be ignored.
        names = ", ".join(repr(str(column)[:40]) for column in unknown)
        raise UnreadableFile(f"{path.name}: unknown columns {names}", f"Columns: {', '.join(COLUMNS)}.")


def _make_unreadable_error(path: Path, error: Exception) -> UnreadableFile:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
    return UnreadableFile(f"{path.name}: cannot be read as a list of studies ({reason})", "Give a CSV or Parquet file.")
