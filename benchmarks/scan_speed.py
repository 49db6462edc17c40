"""Speed and memory of whole scans: warm, cold, saving, by the number of slices, and start-up."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.network_speed import make_reference_network, summarize_runs, time_call, time_reference_slice
from benchmarks.speed_figures import MANY_SLICES, SCAN_SLICES, SLICE_COUNTS, Durations, ScanSpeed
from strokeseg import outputs, pipeline
from strokeseg.segmentation.engines import selection
from strokeseg.segmentation.engines.cpu_features import detect_hardware
from strokeseg.surfaces import brain

if TYPE_CHECKING:
    import torch

Log = Callable[[str], None]

COLD_FORMATS = "json,nifti,mesh,report,keys,seg"
"""The default formats of the command line, and the DICOM segmentation."""
SAVED_FORMATS = {
    "every format": outputs.ALL_FORMATS,
    "all but the turn, the solids and the other segmentations": tuple(
        name
        for name in outputs.ALL_FORMATS
        if name not in (*outputs.SOLID_FORMATS, "turn", "nrrd", "seg-labelmap", "seg-probability")
    ),
}
"""Sets of formats to save together, by label."""
_RESIDENT_SCANS = 8
_START_COMMANDS = {
    "strokeseg --help": ["-m", "strokeseg", "--help"],
    "import strokeseg": ["-c", "import strokeseg"],
    "ready to infer": ["-c", "from strokeseg import pipeline, segmentation; segmentation.load_engine()"],
}


def measure_scans(scans: dict[int, Path], rounds: int, log: Log) -> dict[str, Any]:
    """Measure whole scans.

    Parameters
    ----------
    scans : dict of int to Path
        Series by number of slices.
    rounds : int
        Number of repetitions.
    log : callable
        Takes a line on the progress.

    Returns
    -------
    dict of str to object
        The fields of :class:`benchmarks.speed_figures.SpeedFigures` on whole scans.
    """
    variants = _list_engines()
    figures: dict[str, Any] = {"warm": _measure_warm(scans[SCAN_SLICES], variants, rounds, log)}
    figures["saves"], figures["surface"] = _measure_saves(scans[SCAN_SLICES], rounds, log)
    cold: dict[tuple[str, str], list[ScanSpeed]] = {variant: [] for variant in variants}
    references, network = [], make_reference_network()
    start: dict[str, list[Durations]] = {name: [] for name in _START_COMMANDS}
    for number in range(rounds):
        log(f"cold: round {number + 1} of {rounds}")
        references.append(_time_reference_slice(network))
        for variant in variants:
            cold[variant].append(_time_cold_scan(scans[SCAN_SLICES], *variant))
        for name, arguments in _START_COMMANDS.items():
            start[name].append(_time_process(arguments)[0])
    figures["cold"] = [_summarize_scans(runs, references) for runs in cold.values()]
    figures["start"] = {name: summarize_runs(runs) for name, runs in start.items()}
    figures["line"] = _measure_slice_counts(scans, rounds, log)
    log("memory")
    figures["many"] = _time_cold_scan(scans[MANY_SLICES], "fast") if MANY_SLICES in scans else None
    figures["resident_mb"] = _measure_resident_mb(scans[SCAN_SLICES])
    return figures


def time_scan(scan: Path, model: str, engine: str = "auto") -> ScanSpeed:
    """Time one scan from its files to result.json in this process."""
    with tempfile.TemporaryDirectory() as folder:
        documents = []

        def call() -> None:
            result = pipeline.segment(scan, model=model, engine=engine)
            documents.append(result.save(folder, ("json",)))

        seconds = time_call(call)
    document = documents[0]
    steps = {name: value for name, value in document.timing_s.model_dump().items() if name != "total"}
    return ScanSpeed(
        model=model, engine=document.model.engine, slices=document.input.slices, seconds=seconds, steps=steps
    )


def _list_engines() -> list[tuple[str, str]]:
    """Return the networks and engines for whole scans; bf16 only on processors with instructions for it."""
    variants = [("default", "auto"), ("fast", "auto")]
    if detect_hardware().bf16_instructions and "openvino-bf16" in selection.list_installed():
        variants.append(("default", "openvino-bf16"))
    return variants


def _measure_warm(scan: Path, variants: list[tuple[str, str]], rounds: int, log: Log) -> list[ScanSpeed]:
    scans: dict[tuple[str, str], list[ScanSpeed]] = {variant: [] for variant in variants}
    references, network = [], make_reference_network()
    for variant in variants:
        time_scan(scan, *variant)
    for number in range(rounds):
        log(f"warm: round {number + 1} of {rounds}")
        references.append(_time_reference_slice(network))
        for variant in variants:
            scans[variant].append(time_scan(scan, *variant))
    return [_summarize_scans(runs, references) for runs in scans.values()]


def _time_reference_slice(network: torch.nn.Module) -> Durations:
    """Time a slice of the reference network: wall time on all cores, processor time on one thread."""
    return time_reference_slice(network).model_copy(update={"processor": time_reference_slice(network, 1).processor})


def _measure_saves(scan: Path, rounds: int, log: Log) -> tuple[dict[str, Durations], Durations]:
    """Time saving one result in each set of :data:`SAVED_FORMATS` in turn, and building the brain's surface."""
    result = pipeline.segment(scan, model="fast")
    durations: dict[str, list[Durations]] = {name: [] for name in SAVED_FORMATS}
    surfaces = []
    for number in range(rounds + 1):
        log(f"saving: round {number} of {rounds}" if number else "saving once to warm up")
        for name, formats in SAVED_FORMATS.items():
            with tempfile.TemporaryDirectory() as folder:
                durations[name].append(time_call(partial(result.save, folder, formats)))
        surfaces.append(time_call(partial(brain.build_brain, result.scan, result.labels)))
    return {name: summarize_runs(runs[1:]) for name, runs in durations.items()}, summarize_runs(surfaces[1:])


