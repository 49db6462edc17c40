"""Many scans through `strokeseg batch`: the rate, the memory of every worker over time, and what Ray costs.

`benchmarks/batch.json` holds the figures, docs/batch.md shows them.
"""

from __future__ import annotations

import datetime
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from benchmarks import machine as host
from benchmarks import synthetic_series
from strokeseg.batch import inputs, scheduler
from strokeseg.batch.process_pool import ProcessPool
from strokeseg.batch.ray_cluster import LOCAL, RayCluster
from strokeseg.batch.records import BatchSettings, BatchStudy, Task
from strokeseg.errors import InputError, TrainError
from strokeseg.reading import read_one

Log = Callable[[str], None]

_WINDOW, _SPACING_MM = (40.0, 120.0), (5.0, 0.9, 0.9)
_MEMORY_SAMPLES = 40
_WHOLE_SCAN_SLICES = 20
_START = "<!-- figures of `strokeseg bench batch` -->\n"
_END = "<!-- end of the figures -->\n"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class MemorySample(_Model):
    """How much memory a worker held when so many scans had ended, MB, mean over the workers."""

    ended: int
    worker_mb: float


class BatchRun(_Model):
    """All scans through one kind of workers."""

    workers: int
    scans: int
    failed: int
    seconds: float
    per_second: float = Field(description="from the moment on at which each worker has answered once")
    memory: list[MemorySample]
    growth: float = Field(description="memory of a worker in the last tenth over that in the second tenth, less 1")


class RatePair(_Model):
    """Two ways side by side: rates, scans a second, of each round."""

    one: list[float]
    other: list[float]

    @property
    def ratio(self) -> float:
        """The median over rounds of the other's rate over the one's."""
        return statistics.median(other / one for one, other in zip(self.one, self.other, strict=True))


class BatchFigures(_Model):
    """`benchmarks/batch.json`."""

    schema_: Literal["benchmarks-batch/1"] = Field(default="benchmarks-batch/1", alias="schema")
    date: str
    machine: str
    model: str
    slices: int
    pool: BatchRun
    ray: BatchRun | None
    second_worker: RatePair = Field(description="1 worker of 1 thread; 2 workers of 1 thread")
    second_thread: RatePair = Field(description="1 worker of 1 thread; 1 worker of 2 threads")
    ray_against_pool: RatePair | None = Field(description="2 processes; 2 actors")


def run(
    samples: Path,
    scans: int,
    *,
    slices: int = 3,
    rounds: int = 3,
    scans_per_round: int = 12,
    model: str = "default",
    ray: bool = True,
    log: Log,
) -> BatchFigures:
    """Make scans, answer all of them by each kind of workers, and compare the kinds in rounds.

    Parameters
    ----------
    samples : Path
        Folder of the sample scans.
    scans : int
        How many: copies of real ones, each cut to some slices, moved and with noise of its own.
    slices : int, default: 3
        Of each scan.
    rounds, of_round : int, default: 3
        How often the kinds are compared, and on how many whole scans of 20 slices.
    ray : bool, default: True
        Also through Ray.
    say : object
        Is told what goes on.

    Raises
    ------
    TrainError
        `train`, if the samples are not there.
    """
    with tempfile.TemporaryDirectory(prefix="strokeseg-bench-") as folder:
        place = Path(folder)
        log(f"making {scans:,} scans")
        studies = list(_make_scans(samples, place / "scans", scans, slices))
        settings = BatchSettings(place / "out", window=_WINDOW, spacing_mm=_SPACING_MM, model=model)
        tasks = [Task(study, settings.compute_key(study)) for study in studies]
        whole = synthetic_series.write_series(samples / "ge_head.zip", _WHOLE_SCAN_SLICES, place / "whole")
        again = [
            BatchStudy(f"whole_{number:02}", str(whole), inputs.compute_fingerprint(whole))
            for number in range(scans_per_round)
        ]
        pairs = _compare_workers(
            [Task(study, settings.compute_key(study)) for study in again], settings, rounds, ray, log
        )
        log(f"{scans:,} scans through 2 processes")
        of_pool = _run_all(tasks, ProcessPool(settings, 2), settings, "spawn_main", log)
        of_ray = None
        if ray:
            log(f"{scans:,} scans through 2 Ray actors")
            of_ray = _run_all(tasks, RayCluster(settings, LOCAL, 2), settings, "ray::_Server", log)
    return BatchFigures(
        date=datetime.date.today().isoformat(),
        machine=host.describe_machine(),
        model=model,
        slices=slices,
        pool=of_pool,
        ray=of_ray,
        **pairs,
    )


