"""Run a batch: list the studies, segment those without a result, and write the result tables."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strokeseg import atomic_write, outputs
from strokeseg.batch import host_resources, inputs, manifest, result_files, result_tables, scheduler, worker
from strokeseg.batch.journal import Journal
from strokeseg.batch.process_pool import ProcessPool
from strokeseg.batch.ray_cluster import RayCluster
from strokeseg.batch.records import (
    DUPLICATE_ID,
    FORMATS,
    BatchSettings,
    BatchStudy,
    Failure,
    StudyRecord,
    Task,
    escape_non_utf8,
    record_failure,
)
from strokeseg.errors import StrokesegError, UsageError
from strokeseg.segmentation import models
from strokeseg.segmentation.decision_options import DecisionOptions

_TABLE_INTERVAL_S = 30.0
_REMEDY = "Name a folder with write permission with -o."


@dataclass(frozen=True)
class Progress:
    """Progress of a batch.

    Attributes
    ----------
    completed : int
        Studies that this call has finished, with or without a result.
    failed : int
        How many of them have failed.
    total : int
        Studies that this call has to segment.
    elapsed_s : float
        Seconds since the first study was assigned to a worker.
    """

    completed: int
    failed: int
    total: int
    elapsed_s: float

    @property
    def studies_per_second(self) -> float:
        """Rate in studies per second."""
        return self.completed / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def remaining_s(self) -> float | None:
        """Estimated seconds until the end at this rate; None before the first study is finished."""
        return (self.total - self.completed) / self.studies_per_second if self.completed else None


@dataclass(frozen=True)
class Summary:
    """Counts of one call of :func:`run`.

    Attributes
    ----------
    studies : int
        All studies of the inputs, including invalid rows of the manifest.
    done : int
        Segmented by this call.
    before : int
        Segmented by an earlier call and unchanged since.
    failed : int
        Without a result: failed in this call, failed in an earlier call, or never started.
    with_blood : int
        Studies with hemorrhage, among those with a result.
    seconds : float
        Duration of this call.
    """

    studies: int
    done: int
    before: int
    failed: int
    with_blood: int
    seconds: float


def run(
    sources: Sequence[str | Path],
    out: str | Path,
    *,
    list_file: str | Path | None = None,
    workers: int | None = None,
    ray: str | None = None,
    formats: Sequence[str] = FORMATS,
    model: str = "default",
    engine: str = "auto",
    window: tuple[float, float] | None = None,
    spacing_mm: tuple[float, float, float] | None = None,
    order: str = "auto",
    operating_point: str = "balanced",
    threshold: float | None = None,
    smallest_ml: float | None = None,
    limit_memory_mb: int | None = None,
    timeout_s: float | None = None,
    retry_failed: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Segment many studies into one folder; a second call segments only what is missing.

    The files of each study are written to ``out/ID/``. ``results.csv`` (and ``results.parquet`` if pyarrow is
    installed) has one row per study. ``failures.csv`` lists the studies without a result and the reasons. A later call
    continues from ``journal.jsonl``. A study is segmented again if its input, its options or its model has changed.

    Parameters
    ----------
    sources : sequence of str or Path
        Files, folders and URLs; docs/batch.md defines what counts as a study in them.
    out : str or Path
        Folder of the results, outside the sources; created if missing.
    list_file : str or Path, optional
        Manifest, CSV or Parquet: path, and optionally id, window, spacing, order, model, series.
    workers : int, optional
        Number of processes (or Ray actors) with one thread each; None is as many as cores and memory allow.
    ray : str, optional
        Address of a Ray cluster, "auto" or "local"; None uses processes of this machine.
    formats : sequence of str, default: FORMATS
        Output formats, as in :meth:`strokeseg.Result.save`.
    model : str, default: "default"
        Name of the model.
    engine : str, default: "auto"
        Name of the engine.
    window : tuple of float, optional
        Center and width in HU for pictures, as in :func:`strokeseg.segment`.
    spacing_mm : tuple of float, optional
        Distances between slices, rows and columns in mm, as in :func:`strokeseg.segment`.
    order : {"auto", "lowest-first", "highest-first"}, default: "auto"
        Direction of stacks of pictures, as in :func:`strokeseg.segment`.
    operating_point : {"sensitive", "balanced", "specific"}, default: "balanced"
        Choice between missed hemorrhages and false alarms, as in :func:`strokeseg.segment`.
    threshold : float, optional
        Probability threshold of the outlines, as in :func:`strokeseg.segment`.
    smallest_ml : float, optional
        Leave out smaller lesions, ml.
    limit_memory_mb : int, optional
        Memory limit in MB for all workers of this machine together.
    timeout_s : float, optional
        Time limit for one study in seconds.
    retry_failed : bool, default: False
        Also retry the studies that failed permanently in an earlier call.
    progress : callable, optional
        Is called with a :class:`Progress` after each study.

    Returns
    -------
    Summary
        Counts of this call.

    Raises
    ------
    UsageError
        `usage`, if an argument is invalid, or Ray or a package for a kind of URL is not installed.
    UnreadableFile
        `unreadable`, if the manifest cannot be read.
    ModelError
        If the model cannot be used.
    NotWritable, DiskFull, Conflict
        `not-writable`, `disk-full`; `conflict`, if another batch is writing into ``out``.
    """
    start = time.monotonic()
    DecisionOptions(operating_point, threshold, smallest_ml).find_decision(models.load_card(model))
    decision = (operating_point, threshold, smallest_ml)
    settings = BatchSettings(Path(out).absolute(), tuple(formats), model, engine, window, spacing_mm, order, *decision)
    worker_count = host_resources.choose_worker_count(workers, limit_memory_mb)
    _check_arguments(settings, sources, timeout_s)
    with Journal(settings.out) as journal:
        studies, refusals = _list_studies(sources, None if list_file is None else Path(list_file))
        refusals += _remove_conflicting_ids(studies, journal)
        tasks, model_refusals = _select_tasks(studies, settings, journal, retry_failed)
        refusals += model_refusals
        pool: AbstractContextManager[Any] = ProcessPool(settings, worker_count, limit_memory_mb)
        if ray is not None:
            pool = RayCluster(settings, ray, workers)
        done = _run_tasks(tasks, pool, settings, journal, refusals, timeout_s, progress)
    ids = {study.id for study in studies} - {record.id for record in refusals}
    records = [journal.records[study_id] for study_id in ids if study_id in journal.records]
    successes = [record for record in records if record.failure is None]
    return Summary(
        studies=len(records) + len(refusals),
        done=done,
        before=len(successes) - done,
        failed=len(records) - len(successes) + len(refusals),
        with_blood=sum(record.row.hemorrhage is True for record in successes),
        seconds=round(time.monotonic() - start, 3),
    )


