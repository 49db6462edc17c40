"""From inputs to a folder of results: list the studies, answer what is missing, keep the tables."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from strokeseg import atomic_write, outputs
from strokeseg.batch import host_resources, inputs, manifest, result_tables, scheduler, worker
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

_TABLE_INTERVAL_S = 30.0
_REMEDY = "Give a folder that you may write with -o."


@dataclass(frozen=True)
class Progress:
    """How far a batch is.

    Parameters
    ----------
    ended, failed : object
        Studies answered by this call, and how many of them have failed.
    to_do : object
        Of this call in all.
    seconds : object
        Since the first was handed out.
    """

    completed: int
    failed: int
    total: int
    elapsed_s: float

    @property
    def studies_per_second(self) -> float:
        """Studies a second."""
        return self.completed / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def remaining_s(self) -> float | None:
        """Seconds that the rest will take at this rate; None before the first has ended."""
        return (self.total - self.completed) / self.studies_per_second if self.completed else None


@dataclass(frozen=True)
class Summary:
    """What a call of :func:`run` did.

    Parameters
    ----------
    studies : int
        All that the inputs hold, wrong rows included.
    done : int
        Answered by this call.
    before : int
        Answered by an earlier call, and unchanged.
    failed : int
        Without a result: by this call, by an earlier one, or never begun.
    with_blood : int
        Of all that have a result.
    seconds : float
        Of this call.
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
    limit_memory_mb: int | None = None,
    timeout_s: float | None = None,
    retry_failed: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> Summary:
    """Segment many studies into one folder; a second call completes exactly what is missing.

    Each study's files lie in ``out/ID/``. ``results.csv`` (and ``results.parquet`` where pyarrow is installed) hold a
    row a study, ``failures.csv`` who has no result and why, ``journal.jsonl`` what a later call goes on from. A study
    is done again where its input, its options or its network have changed.

    Parameters
    ----------
    sources : sequence of str or Path
        Files, folders and URLs; docs/batch.md says what in them is a study.
    out : str or Path
        Folder, made if missing, outside of the sources.
    list_file : str or Path, optional
        A manifest, CSV or Parquet: path, and optionally id, window, spacing, model, series.
    workers : int, optional
        Processes (or actors) with one thread each; None is as many as cores and memory allow.
    ray : str, optional
        Address of a Ray cluster, "auto" or "local"; None is processes of this machine.
    formats, model, engine, window, spacing_mm : sequence of str, default: FORMATS
        As in :func:`strokeseg.segment`.
    limit_memory_mb : int, optional
        What all workers of this machine may use together.
    timeout_s : float, optional
        A study may take so long.
    retry_failed : bool, default: False
        Also try again what failed for good.
    progress : callable, optional
        Is called when a study has ended.

    Raises
    ------
    UsageError
        `usage`, of an argument; or Ray or a package for a kind of URL is missing.
    UnreadableFile
        `unreadable`, if the manifest is none.
    ModelError
        If the network cannot be used.
    NotWritable, DiskFull, Conflict
        `not-writable`, `disk-full`; `conflict`, if another batch writes into ``out``.
    """
    start = time.monotonic()
    settings = BatchSettings(Path(out).absolute(), tuple(formats), model, engine, window, spacing_mm)
    count = host_resources.choose_worker_count(workers, limit_memory_mb)
    _check_arguments(settings, sources, timeout_s)
    with Journal(settings.out) as journal:
        studies, refused = _list_studies(sources, None if list_file is None else Path(list_file))
        refused += _remove_conflicting_ids(studies, journal)
        tasks, unusable = _select_tasks(studies, settings, journal, retry_failed)
        refused += unusable
        hands: AbstractContextManager[Any] = ProcessPool(settings, count, limit_memory_mb)
        if ray is not None:
            hands = RayCluster(settings, ray, workers)
        done = _run_tasks(tasks, hands, settings, journal, refused, timeout_s, progress)
    ids = {study.id for study in studies} - {record.id for record in refused}
    ended = [journal.records[each] for each in ids if each in journal.records]
    whole = [record for record in ended if record.failure is None]
    return Summary(
        studies=len(ended) + len(refused),
        done=done,
        before=len(whole) - done,
        failed=len(ended) - len(whole) + len(refused),
        with_blood=sum(record.row.hemorrhage is True for record in whole),
        seconds=round(time.monotonic() - start, 3),
    )


