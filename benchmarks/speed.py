"""Measure speed and memory: single networks, whole scans, saving, start-up; `python -m benchmarks speed`."""

from __future__ import annotations

import datetime
import os
import platform
import tempfile
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

from benchmarks import engine_agreement, network_speed, scan_speed, synthetic_series
from benchmarks.speed_figures import MANY_SLICES, SCAN_SLICES, SLICE_COUNTS, Machine, SpeedFigures
from strokeseg import atomic_write
from strokeseg.errors import UnreadableFile
from strokeseg.segmentation.engines import cpu_features, selection

_MAX_QUICK_SLICES = 80


def run(
    results: Path, sample: Path, *, data: Path | None, rounds: int, quick: bool, log: Callable[[str], None]
) -> SpeedFigures:
    """Measure everything in one run on the same slices, and store the figures.

    Parameters
    ----------
    results : Path
        File for the figures.
    sample : Path
        The sample series, samples/ge_head.zip.
    data : Path or None
        Folder of the data sets, to compare the engines' accuracy; None leaves the comparison out.
    rounds : int
        Number of repetitions; within a round everything is measured in turn.
    quick : bool
        Leave out scans of more than 80 slices.
    log : callable
        Takes a line on the progress.

    Returns
    -------
    SpeedFigures
        The figures.

    Raises
    ------
    UnreadableFile
        `unreadable`, if the sample is missing.
    """
    if not sample.is_file():
        raise UnreadableFile(f"{sample}: no such file", "Run it in a clone of the repository, or name --sample.")
    machine = _describe_machine()
    counts = {SCAN_SLICES, *SLICE_COUNTS, MANY_SLICES}
    if quick:
        counts = {count for count in counts if count <= _MAX_QUICK_SLICES}
    with tempfile.TemporaryDirectory() as folder:
        log(f"making scans of {', '.join(map(str, sorted(counts)))} slices")
        scans = {
            count: synthetic_series.write_series(sample, count, Path(folder, str(count))) for count in sorted(counts)
        }
        networks = network_speed.measure_networks(scans[SCAN_SLICES], rounds, log)
        figures = SpeedFigures(
            date=datetime.date.today().isoformat(),
            machine=machine,
            rounds=rounds,
            **networks,
            **scan_speed.measure_scans(scans, rounds, log),
            agreement=[] if data is None else engine_agreement.measure_agreement(data, network_speed.list_pairs(), log),
        )
    content = (figures.model_dump_json(indent=1) + "\n").encode()
    atomic_write.write_file(results, content, "Name another file with --results.")
    return figures


def _describe_machine() -> Machine:
    hardware, memory = cpu_features.detect_hardware(), cpu_features.usable_memory_bytes()
    packages = ("onnxruntime", "numpy", "torch", *(("openvino",) if "openvino" in selection.list_installed() else ()))
    return Machine(
        processor=hardware.processor,
        cores=hardware.cores,
        memory_gib=None if memory is None else round(memory / 2**30, 1),
        flags=list(hardware.flags),
        python=platform.python_version(),
        packages={name: metadata.version(name) for name in packages},
        load=round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else 0.0,
    )
