"""The whole way of a scan: warm and cold, by the number of slices, from the start on, and what memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.network_speed import make_yardstick, summarize_runs, time_call, time_yardstick_slice
from benchmarks.speed import MANY_SLICES, SCAN_SLICES, SLICE_COUNTS, Durations, Log, ScanSpeed
from strokeseg import outputs, pipeline
from strokeseg.imaging import components
from strokeseg.segmentation.engines import selection
from strokeseg.segmentation.engines.cpu_features import detect_hardware
from strokeseg.surfaces import brain

if TYPE_CHECKING:
    import torch

COLD_FORMATS = "json,nifti,mesh,report,keys,seg"
"""The command line's own files, and the DICOM segmentation."""
SAVED_FORMATS = {
    "every format": outputs.ALL_FORMATS,
    "all but the turn, the solids and the other segmentations": tuple(
        name
        for name in outputs.ALL_FORMATS
        if name not in (*outputs.SOLID_FORMATS, "turn", "nrrd", "seg-labelmap", "seg-probability")
    ),
}
"""Formats that are saved together, by what they are called."""
_RESIDENT_SCANS = 8
_START_COMMANDS = {
    "strokeseg --help": ["-m", "strokeseg", "--help"],
    "import strokeseg": ["-c", "import strokeseg"],
    "ready to infer": ["-c", "from strokeseg import pipeline, infer; infer.load()"],
}


def measure_scans(scans: dict[int, Path], rounds: int, say: Log) -> dict[str, Any]:
    """Measure whole scans; give what :class:`benchmarks.speed.SpeedFigures` holds of them."""
    ways = _list_engines()
    found: dict[str, Any] = {"warm": _measure_warm(scans[SCAN_SLICES], ways, rounds, say)}
    found["saves"], found["surface"] = _measure_saves(scans[SCAN_SLICES], rounds, say)
    cold: dict[tuple[str, str], list[ScanSpeed]] = {way: [] for way in ways}
    beside, network = [], make_yardstick()
    start: dict[str, list[Durations]] = {name: [] for name in _START_COMMANDS}
    for number in range(rounds):
        say(f"cold: round {number + 1} of {rounds}")
        beside.append(_time_yardstick_slice(network))
        for way in ways:
            cold[way].append(_time_cold_scan(scans[SCAN_SLICES], *way))
        for name, arguments in _START_COMMANDS.items():
            start[name].append(_time_process(arguments)[0])
    found["cold"] = [_summarize_scans(runs, beside) for runs in cold.values()]
    found["start"] = {name: summarize_runs(runs) for name, runs in start.items()}
    found["line"] = _measure_slice_counts(scans, rounds, say)
    say("memory")
    found["many"] = _time_cold_scan(scans[MANY_SLICES], "fast") if MANY_SLICES in scans else None
    found["resident_mb"] = _measure_resident_mb(scans[SCAN_SLICES])
    return found


def time_scan(scan: Path, model: str, engine: str = "auto") -> ScanSpeed:
    """Bring one scan from its files to result.json, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        kept: dict[str, Any] = {}

        def call() -> None:
            result = pipeline.segment(scan, model=model, engine=engine)
            kept["document"] = result.save(folder, ("json",))

        seconds = time_call(call)
    document = kept["document"]
    steps = {name: value for name, value in document.timing_s.model_dump().items() if name != "total"}
    return ScanSpeed(
        model=model, engine=document.model.engine, slices=document.input.slices, seconds=seconds, steps=steps
    )


def _list_engines() -> list[tuple[str, str]]:
    """Return the networks and engines that answer a whole scan; 16-bit floats where the processor multiplies them."""
    ways = [("default", "auto"), ("fast", "auto")]
    if detect_hardware().bf16_instructions and "openvino-bf16" in selection.list_installed():
        ways.append(("default", "openvino-bf16"))
    return ways


def _measure_warm(scan: Path, ways: list[tuple[str, str]], rounds: int, say: Log) -> list[ScanSpeed]:
    found: dict[tuple[str, str], list[ScanSpeed]] = {way: [] for way in ways}
    beside, network = [], make_yardstick()
    for way in ways:
        time_scan(scan, *way)
    for number in range(rounds):
        say(f"warm: round {number + 1} of {rounds}")
        beside.append(_time_yardstick_slice(network))
        for way in ways:
            found[way].append(time_scan(scan, *way))
    return [_summarize_scans(runs, beside) for runs in found.values()]


def _time_yardstick_slice(network: torch.nn.Module) -> Durations:
    """Answer a slice with the yardstick: on all cores by the clock, on one thread by the processor's seconds."""
    return time_yardstick_slice(network).model_copy(update={"processor": time_yardstick_slice(network, 1).processor})