def _check_arguments(settings: BatchSettings, sources: Sequence[str | Path], timeout_s: float | None) -> None:
    if timeout_s is not None and timeout_s <= 0:
        raise UsageError(f"invalid time limit: {timeout_s:g} s", "Give more than 0 seconds.")
    out = settings.out.resolve()
    for source in sources:
        path = Path(source).expanduser().resolve()
        if path.is_dir() and (out == path or path in out.parents):
            raise UsageError(
                f"the output folder is inside the input folder: {settings.out}", "Name another one with -o."
            )
    outputs.check(settings.out / ".probe", settings.formats)
    models.load_weights(settings.model)
    atomic_write.check_writable(settings.out / result_tables.RESULTS_CSV, _REMEDY)


def _list_studies(sources: Sequence[str | Path], list_file: Path | None) -> tuple[list[BatchStudy], list[StudyRecord]]:
    """List the studies of the inputs and the refused inputs.

    If several studies have the same id, all of them are refused: it is not known which one is meant.
    """
    entries = [entry for source in sources for entry in inputs.find_studies(str(source))]
    entries += manifest.read_manifest(list_file) if list_file is not None else []
    studies = [entry for entry in entries if isinstance(entry, BatchStudy)]
    refusals = [entry for entry in entries if isinstance(entry, StudyRecord)]
    count = Counter(study.id.casefold() for study in studies)
    duplicates = [study for study in studies if count[study.id.casefold()] > 1]
    refusals += [
        _record_duplicate_id(study, f"{count[study.id.casefold()]} studies have the id {study.id}")
        for study in duplicates
    ]
    return [study for study in studies if count[study.id.casefold()] == 1], refusals


