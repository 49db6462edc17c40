"""Rate and memory of `strokeseg batch` with many scans, by processes and by Ray: `python -m benchmarks batch`.

`benchmarks/batch.json` holds the figures; docs/batch.md shows them.
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

from benchmarks import synthetic_series
from benchmarks.machine import describe_machine, measure_worker_mb
from benchmarks.page import render_template
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
_START = "<!-- figures of `python -m benchmarks batch` -->\n"
_END = "<!-- end of the figures -->\n"


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class MemorySample(_Model):
    """Mean memory of the workers in MB after a number of scans."""

    ended: int
    worker_mb: float


class BatchRun(_Model):
    """All scans with one kind of workers."""

    workers: int
    scans: int
    failed: int
    seconds: float
    per_second: float = Field(description="scans per second, from the first result of every worker")
    memory: list[MemorySample]
    growth: float = Field(description="relative growth of a worker's memory from the second to the last tenth")


class RatePair(_Model):
    """Rates of two kinds of workers in each round, scans per second."""

    one: list[float]
    other: list[float]

    @property
    def ratio(self) -> float:
        """Median over the rounds of the second rate divided by the first."""
        return statistics.median(other / one for one, other in zip(self.one, self.other, strict=True))


class BatchFigures(_Model):
    """All figures of `benchmarks/batch.json`."""

    schema_: Literal["strokeseg.bench-batch/1"] = Field(default="strokeseg.bench-batch/1", alias="schema")
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
    """Make scans, segment them with each kind of workers, and compare the kinds in rounds.

    Parameters
    ----------
    samples : Path
        Folder of the sample scans.
    scans : int
        Number of scans: slices of the samples, shifted, with noise.
    slices : int, default: 3
        Slices per scan.
    rounds, scans_per_round : int
        Number of comparisons, and of whole scans of 20 slices in each.
    model : str, default: "default"
        Name of the network.
    ray : bool, default: True
        Also measure Ray.
    log : callable
        Takes a line on the progress.

    Returns
    -------
    BatchFigures
        The figures.

    Raises
    ------
    TrainError
        `train`, if the samples are missing.
    """
    with tempfile.TemporaryDirectory(prefix="strokeseg-bench-") as folder:
        root = Path(folder)
        log(f"making {scans:,} scans")
        studies = list(_make_scans(samples, root / "scans", scans, slices))
        settings = BatchSettings(root / "out", window=_WINDOW, spacing_mm=_SPACING_MM, model=model)
        tasks = [Task(study, settings.compute_key(study)) for study in studies]
        whole = synthetic_series.write_series(samples / "ge_head.zip", _WHOLE_SCAN_SLICES, root / "whole")
        repeated = [
            BatchStudy(f"whole_{number:02}", str(whole), inputs.compute_fingerprint(whole))
            for number in range(scans_per_round)
        ]
        pairs = _compare_workers(
            [Task(study, settings.compute_key(study)) for study in repeated], settings, rounds, ray, log
        )
        log(f"{scans:,} scans through 2 processes")
        of_pool = _run_all(tasks, ProcessPool(settings, 2), settings, "spawn_main", log)
        of_ray = None
        if ray:
            log(f"{scans:,} scans through 2 Ray actors")
            of_ray = _run_all(tasks, RayCluster(settings, LOCAL, 2), settings, "ray::_WorkerActor", log)
    return BatchFigures(
        date=datetime.date.today().isoformat(),
        machine=describe_machine(),
        model=model,
        slices=slices,
        pool=of_pool,
        ray=of_ray,
        **pairs,
    )


def _compare_workers(tasks: list[Task], settings: BatchSettings, rounds: int, ray: bool, log: Log) -> dict[str, Any]:
    """Measure the kinds of workers in turn, because the load of the machine may change over time."""
    rates: dict[str, list[float]] = {name: [] for name in ("1x1", "1x2", "2x1", "ray")}
    two_threads = BatchSettings(**{**settings.__dict__, "threads": 2})
    for number in range(rounds):
        log(f"round {number + 1} of {rounds}")
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


def _measure_rate(tasks: list[Task], pool: AbstractContextManager[Any], settings: BatchSettings, workers: int) -> float:
    with pool as processes:
        ends = [time.monotonic() for _ in scheduler.run_tasks(iter(tasks), processes, settings)]
    return _compute_rate(ends, workers)


def _compute_rate(ends: list[float], workers: int) -> float:
    return round((len(ends) - workers) / (ends[-1] - ends[workers - 1]), 4)


def _run_all(
    tasks: list[Task], pool: AbstractContextManager[Any], settings: BatchSettings, command_part: str, log: Log
) -> BatchRun:
    start, failed = time.monotonic(), 0
    ends: list[float] = []
    memory: list[MemorySample] = []
    interval = max(1, len(tasks) // _MEMORY_SAMPLES)
    with pool as workers:
        for record in scheduler.run_tasks(iter(tasks), workers, settings):
            ends.append(time.monotonic())
            failed += record.failure is not None
            if len(ends) % interval == 0:
                memory.append(MemorySample(ended=len(ends), worker_mb=round(measure_worker_mb(command_part), 1)))
            if len(ends) % 100 == 0:
                log(f"{len(ends):,} of {len(tasks):,}, {len(ends) / (ends[-1] - start):.2f} per second")
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
    """Compare the last tenth of the samples with the second; in the first, buffers are still allocated."""
    tenth = max(1, len(memory) // 10)
    early = statistics.mean(sample.worker_mb for sample in memory[tenth : 2 * tenth] or memory)
    late = statistics.mean(sample.worker_mb for sample in memory[-tenth:])
    return late / early - 1


def _make_scans(samples: Path, folder: Path, count: int, slices: int) -> Iterator[BatchStudy]:
    """Make small scans: alternately slabs of a CT as NIfTI, and pictures of a head with hemorrhage."""
    try:
        head = read_one(samples / "ge_head.zip")
        stack = read_one(samples / "ctich_081", window=_WINDOW, spacing_mm=(5.0, 0.45, 0.45))
    except InputError as error:
        raise TrainError(f"{samples}: the sample scans are missing: {error.message}", "Run it in a clone.") from None
    folder.mkdir()
    for number in range(count):
        draw = np.random.default_rng(number)
        if number % 2:
            path = _write_pictures(folder / f"scan_{number:05}", _vary(stack.hu[:, ::2, ::2], slices, draw))
        else:
            path = _write_volume(folder / f"scan_{number:05}.nii.gz", _vary(head.hu[:, ::2, ::2], slices, draw))
        yield BatchStudy(f"scan_{number:05}", str(path), inputs.compute_fingerprint(path))


def _vary(hu: Any, slices: int, draw: np.random.Generator) -> Any:
    """Cut slices from the middle of a head, shift them by some pixels and add noise of 2 HU."""
    first = int(draw.integers(len(hu) // 3, 2 * len(hu) // 3 - slices + 1))
    shifted = np.roll(hu[first : first + slices], draw.integers(-6, 7, 2), axis=(1, 2))
    return np.clip(shifted + draw.normal(0, 2, shifted.shape), -1024, 3071).round().astype(np.int16)


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


def render_figures(figures: BatchFigures) -> str:
    """Render the section of docs/batch.md with the figures."""
    runs = [("processes", figures.pool), *([("Ray actors", figures.ray)] if figures.ray else [])]
    return render_template(
        "batch.md.j2",
        figures=figures,
        whole_scan_slices=_WHOLE_SCAN_SLICES,
        rows=[(name, run, run.memory[max(1, len(run.memory) // 10)].worker_mb) for name, run in runs],
    )


def insert_figures(page: str, figures: BatchFigures) -> str:
    """Insert the figures into docs/batch.md, between their marks.

    Parameters
    ----------
    page : str
        The page.
    figures : BatchFigures
        The figures.

    Returns
    -------
    str
        The page with the figures.

    Raises
    ------
    TrainError
        `train`, if the page lacks the marks.
    """
    before, start, rest = page.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        remedy = f"Add the lines {_START.strip()} and {_END.strip()}."
        raise TrainError("the page lacks the marks of the figures", remedy)
    return f"{before}{start}{render_figures(figures)}{end}{after}"
