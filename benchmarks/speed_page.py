"""The page of `strokeseg bench speed`: docs/speed.md, drawn from the stored figures and from nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.accuracy_page import _table
from benchmarks.speed import SCAN_SLICES, Machine, NetworkSpeed, ScanSpeed, SpeedFigures

WARM_TIMES, COLD_TIMES = 12, 5
"""So many times as quick as the yardstick's network alone must a whole scan be."""
NETWORK_LIMIT = 1.5
SAVE_S, SURFACE_S = 2.5, 0.5


def render_page(speed: SpeedFigures) -> str:
    """Draw docs/speed.md."""
    lines = [
        "# Speed and memory",
        "",
        "Drawn by `strokeseg bench speed` from `benchmarks/speed.json`; do not edit. The same command measures it all",
        "again on your machine, in one run: each thing in turn, and that several times over.",
        "",
        *_machine(speed.machine, speed.rounds),
        "",
        "## The network alone",
        "",
        *_networks(speed),
        "",
        "## A whole scan",
        "",
        *_whole(speed),
        "",
        "## Saving",
        "",
        *_saves(speed),
        "",
        "## By the number of slices",
        "",
        *_line(speed.line),
        "",
        "## Start, memory, energy",
        "",
        *_rest(speed),
        "",
        *_agreement(speed),
    ]
    return "\n".join(lines)


def compute_speedups(speed: SpeedFigures, way: ScanSpeed) -> tuple[float, float]:
    """Say how many times as quick a scan is as the yardstick's network alone: on the clock, and of the processor."""
    yardstick = way.yardstick or speed.yardstick.slice_s
    return (
        yardstick.clock * way.slices / way.seconds.clock,
        yardstick.processor * way.slices / way.seconds.processor,
    )


def compute_line_deviation(line: Sequence[ScanSpeed]) -> float:
    """Return the largest distance of a scan's seconds of the processor from a straight line, as a share of the line's."""
    counts = np.array([way.slices for way in line], dtype=float)
    seconds = np.array([way.seconds.processor for way in line])
    # Weighed by what they are held to, or the largest scan alone would lay the line.
    slope, start = np.polyfit(counts, seconds, 1, w=1 / seconds)
    return float(np.abs(seconds / (slope * counts + start) - 1).max())


def _is_busy(machine: Machine) -> bool:
    return machine.load > 0.5 * machine.cores


def _machine(machine: Machine, rounds: int) -> list[str]:
    packages = ", ".join(f"{name} {version}" for name, version in machine.packages.items())
    return [
        f"{machine.processor}, {machine.cores} cores ({', '.join(machine.flags)}), {machine.memory_gib} GiB of memory;",
        f"Python {machine.python}, {packages}. {rounds} rounds.",
        "",
        f"Load when it began: {machine.load} programs that wanted one of the {machine.cores} cores."
        + (
            " **Other programs were at work, so seconds on the clock say little; those of the processor stand.**"
            if _is_busy(machine)
            else ""
        ),
        "Seconds on the clock are those of the quickest round. Seconds of the processor are summed over all cores: on",
        f"{machine.cores} free cores the clock cannot show less than 1/{machine.cores} of them.",
    ]


def _networks(speed: SpeedFigures) -> list[str]:
    rows = [speed.yardstick, *speed.networks]
    table = _table(
        (
            "network",
            "engine",
            "precision",
            "GFLOP a slice",
            "ms a slice, clock",
            "median",
            "ms a slice, processor",
            "GFLOP/s a core",
            "of the limit",
            "times the yardstick",
        ),
        [_network(row, speed.yardstick) for row in rows],
    )
    limits = ", ".join(f"{name} {peak:,.0f}" for name, peak in speed.matrix.items())
    parts = ", ".join(f"{kind} {share:.0%}" for kind, share in speed.parts.items())
    return [
        *table,
        "",
        "The yardstick is the predecessor's network with random weights, on whole slices. Ours see the square around",
        "the head, with 320 x 320 pixels. Operations are those of the convolutions, counted in the ONNX graph. Times",
        "the yardstick: by the processor's seconds, the yardstick on one thread, where it wastes none by waiting.",
        "",
        f"The limit is a product of two matrices of 1,024 x 1,024, on one core: {limits} GFLOP/s.",
        f"Where the default network's time goes (ONNX Runtime's own profile): {parts}.",
        *_why(speed),
    ]


def _network(row: NetworkSpeed, yardstick: NetworkSpeed) -> list[str]:
    spent = row.slice_s
    return [
        row.model,
        row.engine,
        row.precision,
        f"{row.gflop:.1f}",
        f"{1000 * spent.clock:.0f}",
        f"{1000 * spent.clock_median:.0f}",
        f"{1000 * spent.processor:.0f}",
        f"{row.gflop / spent.processor:.0f}",
        "" if row.limit is None else f"{row.limit:.0%}",
        f"{yardstick.slice_s.processor / spent.processor:.1f}",
    ]


