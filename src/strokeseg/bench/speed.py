"""How quick StrokeSeg is, beside the predecessor's network and beside what the processor can do.

`benchmarks/speed.json` holds the figures, :mod:`strokeseg.bench.speed_page` draws docs/speed.md from it. Seconds of the
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

from strokeseg import files
from strokeseg.bench.agreement import Agreement
from strokeseg.errors import TrainError, UnreadableFile

Say = Callable[[str], None]
SLICES = 40
LINE = (20, 40, 80, 160, 320)
MANY = 600


class _Figures(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Seconds(_Figures):
    """Of several runs: on the clock, and of the processor over all its cores."""

    clock: float = Field(description="the quickest run's")
    clock_median: float
    processor: float = Field(description="the least of any run")


class Machine(_Figures):
    """On what it was measured."""

    processor: str
    cores: int
    memory_gib: float | None
    flags: list[str]
    python: str
    packages: dict[str, str]
    load: float = Field(description="programs that wanted a core beside ours when it began, mean over a minute")


class Network(_Figures):
    """One network on one engine."""

    model: str
    engine: str
    precision: str
    gflop: float = Field(description="operations of a slice, 10^9; a multiplication and an addition are two")
    slice_s: Seconds
    limit: float | None = Field(description="share of the matrix product's operations a second, at this precision")


class Way(_Figures):
    """A whole scan."""

    model: str
    engine: str
    slices: int
    seconds: Seconds
    steps: dict[str, float] = Field(description="seconds of each step in the quickest run")
    yardstick: Seconds | None = Field(default=None, description="a slice of the yardstick's, in the same rounds")
    peak_mb: float | None = None


class Speed(_Figures):
    """`benchmarks/speed.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    schema_: Literal["strokeseg.speed/1"] = Field(default="strokeseg.speed/1", alias="schema")
    date: str
    machine: Machine
    rounds: int
    matrix: dict[str, float] = Field(description="precision: 10^9 operations a second of one core, a large product")
    yardstick: Network
    networks: list[Network]
    parts: dict[str, float] = Field(description="kind of operation: share of the default network's time")
    warm: list[Way]
    cold: list[Way]
    saves: dict[str, Seconds] = Field(description="of a result of 40 slices, by which formats are saved together")
    surface: Seconds = Field(description="of the brain, alone")
    line: list[Way]
    many: Way | None
    start: dict[str, Seconds]
    resident_mb: list[float] = Field(description="of one process after each of several scans")
    joule_a_slice: float | None
    agreement: list[Agreement]


def read(path: Path) -> Speed:
    """Read stored figures.

    Raises
    ------
    TrainError
        `train`, if the file cannot be read
    """
    try:
        return Speed.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise TrainError(f"{path}: no figures of `strokeseg bench speed`", "Name another file.") from error


def run(results: Path, sample: Path, *, data: Path | None, rounds: int, quick: bool, say: Say) -> Speed:
    """Measure everything, in one run on the same slices, and store it.

    Parameters
    ----------
    results : file to write
    sample : samples/ge_head.zip
    data : folder of the data sets, for the engines' agreement; None leaves it out
    rounds : so often everything is measured, in turns
    quick : leave out the scans of more than 80 slices
    say : is told what goes on

    Raises
    ------
    UnreadableFile
        `unreadable`, if the sample is not there
    """
    from strokeseg.bench import agreement, speed_network, speed_scans, speed_way

    if not sample.is_file():
        raise UnreadableFile(f"{sample}: no such file", "Run it in a clone of the repository, or name --sample.")
    machine = _machine()
    with tempfile.TemporaryDirectory() as place:
        sizes = {SLICES, *(count for count in LINE if count <= 80 or not quick), *(() if quick else (MANY,))}
        say(f"making scans of {', '.join(map(str, sorted(sizes)))} slices")
        scans = {count: speed_scans.write(sample, count, Path(place, str(count))) for count in sorted(sizes)}
        measured = speed_network.measure(scans[SLICES], rounds, say)
        found = Speed(
            date=datetime.date.today().isoformat(),
            machine=machine,
            rounds=rounds,
            **measured,
            **speed_way.measure(scans, rounds, say),
            agreement=agreement.measure(data, speed_network.pairs(), say) if data is not None else [],
        )
    files.write(results, (found.model_dump_json(indent=1) + "\n").encode(), "Name another file with --results.")
    return found


def _machine() -> Machine:
    from importlib import metadata

    from strokeseg.infer import choice, machine

    able, memory = machine.abilities(), machine.memory_bytes()
    names = ("onnxruntime", "numpy", "torch", *(("openvino",) if "openvino" in choice.installed() else ()))
    return Machine(
        processor=able.processor,
        cores=able.cores,
        memory_gib=None if memory is None else round(memory / 2**30, 1),
        flags=list(able.flags),
        python=platform.python_version(),
        packages={name: metadata.version(name) for name in names},
        load=round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0,
    )