def _check_arguments(settings: BatchSettings, sources: Sequence[str | Path], timeout_s: float | None) -> None:
    if timeout_s is not None and timeout_s <= 0:
        raise UsageError(f"a time limit of {timeout_s:g} s", "Give more than 0 seconds.")
    out = settings.out.resolve()
    for source in sources:
        whole = Path(source).expanduser().resolve()
        if whole.is_dir() and (out == whole or whole in out.parents):
            raise UsageError(f"the results would lie in the input folder: {settings.out}", "Name another one with -o.")
    outputs.check(settings.out / ".probe", settings.formats)
    models.load_weights(settings.model)
    atomic_write.check_writable(settings.out / result_tables.RESULTS_CSV, _REMEDY)


def _list_studies(sources: Sequence[str | Path], list_file: Path | None) -> tuple[list[BatchStudy], list[StudyRecord]]:
    """List every study once, and what is none; of studies with one id none is taken: which is meant is unknown."""
    found = [each for source in sources for each in inputs.find_studies(str(source))]
    found += manifest.read_manifest(list_file) if list_file is not None else []
    studies = [each for each in found if isinstance(each, BatchStudy)]
    refused = [each for each in found if isinstance(each, StudyRecord)]
    count = Counter(study.id.casefold() for study in studies)
    twice = [study for study in studies if count[study.id.casefold()] > 1]
    refused += [
        _record_duplicate_id(study, f"{count[study.id.casefold()]} studies have the id {study.id}") for study in twice
    ]
    return [study for study in studies if count[study.id.casefold()] == 1], refused


def _remove_conflicting_ids(studies: list[BatchStudy], journal: Journal) -> list[StudyRecord]:
    """Take out of the list what would overwrite the result of another study of an earlier call."""
    earlier = {
        record.id.casefold(): record.path for record in journal.records.values() if record.key and not record.failure
    }
    taken = [
        study
        for study in studies
        if earlier.get(study.id.casefold(), escape_non_utf8(study.path)) != escape_non_utf8(study.path)
    ]
    for study in taken:
        studies.remove(study)
    return [_record_duplicate_id(study, f"{study.id} is the id of an earlier study of another path") for study in taken]


def _record_duplicate_id(study: BatchStudy, message: str) -> StudyRecord:
    remedy = "Give each its own id in a manifest, or write them into different folders."
    return record_failure(study, "", Failure(code=DUPLICATE_ID, message=message, remedy=remedy))


def _select_tasks(
    studies: Sequence[BatchStudy], settings: BatchSettings, journal: Journal, retry_failed: bool
) -> tuple[list[Task], list[StudyRecord]]:
    """Choose what is to be answered: what has no result, or one of another input, and what failed in passing."""
    tasks: list[Task] = []
    unusable: list[StudyRecord] = []
    for study in studies:
        try:
            task = Task(study, settings.compute_key(study))
        except StrokesegError as error:
            unusable.append(inputs.record_refusal(study.id, study.path, error))
            continue
        record = journal.records.get(study.id)
        if record is None or record.key != task.key:
            tasks.append(task)
        elif record.failure is None:
            tasks += [] if (settings.out / study.id / "result.json").is_file() else [task]
        elif retry_failed or record.is_transient:
            tasks.append(task)
    return tasks, unusable


def _run_tasks(
    tasks: Sequence[Task],
    hands: AbstractContextManager[Any],
    settings: BatchSettings,
    journal: Journal,
    refused: Sequence[StudyRecord],
    timeout_s: float | None,
    progress: Callable[[Progress], None] | None,
) -> int:
    """Answer what is missing; the tables are whole at every moment, and up to date at the end, whatever it is."""
    ended = failures = 0
    start = saved = time.monotonic()
    try:
        if tasks:
            with hands as workers:
                for record in scheduler.run_tasks(_clean_before_each(tasks, settings), workers, settings, timeout_s):
                    journal.add(record)
                    ended, failures = ended + 1, failures + (record.failure is not None)
                    if progress is not None:
                        progress(Progress(ended, failures, len(tasks), time.monotonic() - start))
                    if time.monotonic() - saved > _TABLE_INTERVAL_S:
                        result_tables.write_tables(settings.out, journal.records.values(), refused)
                        saved = time.monotonic()
    finally:
        result_tables.write_tables(settings.out, journal.records.values(), refused)
    return ended - failures


def _clean_before_each(tasks: Sequence[Task], settings: BatchSettings) -> Iterator[Task]:
    """Return the studies, each when a worker is free; what a killed batch left half-made of it goes away before."""
    for task in tasks:
        worker.remove_partial_output(settings.out, task.study)
        yield task