def _why(speed: SpeedFigures) -> list[str]:
    alone = speed.parts.get("convolution, each channel alone", 0.0)
    near = [row for row in speed.networks if row.limit is not None and row.limit >= 1 / NETWORK_LIMIT]
    names = ", ".join(f"{row.model} on {row.engine}" for row in near) or "none"
    return [
        f"Within {NETWORK_LIMIT} times the limit's time: {names}.",
        "A convolution of each channel alone does two operations for every number that it loads, where a matrix",
        f"product does hundreds: memory bounds it, not arithmetic. It takes {alone:.0%} of the default network's time",
        "for few of its operations; interleaving (DepthToSpace), resizing and joining count as none.",
    ]


def _whole(speed: SpeedFigures) -> list[str]:
    rows = []
    for kind, wanted, ways in (("warm", WARM_TIMES, speed.warm), ("cold", COLD_TIMES, speed.cold)):
        for way in ways:
            on_clock, of_processor = compute_speedups(speed, way)
            rows.append(
                [
                    kind,
                    way.model,
                    way.engine,
                    f"{way.seconds.clock:.2f}",
                    f"{way.seconds.clock_median:.2f}",
                    f"{way.seconds.processor:.2f}",
                    "not told" if _is_busy(speed.machine) else f"{on_clock:.1f}",
                    f"{of_processor:.1f}",
                    str(wanted),
                    _steps(way),
                ]
            )
    head = ("", "network", "engine", "s, clock", "median", "s, processor", "times the yardstick, clock")
    return [
        f"{SCAN_SLICES} slices of 512 x 512 pixels, a DICOM series with a tilted gantry. Warm: from the files to",
        "`result.json`, the network loaded. Cold: a new process of the command line, with the report, the 3D scene,",
        "NIfTI, key pictures and the DICOM segmentation. The yardstick is the predecessor's network alone on as many",
        "slices, timed in the same rounds.",
        "",
        *_table((*head, "processor", "wanted", "seconds of each step"), rows),
    ]


def _saves(speed: SpeedFigures) -> list[str]:
    rows = [
        [name, f"{spent.clock:.2f}", f"{spent.clock_median:.2f}", f"{spent.processor:.2f}"]
        for name, spent in [*speed.saves.items(), ("the brain's surface alone", speed.surface)]
    ]
    return [
        f"The result of the same scan, warm. Wanted: every format in {SAVE_S} s on two cores, the surface in",
        f"{SURFACE_S} s.",
        "",
        *_table(("", "s, clock", "median", "s, processor"), rows),
    ]


def _steps(way: ScanSpeed) -> str:
    return ", ".join(f"{name} {seconds:.2f}" for name, seconds in way.steps.items() if seconds)


def _line(line: Sequence[ScanSpeed]) -> list[str]:
    if len(line) < 3:
        return ["Not measured in this run."]
    rows = [
        [
            str(way.slices),
            f"{way.seconds.clock:.2f}",
            f"{way.seconds.processor:.2f}",
            f"{1000 * way.seconds.processor / way.slices:.0f}",
        ]
        for way in line
    ]
    return [
        "Warm, the network `fast`. The same head every time, cut into more slices.",
        "",
        *_table(("slices", "s, clock", "s, processor", "ms a slice, processor"), rows),
        "",
        f"No scan is further than {compute_line_deviation(line):.0%} from a straight line (wanted: 10 %).",
    ]


def _rest(speed: SpeedFigures) -> list[str]:
    rows = [[name, f"{spent.clock:.2f}", f"{spent.processor:.2f}"] for name, spent in speed.start.items()]
    lines = _table(("start", "s, clock", "s, processor"), rows)
    lines += [
        "",
        "Wanted: `--help` in 0.25 s, ready to infer in 0.6 s: that is, with the network loaded. SciPy, which reading a",
        "scan needs too, is imported beside it.",
        "",
    ]
    peaks = [(way, 600) for way in speed.cold] + ([(speed.many, 1500)] if speed.many else [])
    table = [
        [
            str(way.slices),
            way.model,
            way.engine,
            "not measured" if way.peak_mb is None else f"{way.peak_mb:.0f}",
            str(wanted),
        ]
        for way, wanted in peaks
    ]
    lines += _table(("slices, cold, all these files", "network", "engine", "peak, MB", "wanted"), table)
    if speed.resident_mb:
        after = speed.resident_mb
        lines += [
            "",
            f"One process after each of {len(after)} scans: {', '.join(f'{value:.0f}' for value in after)} MB.",
        ]
    energy = "not readable on this machine" if speed.joule_a_slice is None else f"{speed.joule_a_slice} J"
    return [*lines, "", f"Energy of a slice, the default network: {energy}."]


def _agreement(speed: SpeedFigures) -> list[str]:
    if not speed.agreement:
        return []
    first = speed.agreement[0]
    return [
        "## Do the engines agree?",
        "",
        f"On {first.slices} slices of {first.patients} validation patients of CT-ICH and PHE-SICH, by the card.",
        "",
        *_table(
            ("network", "engine", "Dice", "to ONNX Runtime", "pixels further than 0.05 from it"),
            [
                [
                    each.model,
                    each.engine,
                    f"{each.dice:.4f}",
                    f"{each.dice - _usual(speed, each.model):+.4f}",
                    f"{each.far:.4%}",
                ]
                for each in speed.agreement
            ],
        ),
        "",
    ]


def _usual(speed: SpeedFigures, model: str) -> float:
    return next(each.dice for each in speed.agreement if (each.model, each.engine) == (model, "onnxruntime"))
