"""How quick StrokeSeg is, beside the predecessor's network and beside what the processor can do.

`benchmarks/speed.json` holds the figures, :mod:`benchmarks.speed_page` draws docs/speed.md from it. Seconds of the
processor are given beside seconds on the clock: other programs on the machine hardly change them.
"""

from __future__ import annotations

import datetime
import os
import platform
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from benchmarks.engine_agreement import Agreement
from strokeseg import atomic_write
from strokeseg.errors import TrainError, UnreadableFile

Log = Callable[[str], None]
SCAN_SLICES = 40
SLICE_COUNTS = (20, 40, 80, 160, 320)
MANY_SLICES = 600


class _FiguresModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Durations(_FiguresModel):
    """Of several runs: on the clock, and of the processor over all its cores."""

    clock: float = Field(description="the quickest run's")
    clock_median: float
    processor: float = Field(description="the least of any run")


class Machine(_FiguresModel):
    """On what it was measured."""

    processor: str
    cores: int
    memory_gib: float | None
    flags: list[str]
    python: str
    packages: dict[str, str]
    load: float = Field(description="programs that wanted a core beside ours when it began, mean over a minute")


class NetworkSpeed(_FiguresModel):
    """One network on one engine."""

    model: str
    engine: str
    precision: str
    gflop: float = Field(description="operations of a slice, 10^9; a multiplication and an addition are two")
    slice_s: Durations
    limit: float | None = Field(description="share of the matrix product's operations a second, at this precision")


class ScanSpeed(_FiguresModel):
    """A whole scan."""

    model: str
    engine: str
    slices: int
    seconds: Durations
    steps: dict[str, float] = Field(description="seconds of each step in the quickest run")
    yardstick: Durations | None = Field(default=None, description="a slice of the yardstick's, in the same rounds")
    peak_mb: float | None = None


class SpeedFigures(_FiguresModel):
    """`benchmarks/speed.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    schema_: Literal["strokeseg.speed/1"] = Field(default="strokeseg.speed/1", alias="schema")
    date: str
    machine: Machine
    rounds: int
    matrix: dict[str, float] = Field(description="precision: 10^9 operations a second of one core, a large product")
    yardstick: NetworkSpeed
    networks: list[NetworkSpeed]
    parts: dict[str, float] = Field(description="kind of operation: share of the default network's time")
    warm: list[ScanSpeed]
    cold: list[ScanSpeed]
    saves: dict[str, Durations] = Field(description="of a result of 40 slices, by which formats are saved together")
    surface: Durations = Field(description="of the brain, alone")
    line: list[ScanSpeed]
    many: ScanSpeed | None
    start: dict[str, Durations]
    resident_mb: list[float] = Field(description="of one process after each of several scans")
    joule_a_slice: float | None
    agreement: list[Agreement]


def read_figures(path: Path) -> SpeedFigures:
    """Read stored figures.

    Raises
    ------
    TrainError
        `train`, if the file cannot be read.
    """
    try:
        return SpeedFigures.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise TrainError(f"{path}: no figures of `strokeseg bench speed`", "Name another file.") from error


def run(results: Path, sample: Path, *, data: Path | None, rounds: int, quick: bool, log: Log) -> SpeedFigures:
    """Measure everything, in one run on the same slices, and store it.

    Parameters
    ----------
    results : Path
        File to write.
    sample : Path
        Samples/ge_head.zip.
    data : Path or None
        Folder of the data sets, for the engines' agreement; None leaves it out.
    rounds : int
        So often everything is measured, in turns.
    quick : bool
        Leave out the scans of more than 80 slices.
    say : object
        Is told what goes on.

    Raises
    ------
    UnreadableFile
        `unreadable`, if the sample is not there.
    """
    from benchmarks import engine_agreement, network_speed, scan_speed, synthetic_series

    if not sample.is_file():
        raise UnreadableFile(f"{sample}: no such file", "Run it in a clone of the repository, or name --sample.")
    machine = _describe_machine()
    with tempfile.TemporaryDirectory() as place:
        sizes = {
            SCAN_SLICES,
            *(count for count in SLICE_COUNTS if count <= 80 or not quick),
            *(() if quick else (MANY_SLICES,)),
        }
        log(f"making scans of {', '.join(map(str, sorted(sizes)))} slices")
        scans = {
            count: synthetic_series.write_series(sample, count, Path(place, str(count))) for count in sorted(sizes)
        }
        measured = network_speed.measure_networks(scans[SCAN_SLICES], rounds, log)
        found = SpeedFigures(
            date=datetime.date.today().isoformat(),
            machine=machine,
            rounds=rounds,
            **measured,
            **scan_speed.measure_scans(scans, rounds, log),
            agreement=engine_agreement.measure_agreement(data, network_speed.list_pairs(), log)
            if data is not None
            else [],
        )
    atomic_write.write_file(
        results, (found.model_dump_json(indent=1) + "\n").encode(), "Name another file with --results."
    )
    return found


def _describe_machine() -> Machine:
    from importlib import metadata

    from strokeseg.segmentation.engines import cpu_features, selection

    able, memory = cpu_features.detect_hardware(), cpu_features.usable_memory_bytes()
    names = ("onnxruntime", "numpy", "torch", *(("openvino",) if "openvino" in selection.list_installed() else ()))
    return Machine(
        processor=able.processor,
        cores=able.cores,
        memory_gib=None if memory is None else round(memory / 2**30, 1),
        flags=list(able.flags),
        python=platform.python_version(),
        packages={name: metadata.version(name) for name in names},
        load=round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0,
    )