def _remove_conflicting_ids(studies: list[BatchStudy], journal: Journal) -> list[StudyRecord]:
    """Remove studies that would overwrite the result of another study of an earlier call."""
    earlier_paths = {
        record.id.casefold(): record.path for record in journal.records.values() if record.key and not record.failure
    }
    conflicts = [
        study
        for study in studies
        if earlier_paths.get(study.id.casefold(), escape_non_utf8(study.path)) != escape_non_utf8(study.path)
    ]
    for study in conflicts:
        studies.remove(study)
    return [
        _record_duplicate_id(study, f"an earlier study with another path has the id {study.id}") for study in conflicts
    ]


def _record_duplicate_id(study: BatchStudy, message: str) -> StudyRecord:
    remedy = "Give each study its own id in a manifest, or write the results into different folders."
    return record_failure(study, "", Failure(code=DUPLICATE_ID, message=message, remedy=remedy))


def _select_tasks(
    studies: Sequence[BatchStudy], settings: BatchSettings, journal: Journal, retry_failed: bool
) -> tuple[list[Task], list[StudyRecord]]:
    """Select the studies to segment: without a result, with a changed input, or after a transient failure."""
    tasks: list[Task] = []
    refusals: list[StudyRecord] = []
    for study in studies:
        try:
            task = Task(study, settings.compute_key(study))
        except StrokesegError as error:
            refusals.append(inputs.record_refusal(study.id, study.path, error))
            continue
        record = journal.records.get(study.id)
        if record is None or record.key != task.key:
            tasks.append(task)
        elif record.failure is None:
            tasks += [task] if result_files.find_damaged_files(settings.out / study.id, record) else []
        elif retry_failed or record.is_transient:
            tasks.append(task)
    return tasks, refusals


def _run_tasks(
    tasks: Sequence[Task],
    pool: AbstractContextManager[Any],
    settings: BatchSettings,
    journal: Journal,
    refusals: Sequence[StudyRecord],
    timeout_s: float | None,
    progress: Callable[[Progress], None] | None,
) -> int:
    """Segment the studies; the tables on disk are always complete, and up to date when this ends for any reason."""
    completed = failures = 0
    start = tables_written_at = time.monotonic()
    try:
        if tasks:
            with pool as workers:
                for record in scheduler.run_tasks(
                    _clean_before_each(tasks, settings, journal), workers, settings, timeout_s
                ):
                    journal.add(record)
                    completed, failures = completed + 1, failures + (record.failure is not None)
                    if progress is not None:
                        progress(Progress(completed, failures, len(tasks), time.monotonic() - start))
                    if time.monotonic() - tables_written_at > _TABLE_INTERVAL_S:
                        result_tables.write_tables(settings.out, journal.records.values(), refusals)
                        tables_written_at = time.monotonic()
    finally:
        result_tables.write_tables(settings.out, journal.records.values(), refusals)
    return completed - failures


def _clean_before_each(tasks: Sequence[Task], settings: BatchSettings, journal: Journal) -> Iterator[Task]:
    """Yield each task when a worker is free, after removing partial output of a killed batch and damaged results."""
    for task in tasks:
        worker.remove_partial_output(settings.out, task.study)
        record = journal.records.get(task.study.id)
        if record is not None and record.failure is None:
            result_files.clear_damaged_result(settings.out / task.study.id, record)
        yield task