def _measure_saves(scan: Path, rounds: int, say: Log) -> tuple[dict[str, Durations], Durations]:
    """Save one result again and again, the formats of :data:`SAVES` in turn; and make its brain's surface alone."""
    result = pipeline.segment(scan, model="fast")
    labels, _ = components.label(result.mask, result.scan)
    spent: dict[str, list[Durations]] = {name: [] for name in SAVED_FORMATS}
    surfaces = []
    for number in range(rounds + 1):
        say(f"saving: round {number} of {rounds}" if number else "saving once, to be warm")
        for name, formats in SAVED_FORMATS.items():
            with tempfile.TemporaryDirectory() as folder:
                spent[name].append(time_call(partial(result.save, folder, formats)))
        surfaces.append(time_call(partial(brain.build_brain, result.scan, labels)))
    return {name: summarize_runs(runs[1:]) for name, runs in spent.items()}, summarize_runs(surfaces[1:])


def _measure_slice_counts(scans: dict[int, Path], rounds: int, say: Log) -> list[ScanSpeed]:
    counts = [count for count in SLICE_COUNTS if count in scans]
    ways: dict[int, list[ScanSpeed]] = {count: [] for count in counts}
    for number in range(min(rounds, 3)):
        say(f"by slices: round {number + 1} of {min(rounds, 3)}")
        for count in counts:
            ways[count].append(time_scan(scans[count], "fast"))
    return [_summarize_scans(runs) for runs in ways.values()]


def _summarize_scans(runs: list[ScanSpeed], beside: list[Durations] | None = None) -> ScanSpeed:
    """Put several runs of the same into one: the quickest, with the seconds of all, and the yardstick's beside them."""
    quickest = min(runs, key=lambda way: way.seconds.clock)
    peaks = [way.peak_mb for way in runs if way.peak_mb is not None]
    seconds = summarize_runs([way.seconds for way in runs])
    slices = summarize_runs(beside) if beside else None
    return quickest.model_copy(update={"seconds": seconds, "peak_mb": max(peaks, default=None), "yardstick": slices})


def _time_cold_scan(scan: Path, model: str, engine: str = "auto") -> ScanSpeed:
    """Run the command line in a process of its own, to the last file."""
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
    """Run Python in a process of its own; give its seconds and its largest resident memory, 10^6 bytes."""
    # By way of a small process: a child's largest memory counts its parent's at the split, and ours is large.
    done = subprocess.run(
        [sys.executable, "-c", _LAUNCH_PROGRAM, *arguments], check=True, capture_output=True, text=True
    )
    clock, processor, most = map(float, done.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024
    spent = Durations(clock=clock, clock_median=clock, processor=processor)
    return spent, most * unit / 1e6


_LAUNCH_PROGRAM = """
import os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""
_REPEAT_PROGRAM = """
import gc, os, sys
from strokeseg import components, pipeline, write
for _ in range({count}):
    pipeline.segment({scan!r}, model="fast")
    gc.collect()
    pages = int(open("/proc/self/statm").read().split()[1])
    print(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
"""


def _measure_resident_mb(scan: Path) -> list[float]:
    """Return the resident memory of one process after each of several scans, 10^6 bytes; none but on Linux."""
    if not Path("/proc/self/statm").exists():
        return []
    program = _REPEAT_PROGRAM.format(count=_RESIDENT_SCANS, scan=str(scan))
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return [round(float(line), 1) for line in done.stdout.split()]
