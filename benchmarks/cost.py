"""What many scans take and cost: from the seconds that a scan was measured to take, and stated assumptions.

`benchmarks/cost.json` holds the figures, :mod:`benchmarks.cost_page` draws docs/cost.md from it.
"""

from __future__ import annotations

import datetime
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from benchmarks import machine as host
from benchmarks import queueing
from strokeseg import pipeline, segmentation
from strokeseg.batch.records import FORMATS
from strokeseg.errors import InputError, TrainError
from strokeseg.reading import read_one
from strokeseg.scan import Scan

Say = Callable[[str], None]
_Answer = TypeVar("_Answer")

_DAY_S, _YEAR_S = 86_400, 365 * 86_400


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)


class Measured(_Model):
    """Seconds of one core for a scan, a line in its slices: processor time, which other work changes little."""

    machine: str
    model: str
    engine: str
    repeats: int
    slices: tuple[int, int] = Field(description="of the two scans that the line goes through")
    seconds: tuple[float, float] = Field(description="of each, least of the repeats: read, answered, measured, saved")
    network_s: tuple[float, float] = Field(description="of that the network's")

    def of(self, slices: float) -> float:
        """Return the seconds of one core for a scan of so many slices."""
        return _on_line(self.slices, self.seconds, slices)

    def without_network(self, slices: float) -> float:
        """Return the seconds that would be left if the network took no time."""
        return self.of(slices) - _on_line(self.slices, self.network_s, slices)


class Assumptions(_Model):
    """What was not measured."""

    fewest_slices: int = 24
    most_slices: int = 56
    euros_per_core_hour: float = 0.04
    busy: float = Field(default=0.9, description="share of the time for which a core that is paid works, in a batch")
    peak: float = Field(default=3.0, description="arrivals of the busiest hour over those of the mean one")
    wait_s: float = Field(default=60.0, description="95 of 100 scans wait no longer for a worker, in that hour")
    a_year: tuple[int, ...] = (10_000, 100_000, 1_000_000)

    @property
    def slices(self) -> float:
        """Of the mean scan."""
        return (self.fewest_slices + self.most_slices) / 2


class Service(_Model):
    """Workers that answer scans as they come."""

    scans_a_year: int
    per_hour_at_peak: float
    workers: int
    wait_95_s: float
    load: float = Field(description="share of the time for which a worker is busy in the busiest hour")
    euros_per_thousand: float = Field(description="all workers paid all year")


class Figures(_Model):
    """`benchmarks/cost.json`."""

    schema_: Literal["strokeseg.cost/1"] = Field(default="strokeseg.cost/1", alias="schema")
    date: str
    measured: Measured
    assumed: Assumptions
    scan_s: float = Field(description="of one core, mean scan")
    scans_per_core_day: float
    scans_per_core_day_without_network: float
    euros_per_thousand: float
    core_hours_per_million: float
    euros_per_million: float
    services: list[Service]


def run(samples: Path, assumed: Assumptions, *, model: str = "default", repeats: int = 3, say: Say) -> Figures:
    """Measure two scans and draw up the figures.

    Parameters
    ----------
    samples : Path
        Folder of the sample scans.
    repeats : int, default: 3
        How often each is measured.

    Raises
    ------
    TrainError
        `train`, if the samples are not there.
    """
    return figures(measure(samples, model, repeats, say), assumed)


def measure(samples: Path, model: str, repeats: int, say: Say) -> Measured:
    """Take the processor time of a whole scan and of every other slice of it, by one thread; see :func:`run`."""
    try:
        whole = samples / "ge_head.zip"
        read_s, scan = _timed(lambda: read_one(whole))
    except InputError as error:
        raise TrainError(f"{samples}: the sample scan is not there: {error.message}", "Run it in a clone.") from None
    half = Scan.from_array(np.ascontiguousarray(scan.hu[::2]), spacing_mm=(10.0, 0.45, 0.45))
    engine = segmentation.load_engine(model, "auto", 1)
    say(f"measuring {repeats} times {scan.shape[0]} and {half.shape[0]} slices")
    found: list[tuple[float, float]] = []
    for one, own_read_s in ((half, read_s / 2), (scan, read_s)):
        runs = [_once(one, model) for _ in range(repeats)]
        best = min(runs)
        network_s = min(_timed(lambda one=one: segmentation.predict(one, engine))[0] for _ in range(repeats))  # type: ignore[misc]
        found.append((round(best + own_read_s, 4), round(network_s, 4)))
    return Measured(
        machine=host.describe_machine(),
        model=model,
        engine=engine.name,
        repeats=repeats,
        slices=(half.shape[0], scan.shape[0]),
        seconds=(found[0][0], found[1][0]),
        network_s=(found[0][1], found[1][1]),
    )


def _once(scan: Scan, model: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        return _timed(lambda: pipeline.segment(scan, model=model, threads=1).save(folder, FORMATS))[0]


def _timed(call: Callable[[], _Answer]) -> tuple[float, _Answer]:
    start = time.process_time()
    answer = call()
    return time.process_time() - start, answer


def figures(measured: Measured, assumed: Assumptions) -> Figures:
    """Draw up what follows from measured seconds and assumptions; the same ones give the same figures."""
    scan_s = measured.of(assumed.slices)
    paid_s = scan_s / assumed.busy
    euros = paid_s / 3600 * assumed.euros_per_core_hour
    return Figures(
        date=datetime.date.today().isoformat(),
        measured=measured,
        assumed=assumed,
        scan_s=round(scan_s, 3),
        scans_per_core_day=round(_DAY_S / paid_s),
        scans_per_core_day_without_network=round(_DAY_S / measured.without_network(assumed.slices) * assumed.busy),
        euros_per_thousand=round(1000 * euros, 3),
        core_hours_per_million=round(1e6 * paid_s / 3600),
        euros_per_million=round(1e6 * euros),
        services=[_service(count, measured, assumed) for count in assumed.a_year],
    )


def _service(a_year: int, measured: Measured, assumed: Assumptions) -> Service:
    per_second = a_year / _YEAR_S * assumed.peak

    def service_s(draw: np.random.Generator) -> float:
        return measured.of(int(draw.integers(assumed.fewest_slices, assumed.most_slices + 1)))

    mean_s = measured.of(assumed.slices)
    workers = queueing.workers_needed(per_second, service_s, mean_s, assumed.wait_s)
    waits = queueing.waits_s(per_second, service_s, workers, 20_000, seed=1)
    euros = workers * _YEAR_S / 3600 * assumed.euros_per_core_hour
    return Service(
        scans_a_year=a_year,
        per_hour_at_peak=round(per_second * 3600, 1),
        workers=workers,
        wait_95_s=round(float(np.quantile(waits, 0.95)), 1),
        load=round(per_second * mean_s / workers, 3),
        euros_per_thousand=round(1000 * euros / a_year, 2),
    )


def _on_line(at: tuple[int, int], values: tuple[float, float], where: float) -> float:
    slope = (values[1] - values[0]) / (at[1] - at[0])
    return values[0] + slope * (where - at[0])