def _compare_workers(tasks: list[Task], settings: BatchSettings, rounds: int, ray: bool, say: Log) -> dict[str, Any]:
    """Run the kinds in turn: on a machine that others use too, only rates of one moment can be compared."""
    rates: dict[str, list[float]] = {name: [] for name in ("1x1", "1x2", "2x1", "ray")}
    two_threads = BatchSettings(**{**settings.__dict__, "threads": 2})
    for number in range(rounds):
        say(f"round {number + 1} of {rounds}")
        rates["1x1"].append(_measure_rate(tasks, ProcessPool(settings, 1), settings, 1))
        rates["2x1"].append(_measure_rate(tasks, ProcessPool(settings, 2), settings, 2))
        rates["1x2"].append(_measure_rate(tasks, ProcessPool(two_threads, 1), two_threads, 1))
        if ray:
            rates["ray"].append(_measure_rate(tasks, RayCluster(settings, LOCAL, 2), settings, 2))
    return {
        "second_worker": RatePair(one=rates["1x1"], other=rates["2x1"]),
        "second_thread": RatePair(one=rates["1x1"], other=rates["1x2"]),
        "ray_against_pool": RatePair(one=rates["2x1"], other=rates["ray"]) if ray else None,
    }


def _measure_rate(
    tasks: list[Task], hands: AbstractContextManager[Any], settings: BatchSettings, workers: int
) -> float:
    with hands as workers_of:
        ends = [time.monotonic() for _ in scheduler.run_tasks(iter(tasks), workers_of, settings)]
    return _compute_rate(ends, workers)


def _compute_rate(ends: list[float], workers: int) -> float:
    return round((len(ends) - workers) / (ends[-1] - ends[workers - 1]), 4)


