"""What a batch is made of: studies to answer, settings that hold for all, and what became of each study."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from strokeseg.errors import StrokesegError
from strokeseg.result import ResultDocument
from strokeseg.segmentation import models

FORMATS = ("json", "nifti")
"""What is written of each study where nothing else is asked for."""
WORKER_DIED, TIMEOUT, NOT_FETCHED = "worker-died", "timeout", "not-fetched"
DUPLICATE_ID, MANIFEST_ROW = "duplicate-id", "manifest-row"
"""Codes of failures beside those of errors.py: lines of failures.csv, never raised."""
TRANSIENT_CODES = frozenset({WORKER_DIED, TIMEOUT, NOT_FETCHED, "not-writable"})
"""Codes of failures that may not come again: such a study is tried again by the next call."""
RESERVED_NAMES = frozenset({"failures.csv", "results.csv", "results.parquet", "journal.jsonl"})
_ID = re.compile(r"\w[\w.-]{0,119}")


@dataclass(frozen=True)
class BatchStudy:
    """One study to answer.

    Parameters
    ----------
    id : str
        Its folder's name in the results.
    path : str
        File, folder or URL, as :func:`strokeseg.segment` takes it once it is on this machine.
    stamp : object
        What changes when the input does: sizes and times of its files, or what the store says of them.
    files : tuple of str, default: ()
        Where not all of a folder belongs to the study: which of its files do, relative to ``path``.
    series, window, spacing_mm, model : str, optional
        As in :func:`strokeseg.segment`; None is what the settings say.
    """

    id: str
    path: str
    fingerprint: str
    files: tuple[str, ...] = ()
    series: str | None = None
    window: tuple[float, float] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    model: str | None = None


@dataclass(frozen=True)
class BatchSettings:
    """What holds for every study.

    Parameters
    ----------
    out : Path
        Folder of the results; on a cluster one that every machine sees.
    formats, model, engine, window, spacing_mm : tuple of str, default: FORMATS
        As in :func:`strokeseg.segment` and :meth:`Result.save`.
    threads : int, default: 1
        Of each worker; one core each is faster than all cores for each (docs/batch.md).
    """

    out: Path
    formats: tuple[str, ...] = FORMATS
    model: str = "default"
    engine: str = "auto"
    window: tuple[float, float] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    threads: int = 1

    def compute_key(self, study: BatchStudy) -> str:
        """Return what is the same as long as the same result is to be expected: input, options, network, formats.

        Raises
        ------
        UnknownModel, CorruptModel
            `unknown-model`, `model-checksum`, of the study's own network.
        """
        card = models.load_card(study.model or self.model)
        window, spacing_mm = study.window or self.window, study.spacing_mm or self.spacing_mm
        options = (study.series, window, spacing_mm, card.name, card.sha256, self.engine, sorted(self.formats))
        text = json.dumps([study.path, study.fingerprint, study.files, *options])
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Task:
    """A study that is to be answered now, and its key (:meth:`Settings.key`)."""

    study: BatchStudy
    key: str


class _FrozenModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ResultRow(_FrozenModel):
    """A study's line in the table of results; null is "not measured"."""

    status: Literal["accepted", "repaired", "record_failure"]
    hemorrhage: bool | None = None
    confidence: float | None = None
    volume_ml: float | None = None
    volume_low_ml: float | None = None
    volume_high_ml: float | None = None
    interval_level: float | None = None
    midline_shift_mm: float | None = None
    midline_shift_side: str | None = None
    lesions: int | None = None
    slices: int | None = None
    remarks: str = Field(default="", description="their codes, divided by spaces")
    read_s: float | None = None
    infer_s: float | None = None
    measure_s: float | None = None
    surface_s: float | None = None
    write_s: float | None = None
    total_s: float | None = None
    model: str | None = None
    model_sha256: str | None = None
    engine: str | None = None

    @classmethod
    def from_document(cls, document: ResultDocument) -> ResultRow:
        """Take a result's line from its document."""
        found, timing = document.findings, document.timing_s
        low, high = found.volume_interval_ml or (None, None)
        return cls(
            status=document.status,
            hemorrhage=found.hemorrhage,
            confidence=found.confidence,
            volume_ml=found.volume_ml,
            volume_low_ml=low,
            volume_high_ml=high,
            interval_level=found.interval_level,
            midline_shift_mm=found.midline_shift_mm,
            midline_shift_side=found.midline_shift_side,
            lesions=len(found.lesions),
            slices=document.input.slices,
            remarks=" ".join(dict.fromkeys(remark.code for remark in document.remarks)),
            read_s=timing.read,
            infer_s=timing.infer,
            measure_s=timing.measure,
            surface_s=timing.surface,
            write_s=timing.write,
            total_s=timing.total,
            model=document.model.name,
            model_sha256=document.model.sha256,
            engine=document.model.engine,
        )


class Failure(_FrozenModel):
    """Why a study has no result."""

    code: str
    message: str
    remedy: str

    @classmethod
    def from_error(cls, error: StrokesegError) -> Failure:
        """Take it from an error."""
        return cls(code=error.code, message=escape_non_utf8(error.message), remedy=escape_non_utf8(error.remedy))


class StudyRecord(_FrozenModel):
    """What became of a study: a line of the journal."""

    id: str
    path: str
    key: str = Field(description="empty where the study was never begun")
    finished: str = Field(description="UTC")
    row: ResultRow
    failure: Failure | None = None

    @property
    def is_transient(self) -> bool:
        """Whether it failed by what may not come again."""
        return self.failure is not None and self.failure.code in TRANSIENT_CODES


def escape_non_utf8(text: str) -> str:
    """Escape what of a path is no UTF-8, so that every table can hold it."""
    return text.encode(errors="backslashreplace").decode()


def record_success(task: Task, document: ResultDocument) -> StudyRecord:
    """Say that a study is answered and its result lies on disk."""
    return StudyRecord(
        id=task.study.id,
        path=escape_non_utf8(task.study.path),
        key=task.key,
        finished=_format_utc_now(),
        row=ResultRow.from_document(document),
    )


def record_failure(study: BatchStudy, key: str, failure: Failure) -> StudyRecord:
    """Say that a study failed."""
    row = ResultRow(status="failed")
    return StudyRecord(
        id=escape_non_utf8(study.id),
        path=escape_non_utf8(study.path),
        key=key,
        finished=_format_utc_now(),
        row=row,
        failure=failure,
    )


def explain_invalid_id(text: str) -> str | None:
    """Say what is wrong with an id, or give None where it can name a folder."""
    if not _ID.fullmatch(text):
        return f"the id {text[:40]!r} is no folder's name: 1 to 120 letters, digits, dots, hyphens, no dot in front"
    if text.casefold() in RESERVED_NAMES or text.endswith("."):
        return (
            f"the id {text!r} is the name of a file of the batch" if not text.endswith(".") else "the id ends in a dot"
        )
    return None


def _format_utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
