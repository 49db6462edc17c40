"""Page docs/speed.md, rendered from the stored figures alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.page import render_template
from benchmarks.speed_figures import SCAN_SLICES, ScanSpeed, SpeedFigures

_BUSY_LOAD = 0.5
"""Load average per core from which wall times are not reliable."""


def render_page(figures: SpeedFigures) -> str:
    """Render docs/speed.md.

    Parameters
    ----------
    figures : SpeedFigures
        The stored figures.

    Returns
    -------
    str
        The page.
    """
    runs = [*(("warm", scan) for scan in figures.warm), *(("cold", scan) for scan in figures.cold)]
    return render_template(
        "speed.md.j2",
        **{name: getattr(figures, name) for name in type(figures).model_fields},
        is_busy=figures.machine.load > _BUSY_LOAD * figures.machine.cores,
        scan_slices=SCAN_SLICES,
        scans=[(start, scan, compute_speedups(figures, scan)) for start, scan in runs],
        line_deviation=compute_line_deviation(figures.line) if len(figures.line) > 2 else None,
        usual_dice={row.model: row.dice for row in figures.agreement if row.engine == "onnxruntime"},
    )


def compute_speedups(figures: SpeedFigures, scan: ScanSpeed) -> tuple[float, float]:
    """Compute how many times as fast a scan is as the reference network alone on as many slices.

    Parameters
    ----------
    figures : SpeedFigures
        The figures with the reference network.
    scan : ScanSpeed
        The scan.

    Returns
    -------
    tuple of float
        By wall time and by processor time.
    """
    reference = scan.yardstick or figures.yardstick.slice_s
    return (
        reference.clock * scan.slices / scan.seconds.clock,
        reference.processor * scan.slices / scan.seconds.processor,
    )


def compute_line_deviation(scans: Sequence[ScanSpeed]) -> float:
    """Compute the largest relative deviation of processor times from a straight line in the number of slices.

    Parameters
    ----------
    scans : sequence of ScanSpeed
        Scans of different numbers of slices.

    Returns
    -------
    float
        Relative to the line; 0.1 is 10 %.
    """
    counts = np.array([scan.slices for scan in scans], dtype=float)
    seconds = np.array([scan.seconds.processor for scan in scans])
    # Weighted by the inverse, or the largest scan alone would determine the line.
    slope, start = np.polyfit(counts, seconds, 1, w=1 / seconds)
    return float(np.abs(seconds / (slope * counts + start) - 1).max())