def _measure_slice_counts(scans: dict[int, Path], rounds: int, log: Log) -> list[ScanSpeed]:
    counts = [count for count in SLICE_COUNTS if count in scans]
    scans_by_count: dict[int, list[ScanSpeed]] = {count: [] for count in counts}
    for number in range(min(rounds, 3)):
        log(f"by slices: round {number + 1} of {min(rounds, 3)}")
        for count in counts:
            scans_by_count[count].append(time_scan(scans[count], "fast"))
    return [_summarize_scans(runs) for runs in scans_by_count.values()]


def _summarize_scans(runs: list[ScanSpeed], references: list[Durations] | None = None) -> ScanSpeed:
    """Summarize repeated runs: the fastest run's steps, the durations of all, and the reference network's."""
    fastest = min(runs, key=lambda scan: scan.seconds.clock)
    peaks = [scan.peak_mb for scan in runs if scan.peak_mb is not None]
    seconds = summarize_runs([scan.seconds for scan in runs])
    slices = summarize_runs(references) if references else None
    return fastest.model_copy(update={"seconds": seconds, "peak_mb": max(peaks, default=None), "yardstick": slices})


def _time_cold_scan(scan: Path, model: str, engine: str = "auto") -> ScanSpeed:
    """Time the command line in a new process, until the last file is written."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["-m", "strokeseg", "segment", str(scan), "-o", folder, "--formats", COLD_FORMATS]
        arguments += ["--model", model, "--engine", engine]
        seconds, peak_mb = _time_process(arguments)
        document = json.loads(Path(folder, "result.json").read_text(encoding="utf-8"))
    steps = {name: value for name, value in document["timing_s"].items() if name != "total"}
    return ScanSpeed(
        model=model,
        engine=document["model"]["engine"],
        slices=document["input"]["slices"],
        seconds=seconds,
        steps=steps,
        peak_mb=round(peak_mb, 1),
    )


def _time_process(arguments: list[str]) -> tuple[Durations, float]:
    """Run Python in a new process; return its durations and its peak resident memory in MB."""
    # Started by a small process: a child's peak memory includes its parent's at the fork, and this one is large.
    completed = subprocess.run(
        [sys.executable, "-c", _LAUNCH_PROGRAM, *arguments], check=True, capture_output=True, text=True
    )
    clock, processor, peak = map(float, completed.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024
    return Durations(clock=clock, clock_median=clock, processor=processor), peak * unit / 1e6


_LAUNCH_PROGRAM = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""
_REPEAT_PROGRAM = """
import gc, os, sys
from strokeseg import outputs, pipeline
for _ in range({count}):
    pipeline.segment({scan!r}, model="fast")
    gc.collect()
    pages = int(open("/proc/self/statm").read().split()[1])
    print(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
"""


def _measure_resident_mb(scan: Path) -> list[float]:
    """Return the resident memory in MB of one process after each of several scans; empty except on Linux."""
    if not Path("/proc/self/statm").exists():
        return []
    program = _REPEAT_PROGRAM.format(count=_RESIDENT_SCANS, scan=str(scan))
    completed = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return [round(float(line), 1) for line in completed.stdout.split()]