def _run_all(
    tasks: list[Task], hands: AbstractContextManager[Any], settings: BatchSettings, mark: str, say: Log
) -> BatchRun:
    start, failed = time.monotonic(), 0
    ends: list[float] = []
    memory: list[MemorySample] = []
    every = max(1, len(tasks) // _MEMORY_SAMPLES)
    with hands as workers:
        for record in scheduler.run_tasks(iter(tasks), workers, settings):
            ends.append(time.monotonic())
            failed += record.failure is not None
            if len(ends) % every == 0:
                memory.append(MemorySample(ended=len(ends), worker_mb=round(host.measure_worker_mb(mark), 1)))
            if len(ends) % 100 == 0:
                say(f"{len(ends):,} of {len(tasks):,}, {len(ends) / (ends[-1] - start):.2f} a second")
    return BatchRun(
        workers=2,
        scans=len(ends),
        failed=failed,
        seconds=round(ends[-1] - start, 1),
        per_second=_compute_rate(ends, 2),
        memory=memory,
        growth=round(_compute_growth(memory), 4),
    )


def _compute_growth(memory: list[MemorySample]) -> float:
    """Compare the last tenth with the second one: in the first, buffers still come to their size."""
    tenth = max(1, len(memory) // 10)
    early = statistics.mean(point.worker_mb for point in memory[tenth : 2 * tenth] or memory)
    late = statistics.mean(point.worker_mb for point in memory[-tenth:])
    return late / early - 1


def _make_scans(samples: Path, folder: Path, count: int, slices: int) -> Iterator[BatchStudy]:
    """Make small scans: in turn slabs of a CT as NIfTI, and pictures of a head with blood."""
    try:
        head = read_one(samples / "ge_head.zip")
        stack = read_one(samples / "ctich_081", window=_WINDOW, spacing_mm=(5.0, 0.45, 0.45))
    except InputError as error:
        raise TrainError(f"{samples}: the sample scans are not there: {error.message}", "Run it in a clone.") from None
    folder.mkdir()
    for number in range(count):
        draw = np.random.default_rng(number)
        if number % 2:
            path = _write_pictures(folder / f"scan_{number:05}", _vary(stack.hu[:, ::2, ::2], slices, draw))
        else:
            path = _write_volume(folder / f"scan_{number:05}.nii.gz", _vary(head.hu[:, ::2, ::2], slices, draw))
        yield BatchStudy(f"scan_{number:05}", str(path), inputs.compute_fingerprint(path))


def _vary(hu: Any, slices: int, draw: np.random.Generator) -> Any:
    """Cut slices out of the middle of a head, move them by some pixels and add noise of 2 HU."""
    first = int(draw.integers(len(hu) // 3, 2 * len(hu) // 3 - slices + 1))
    moved = np.roll(hu[first : first + slices], draw.integers(-6, 7, 2), axis=(1, 2))
    return np.clip(moved + draw.normal(0, 2, moved.shape), -1024, 3071).round().astype(np.int16)


def _write_volume(path: Path, hu: Any) -> Path:
    import nibabel

    affine = np.diag([-_SPACING_MM[2], -_SPACING_MM[1], _SPACING_MM[0], 1.0])
    nibabel.save(nibabel.Nifti1Image(hu.transpose(2, 1, 0), affine), path)
    return path


def _write_pictures(path: Path, hu: Any) -> Path:
    from PIL import Image

    path.mkdir()
    centre, width = _WINDOW
    grey = np.clip((hu - centre + width / 2) / width * 255, 0, 255).astype(np.uint8)
    for number, plane in enumerate(grey):
        Image.fromarray(plane).save(path / f"{number}.png")
    return path


def render_figures(found: BatchFigures) -> str:
    """Write the part of docs/batch.md that shows the figures."""
    pool, ray = found.pool, found.ray
    lines = [
        f"Measured on {found.date} on {found.machine}; network `{found.model}`, scans of {found.slices} slices:",
        "copies of the samples, each moved and with noise of its own.",
        "",
        "| | scans | failed | workers | a second | memory of a worker, second tenth to last tenth |",
        "|---|---|---|---|---|---|",
        _render_row("processes", pool),
        *([_render_row("Ray actors", ray)] if ray else []),
        "",
        f"- Of whole scans ({_WHOLE_SCAN_SLICES} slices of 512 x 512, DICOM) two workers of one thread give "
        f"{found.second_worker.ratio:.2f} times what one gives; one worker of two threads gives "
        f"{found.second_thread.ratio:.2f} times.",
    ]
    if found.ray_against_pool:
        lines.append(f"- Two Ray actors give {found.ray_against_pool.ratio:.2f} times what two processes give.")
    spread = ", ".join(f"{rate:.2f}" for rate in found.second_worker.one)
    lines.append(
        f"- Ratios are medians of {len(found.second_worker.one)} rounds in which the kinds run in turn. One worker "
        f"alone gave {spread} scans a second in them: where these differ much, other work was on the machine, and the "
        "ratios and rates say little."
    )
    return "\n".join(lines) + "\n"


def _render_row(name: str, run: BatchRun) -> str:
    tenth = max(1, len(run.memory) // 10)
    early, late = run.memory[tenth].worker_mb, run.memory[-1].worker_mb
    memory = f"{early:.0f} to {late:.0f} MB ({run.growth:+.1%})"
    return f"| {name} | {run.scans:,} | {run.failed} | {run.workers} | {run.per_second:.2f} | {memory} |"


def insert_figures(page: str, found: BatchFigures) -> str:
    """Put the figures into docs/batch.md, between their marks.

    Raises
    ------
    TrainError
        `train`, if the page has no such marks.
    """
    before, start, rest = page.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise TrainError("the page has no place for the figures", f"Add the lines {_START.strip()} and {_END.strip()}.")
    return f"{before}{start}{render_figures(found)}{end}{after}"
