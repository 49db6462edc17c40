"""The whole way of a scan: warm and cold, by the number of slices, from the start on, and what memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from strokeseg import pipeline
from strokeseg.bench.speed import LINE, MANY, SLICES, Say, Seconds, Way
from strokeseg.bench.speed_network import timed, together

COLD = "json,nifti,mesh,report,keys,seg"
"""The command line's own files, and the DICOM segmentation."""
MODELS = ("default", "fast")
_SCANS = 8
_START = {
    "strokeseg --help": ["-m", "strokeseg", "--help"],
    "import strokeseg": ["-c", "import strokeseg"],
    "ready to infer": ["-c", "from strokeseg import pipeline, infer; infer.load()"],
}


def measure(scans: dict[int, Path], rounds: int, say: Say) -> dict[str, Any]:
    """Measure whole scans; give what :class:`strokeseg.bench.speed.Speed` holds of them."""
    found: dict[str, Any] = {"warm": _warm(scans[SLICES], rounds, say)}
    cold: dict[str, list[Way]] = {model: [] for model in MODELS}
    start: dict[str, list[Seconds]] = {name: [] for name in _START}
    for number in range(rounds):
        say(f"cold: round {number + 1} of {rounds}")
        for model in MODELS:
            cold[model].append(_cold(scans[SLICES], model))
        for name, arguments in _START.items():
            start[name].append(_process(arguments)[0])
    found["cold"] = [_best(ways) for ways in cold.values()]
    found["start"] = {name: together(runs) for name, runs in start.items()}
    found["line"] = _line(scans, rounds, say)
    say("memory")
    found["many"] = _cold(scans[MANY], "fast") if MANY in scans else None
    found["resident_mb"] = _resident(scans[SLICES])
    return found


def whole(scan: Path, model: str, engine: str = "auto") -> Way:
    """Bring one scan from its files to result.json, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        kept: dict[str, Any] = {}

        def call() -> None:
            result = pipeline.segment(scan, model=model, engine=engine)
            kept["document"] = result.save(folder, ("json",))

        seconds = timed(call)
    document = kept["document"]
    steps = {name: value for name, value in document.timing_s.model_dump().items() if name != "total"}
    return Way(model=model, engine=document.model.engine, slices=document.input.slices, seconds=seconds, steps=steps)


def _warm(scan: Path, rounds: int, say: Say) -> list[Way]:
    ways: dict[str, list[Way]] = {model: [] for model in MODELS}
    for model in MODELS:
        whole(scan, model)
    for number in range(rounds):
        say(f"warm: round {number + 1} of {rounds}")
        for model in MODELS:
            ways[model].append(whole(scan, model))
    return [_best(runs) for runs in ways.values()]


def _line(scans: dict[int, Path], rounds: int, say: Say) -> list[Way]:
    counts = [count for count in LINE if count in scans]
    ways: dict[int, list[Way]] = {count: [] for count in counts}
    for number in range(min(rounds, 3)):
        say(f"by slices: round {number + 1} of {min(rounds, 3)}")
        for count in counts:
            ways[count].append(whole(scans[count], "fast"))
    return [_best(runs) for runs in ways.values()]


def _best(runs: list[Way]) -> Way:
    """Put several runs of the same into one: the quickest, with the seconds of all."""
    quickest = min(runs, key=lambda way: way.seconds.clock)
    peaks = [way.peak_mb for way in runs if way.peak_mb is not None]
    seconds = together([way.seconds for way in runs])
    return quickest.model_copy(update={"seconds": seconds, "peak_mb": max(peaks, default=None)})


def _cold(scan: Path, model: str) -> Way:
    """Run the command line in a process of its own, to the last file."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["-m", "strokeseg", "segment", str(scan), "-o", folder, "--model", model, "--formats", COLD]
        seconds, peak_mb = _process(arguments)
        document = json.loads(Path(folder, "result.json").read_text(encoding="utf-8"))
    steps = {name: value for name, value in document["timing_s"].items() if name != "total"}
    return Way(
        model=model,
        engine=document["model"]["engine"],
        slices=document["input"]["slices"],
        seconds=seconds,
        steps=steps,
        peak_mb=round(peak_mb, 1),
    )


def _process(arguments: list[str]) -> tuple[Seconds, float]:
    """Run Python in a process of its own; give its seconds and its largest resident memory, 10^6 bytes."""
    # By way of a small process: a child's largest memory counts its parent's at the split, and ours is large.
    done = subprocess.run([sys.executable, "-c", _LAUNCH, *arguments], check=True, capture_output=True, text=True)
    clock, processor, most = map(float, done.stdout.split())
    unit = 1 if sys.platform == "darwin" else 1024
    spent = Seconds(clock=clock, clock_median=clock, processor=processor)
    return spent, most * unit / 1e6


_LAUNCH = """
import os, subprocess, sys, time
begun = time.perf_counter()
process = subprocess.Popen([sys.executable, *sys.argv[1:]], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
print(time.perf_counter() - begun, used.ru_utime + used.ru_stime, used.ru_maxrss)
sys.exit(os.waitstatus_to_exitcode(status) != 0)
"""
_AGAIN = """
import gc, os, sys
from strokeseg import pipeline
for _ in range({count}):
    pipeline.segment({scan!r}, model="fast")
    gc.collect()
    pages = int(open("/proc/self/statm").read().split()[1])
    print(pages * os.sysconf("SC_PAGE_SIZE") / 1e6)
"""


def _resident(scan: Path) -> list[float]:
    """Give the resident memory of one process after each of several scans, 10^6 bytes; none but on Linux."""
    if not Path("/proc/self/statm").exists():
        return []
    program = _AGAIN.format(count=_SCANS, scan=str(scan))
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return [round(float(line), 1) for line in done.stdout.split()]
