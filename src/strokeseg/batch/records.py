"""Data of a batch: studies, settings that apply to all of them, and the record of each study."""

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
"""Output formats of each study by default."""
WORKER_DIED, TIMEOUT, NOT_FETCHED = "worker-died", "timeout", "not-fetched"
DUPLICATE_ID, MANIFEST_ROW = "duplicate-id", "manifest-row"
"""Codes of failures.csv that are never raised, in addition to those of errors.py."""
TRANSIENT_CODES = frozenset({WORKER_DIED, TIMEOUT, NOT_FETCHED, "not-writable"})
"""Codes of failures that may not occur again: the next call retries such a study."""
RESERVED_NAMES = frozenset({"failures.csv", "results.csv", "results.parquet", "journal.jsonl"})
_ID = re.compile(r"\w[\w.-]{0,119}")


@dataclass(frozen=True)
class BatchStudy:
    """One study of a batch.

    Attributes
    ----------
    id : str
        Name of its folder in the results.
    path : str
        File, folder or URL, as :func:`strokeseg.segment` takes it once it is on this machine.
    fingerprint : str
        Text that changes with the input: sizes and times of its files, or what the storage reports about them.
    files : tuple of str, default: ()
        Files of the study, relative to ``path``, if only some files of a folder belong to it.
    series : str, optional
        Series to segment, as in :func:`strokeseg.segment`.
    window : tuple of float, optional
        Center and width in HU; None takes the window of the settings.
    spacing_mm : tuple of float, optional
        Distances between slices, rows and columns in mm; None takes those of the settings.
    order : str, optional
        Direction of a stack of pictures; None takes that of the settings.
    model : str, optional
        Name of the model; None takes the model of the settings.
    """

    id: str
    path: str
    fingerprint: str
    files: tuple[str, ...] = ()
    series: str | None = None
    window: tuple[float, float] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    order: str | None = None
    model: str | None = None


@dataclass(frozen=True)
class BatchSettings:
    """Settings that apply to every study.

    Attributes
    ----------
    out : Path
        Folder of the results; on a cluster a folder that every machine can reach.
    formats : tuple of str, default: FORMATS
        Output formats, as in :meth:`strokeseg.Result.save`.
    model : str, default: "default"
        Name of the model.
    engine : str, default: "auto"
        Name of the engine.
    window : tuple of float, optional
        Center and width in HU for pictures.
    spacing_mm : tuple of float, optional
        Distances between slices, rows and columns in mm.
    order : str, default: "auto"
        Direction of stacks of pictures.
    operating_point : str, default: "balanced"
        Choice between missed hemorrhages and false alarms.
    threshold : float, optional
        Probability threshold of the outlines; None takes that of the model.
    smallest_ml : float, optional
        Smaller lesions are left out, ml.
    threads : int, default: 1
        Threads of each worker; one core each is faster than all cores for each (docs/batch.md).
    """

    out: Path
    formats: tuple[str, ...] = FORMATS
    model: str = "default"
    engine: str = "auto"
    window: tuple[float, float] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    order: str = "auto"
    operating_point: str = "balanced"
    threshold: float | None = None
    smallest_ml: float | None = None
    threads: int = 1

    def compute_key(self, study: BatchStudy) -> str:
        """Compute a digest of input, options, model and formats; the same key means the same expected result.

        Parameters
        ----------
        study : BatchStudy
            The study.

        Returns
        -------
        str
            SHA-256 in hexadecimal digits.

        Raises
        ------
        UnknownModel, CorruptModel
            `unknown-model`, `model-checksum`, for the study's own model.
        """
        card = models.load_card(study.model or self.model)
        window, spacing_mm = study.window or self.window, study.spacing_mm or self.spacing_mm
        order = study.order or self.order
        decision = (self.operating_point, self.threshold, self.smallest_ml)
        network = (card.name, card.sha256, self.engine)
        options = (study.series, window, spacing_mm, order, *decision, *network, sorted(self.formats))
        text = json.dumps([study.path, study.fingerprint, study.files, *options])
        return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


@dataclass(frozen=True)
class Task:
    """A study to segment now, and its key (:meth:`BatchSettings.compute_key`)."""

    study: BatchStudy
    key: str


class _FrozenModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ResultRow(_FrozenModel):
    """A study's row in the result table; null means "not measured"."""

    status: Literal["accepted", "repaired", "failed"]
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
    remarks: str = Field(default="", description="their codes, separated by spaces")
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
        """Build the row from the result document."""
        findings, timing = document.findings, document.timing_s
        low, high = findings.volume_interval_ml or (None, None)
        return cls(
            status=document.status,
            hemorrhage=findings.hemorrhage,
            confidence=findings.confidence,
            volume_ml=findings.volume_ml,
            volume_low_ml=low,
            volume_high_ml=high,
            interval_level=findings.interval_level,
            midline_shift_mm=findings.midline_shift_mm,
            midline_shift_side=findings.midline_shift_side,
            lesions=len(findings.lesions),
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
    """Reason why a study has no result."""

    code: str
    message: str
    remedy: str

    @classmethod
    def from_error(cls, error: StrokesegError) -> Failure:
        """Build the failure from an error."""
        return cls(code=error.code, message=escape_non_utf8(error.message), remedy=escape_non_utf8(error.remedy))


class FileDigest(_FrozenModel):
    """Size and digest of a file of a result."""

    bytes: int
    sha256: str


class StudyRecord(_FrozenModel):
    """Outcome of a study: one line of the journal."""

    id: str
    path: str
    key: str = Field(description="empty if the study was never started")
    finished: str = Field(description="UTC")
    row: ResultRow
    failure: Failure | None = None
    files: dict[str, FileDigest] = Field(default={}, description="of the result, by name; empty before version 0.2")

    @property
    def is_transient(self) -> bool:
        """Whether the study failed for a reason that may not occur again."""
        return self.failure is not None and self.failure.code in TRANSIENT_CODES


def escape_non_utf8(text: str) -> str:
    """Escape the characters of a path that are not UTF-8, so that every table can hold it."""
    return text.encode(errors="backslashreplace").decode()


def record_success(task: Task, document: ResultDocument, files: dict[str, FileDigest]) -> StudyRecord:
    """Return the record of a study whose result is saved in these files."""
    return StudyRecord(
        id=task.study.id,
        path=escape_non_utf8(task.study.path),
        key=task.key,
        finished=_format_utc_now(),
        row=ResultRow.from_document(document),
        files=files,
    )


def record_failure(study: BatchStudy, key: str, failure: Failure) -> StudyRecord:
    """Return the record of a study that failed."""
    return StudyRecord(
        id=escape_non_utf8(study.id),
        path=escape_non_utf8(study.path),
        key=key,
        finished=_format_utc_now(),
        row=ResultRow(status="failed"),
        failure=failure,
    )


def explain_invalid_id(study_id: str) -> str | None:
    """Return why an id cannot name a folder, or None if it can."""
    if not _ID.fullmatch(study_id):
        return (
            f"the id {study_id[:40]!r} cannot name a folder: use 1 to 120 letters, digits, dots and hyphens, "
            "with no dot at the start"
        )
    if study_id.endswith("."):
        return "the id ends with a dot"
    if study_id.casefold() in RESERVED_NAMES:
        return f"the id {study_id!r} is the name of a file of the batch"
    return None


def _format_utc_now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
