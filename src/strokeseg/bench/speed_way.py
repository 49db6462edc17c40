"""The whole way of a scan: warm and cold, by the number of slices, from the start on, and what memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from strokeseg import components, pipeline, write
from strokeseg.bench.speed import LINE, MANY, SLICES, Say, Seconds, Way
from strokeseg.bench.speed_network import timed, together, yardstick, yardstick_slice
from strokeseg.infer import choice
from strokeseg.infer.machine import abilities
from strokeseg.surface import brain

if TYPE_CHECKING:
    import torch

COLD = "json,nifti,mesh,report,keys,seg"
"""The command line's own files, and the DICOM segmentation."""
SAVES = {
    "every format": write.KNOWN,
    "all but the turn, the solids and the other segmentations": tuple(
        name for name in write.KNOWN if name not in (*write.SOLIDS, "turn", "nrrd", "seg-labelmap", "seg-probability")
    ),
}
"""Formats that are saved together, by what they are called."""
_SCANS = 8
_START = {
    "strokeseg --help": ["-m", "strokeseg", "--help"],
    "import strokeseg": ["-c", "import strokeseg"],
    "ready to infer": ["-c", "from strokeseg import pipeline, infer; infer.load()"],
}


def measure(scans: dict[int, Path], rounds: int, say: Say) -> dict[str, Any]:
    """Measure whole scans; give what :class:`strokeseg.bench.speed.Speed` holds of them."""
    ways = _ways()
    found: dict[str, Any] = {"warm": _warm(scans[SLICES], ways, rounds, say)}
    found["saves"], found["surface"] = _saves(scans[SLICES], rounds, say)
    cold: dict[tuple[str, str], list[Way]] = {way: [] for way in ways}
    beside, network = [], yardstick()
    start: dict[str, list[Seconds]] = {name: [] for name in _START}
    for number in range(rounds):
        say(f"cold: round {number + 1} of {rounds}")
        beside.append(_yardstick_slice(network))
        for way in ways:
            cold[way].append(_cold(scans[SLICES], *way))
        for name, arguments in _START.items():
            start[name].append(_process(arguments)[0])
    found["cold"] = [_best(runs, beside) for runs in cold.values()]
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


def _ways() -> list[tuple[str, str]]:
    """Give the networks and engines that answer a whole scan; 16-bit floats where the processor multiplies them."""
    ways = [("default", "auto"), ("fast", "auto")]
    if abilities().bf16 and "openvino-bf16" in choice.installed():
        ways.append(("default", "openvino-bf16"))
    return ways


def _warm(scan: Path, ways: list[tuple[str, str]], rounds: int, say: Say) -> list[Way]:
    found: dict[tuple[str, str], list[Way]] = {way: [] for way in ways}
    beside, network = [], yardstick()
    for way in ways:
        whole(scan, *way)
    for number in range(rounds):
        say(f"warm: round {number + 1} of {rounds}")
        beside.append(_yardstick_slice(network))
        for way in ways:
            found[way].append(whole(scan, *way))
    return [_best(runs, beside) for runs in found.values()]


def _yardstick_slice(network: torch.nn.Module) -> Seconds:
    """Answer a slice with the yardstick: on all cores by the clock, on one thread by the processor's seconds."""
    return yardstick_slice(network).model_copy(update={"processor": yardstick_slice(network, 1).processor})


def _saves(scan: Path, rounds: int, say: Say) -> tuple[dict[str, Seconds], Seconds]:
    """Save one result again and again, the formats of :data:`SAVES` in turn; and make its brain's surface alone."""
    result = pipeline.segment(scan, model="fast")
    labels, _ = components.label(result.mask, result.scan)
    spent: dict[str, list[Seconds]] = {name: [] for name in SAVES}
    surfaces = []
    for number in range(rounds + 1):
        say(f"saving: round {number} of {rounds}" if number else "saving once, to be warm")
        for name, formats in SAVES.items():
            with tempfile.TemporaryDirectory() as folder:
                spent[name].append(timed(partial(result.save, folder, formats)))
        surfaces.append(timed(partial(brain.surface, result.scan, labels)))
    return {name: together(runs[1:]) for name, runs in spent.items()}, together(surfaces[1:])


def _line(scans: dict[int, Path], rounds: int, say: Say) -> list[Way]:
    counts = [count for count in LINE if count in scans]
    ways: dict[int, list[Way]] = {count: [] for count in counts}
    for number in range(min(rounds, 3)):
        say(f"by slices: round {number + 1} of {min(rounds, 3)}")
        for count in counts:
            ways[count].append(whole(scans[count], "fast"))
    return [_best(runs) for runs in ways.values()]


def _best(runs: list[Way], beside: list[Seconds] | None = None) -> Way:
    """Put several runs of the same into one: the quickest, with the seconds of all, and the yardstick's beside them."""
    quickest = min(runs, key=lambda way: way.seconds.clock)
    peaks = [way.peak_mb for way in runs if way.peak_mb is not None]
    seconds = together([way.seconds for way in runs])
    slices = together(beside) if beside else None
    return quickest.model_copy(update={"seconds": seconds, "peak_mb": max(peaks, default=None), "yardstick": slices})


def _cold(scan: Path, model: str, engine: str = "auto") -> Way:
    """Run the command line in a process of its own, to the last file."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["-m", "strokeseg", "segment", str(scan), "-o", folder, "--formats", COLD]
        arguments += ["--model", model, "--engine", engine]
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
from strokeseg import components, pipeline, write
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
