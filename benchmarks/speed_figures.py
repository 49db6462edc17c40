"""The figures of `benchmarks/speed.json`.

Processor time is stored beside wall time, because other programs on the machine hardly change it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.engine_agreement import Agreement
from strokeseg.errors import TrainError

SCAN_SLICES = 40
SLICE_COUNTS = (20, 40, 80, 160, 320)
MANY_SLICES = 600


class _FiguresModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Durations(_FiguresModel):
    """Seconds of repeated runs: wall time, and processor time over all cores."""

    clock: float = Field(description="wall time of the fastest run")
    clock_median: float
    processor: float = Field(description="minimum over the runs")


class Machine(_FiguresModel):
    """The machine that the figures were measured on."""

    processor: str
    cores: int
    memory_gib: float | None
    flags: list[str]
    python: str
    packages: dict[str, str]
    load: float = Field(description="load average of one minute at the start")


class NetworkSpeed(_FiguresModel):
    """Speed of one network on one engine."""

    model: str
    engine: str
    precision: str
    gflop: float = Field(description="10^9 operations per slice; a multiplication and an addition count as two")
    slice_s: Durations
    limit: float | None = Field(description="share of the matrix product's operations per second at this precision")


class ScanSpeed(_FiguresModel):
    """Speed of a whole scan."""

    model: str
    engine: str
    slices: int
    seconds: Durations
    steps: dict[str, float] = Field(description="seconds of each step in the fastest run")
    yardstick: Durations | None = Field(
        default=None, description="one slice of the reference network, in the same rounds"
    )
    peak_mb: float | None = None


class SpeedFigures(_FiguresModel):
    """All figures of `benchmarks/speed.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    schema_: Literal["strokeseg.speed/1"] = Field(default="strokeseg.speed/1", alias="schema")
    date: str
    machine: Machine
    rounds: int
    matrix: dict[str, float] = Field(description="precision: 10^9 operations per second of one core in a large product")
    yardstick: NetworkSpeed = Field(description="the reference network")
    networks: list[NetworkSpeed]
    parts: dict[str, float] = Field(description="operation: share of the default network's time")
    warm: list[ScanSpeed]
    cold: list[ScanSpeed]
    saves: dict[str, Durations] = Field(description="of a result of 40 slices, by the formats saved together")
    surface: Durations = Field(description="of the brain")
    line: list[ScanSpeed]
    many: ScanSpeed | None
    start: dict[str, Durations]
    resident_mb: list[float] = Field(description="memory of one process after each of several scans")
    joule_a_slice: float | None
    agreement: list[Agreement]


def read_figures(path: Path) -> SpeedFigures:
    """Read stored figures.

    Parameters
    ----------
    path : Path
        The file, such as benchmarks/speed.json.

    Returns
    -------
    SpeedFigures
        The figures.

    Raises
    ------
    TrainError
        `train`, if the file cannot be read.
    """
    try:
        return SpeedFigures.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise TrainError(f"{path}: no figures of `python -m benchmarks speed`", "Name another file.") from error
