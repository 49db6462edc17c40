"""Tables of a batch: one row per study as CSV and Parquet, and the failures. Each file is replaced as a whole."""

from __future__ import annotations

import csv
import importlib.util
import io
import types
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from strokeseg import atomic_write
from strokeseg.batch.records import ResultRow, StudyRecord

RESULTS_CSV, RESULTS_PARQUET, FAILURES_CSV = "results.csv", "results.parquet", "failures.csv"
COLUMNS = ("id", "path", *ResultRow.model_fields, "finished")
_FAILURE_COLUMNS = ("id", "path", "code", "message", "remedy")
_REMEDY = "Name a folder with write permission with -o."


def write_tables(out: Path, records: Iterable[StudyRecord], refusals: Sequence[StudyRecord] = ()) -> None:
    """Write the tables, sorted by id.

    Parameters
    ----------
    out : Path
        Folder of the results.
    records : iterable of StudyRecord
        Records of the journal.
    refusals : sequence of StudyRecord, default: ()
        Studies that were never started, such as invalid rows of a manifest; listed among the failures only.

    Raises
    ------
    NotWritable, DiskFull
        `not-writable`, `disk-full`.
    """
    ordered = sorted(records, key=lambda record: record.id)
    rows = [_get_row_values(record) for record in ordered]
    atomic_write.write_file(out / RESULTS_CSV, _to_csv(COLUMNS, rows), _REMEDY)
    if is_parquet_available():
        atomic_write.write_file(out / RESULTS_PARQUET, _to_parquet(rows), _REMEDY)
    failures = [
        (record.id, record.path, record.failure.code, record.failure.message, record.failure.remedy)
        for record in [*ordered, *refusals]
        if record.failure is not None
    ]
    atomic_write.write_file(out / FAILURES_CSV, _to_csv(_FAILURE_COLUMNS, failures), _REMEDY)


def is_parquet_available() -> bool:
    """Return whether pyarrow, which reads and writes Parquet, is installed."""
    return importlib.util.find_spec("pyarrow") is not None


def _get_row_values(record: StudyRecord) -> list[Any]:
    return [record.id, record.path, *(getattr(record.row, name) for name in ResultRow.model_fields), record.finished]


def _to_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    # Booleans as in JSON, so that the table and result.json show the same words.
    writer.writerows([str(value).lower() if isinstance(value, bool) else value for value in row] for row in rows)
    return stream.getvalue().encode()


def _to_parquet(rows: Sequence[Sequence[Any]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    arrow_types = {bool: pyarrow.bool_(), int: pyarrow.int64(), float: pyarrow.float64()}
    row_types = [
        arrow_types.get(_find_value_type(field.annotation), pyarrow.string())
        for field in ResultRow.model_fields.values()
    ]
    schema = pyarrow.schema(zip(COLUMNS, [pyarrow.string()] * 2 + row_types + [pyarrow.string()], strict=True))
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(COLUMNS)
    arrays = [pyarrow.array(column, type=field.type) for column, field in zip(columns, schema, strict=True)]
    stream = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_arrays(arrays, schema=schema), stream)
    return stream.getvalue()


def _find_value_type(annotation: Any) -> type:
    """Return the type of a field's value when it is not null."""
    options = typing.get_args(annotation) if isinstance(annotation, types.UnionType) else (annotation,)
    return next(option for option in options if option is not type(None))
