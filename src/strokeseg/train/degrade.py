"""What makes a scan worth less, done to slices that are good: by how much do the volumes get worse?

Each takes the slices of a patient and gives them degraded, or None where there are too few of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from strokeseg.scan import Scan
from strokeseg.train.data import UNKNOWN

NOISE_HU = 15.0
"""White, from pixel to pixel; `sharp-kernel` is said from 12 HU on."""
SHIFT_MM = 4.0
"""Of the head between the two halves of a turn; `motion` is said from 4 mm on."""
STREAK_HU = 20.0
"""Of the brightest and darkest streak, at the metal."""
WINDOW_OFF = 1.25
"""How much wider or narrower than the true window the estimated one is."""

_STREAKS = 24
_STREAK_REACH_MM = 60.0


@dataclass(frozen=True)
class Part:
    """Slices of one patient that are of one size, with what is known of them.

    Parameters
    ----------
    scan : the slices as the network gets them
    truth_ml : the volume that is drawn, nominal
    known : bool, (slices, rows, columns) of the scan; False where the truth is not known
    """

    scan: Scan
    truth_ml: float
    known: NDArray[np.bool_]


Degrade = Callable[[Part], Part | None]


def part(scan: Scan, truth: NDArray[np.uint8]) -> Part:
    """Take slices as they are, with masks as :class:`strokeseg.train.data.Sample` has them."""
    weights_mm = scan.weights_mm
    if weights_mm is None:
        raise ValueError("a volume needs a known spacing, nominal or not")
    truth_ml = float((truth == 1).sum((1, 2)) @ weights_mm * scan.planes.pixel_area_mm2 / 1000)
    return Part(scan, truth_ml, truth != UNKNOWN)


def sharp_kernel(part: Part) -> Part:
    """Add white noise."""
    noise = np.random.default_rng(0).normal(0, NOISE_HU, part.scan.shape)
    return _with(part, part.scan.hu + noise)


def motion(part: Part) -> Part:
    """Take the mean of the head here and 4 mm to the side."""
    scan = part.scan
    pixels = max(1, round(SHIFT_MM / scan.planes.pixel_spacing_mm[1]))
    moved = np.pad(scan.hu, ((0, 0), (0, 0), (pixels, 0)), mode="edge")[..., : scan.shape[2]]
    return _with(part, (scan.hu.astype(np.float64) + moved) / 2)


def metal(part: Part) -> Part:
    """Let streaks run out from one side of the head."""
    _, rows, columns = part.scan.shape
    row_mm, column_mm = part.scan.planes.pixel_spacing_mm
    down = (np.arange(rows) - rows / 2)[:, None] * row_mm
    right = (np.arange(columns) - columns / 5)[None] * column_mm
    streaks = np.sin(_STREAKS * np.arctan2(down, right)) * np.exp(-np.hypot(down, right) / _STREAK_REACH_MM)
    return _with(part, part.scan.hu + STREAK_HU * streaks)


def window_too_wide(part: Part) -> Part:
    """Take the greys for those of a window that is a quarter wider, so that every contrast seems larger."""
    return _with(part, 40 + (part.scan.hu.astype(np.float64) - 40) * WINDOW_OFF)


def window_too_narrow(part: Part) -> Part:
    """Take the greys for those of a window that is a fifth narrower, so that every contrast seems smaller."""
    return _with(part, 40 + (part.scan.hu.astype(np.float64) - 40) / WINDOW_OFF)


def thick_slices(part: Part) -> Part | None:
    """Join two slices into one that is twice as thick; None for one slice, and where their number is odd."""
    scan = part.scan
    if len(scan.hu) % 2:
        return None
    hu = scan.hu.astype(np.float64)
    step_mm = 2 * float(np.median(scan.planes.weights_mm))
    thick = Scan.from_array(
        (hu[::2] + hu[1::2]) / 2, (step_mm, *scan.planes.pixel_spacing_mm), calibrated=scan.calibrated
    )
    return Part(replace(thick, window=scan.window), part.truth_ml, part.known[::2] & part.known[1::2])


def missing_slices(part: Part) -> Part | None:
    """Take the middle slice out; None for under five. What was drawn on it still counts."""
    scan = part.scan
    count = len(scan.hu)
    if count < 5:
        return None
    kept = np.arange(count) != count // 2
    planes = replace(scan.planes, positions_mm=scan.planes.positions_mm[kept])
    return Part(replace(scan, hu=scan.hu[kept], planes=planes), part.truth_ml, part.known[kept])


MEASURED: dict[str, tuple[Degrade, ...]] = {
    "sharp-kernel": (sharp_kernel,),
    "motion": (motion,),
    "metal": (metal,),
    "window-estimated": (window_too_wide, window_too_narrow),
    "thick-slices": (thick_slices,),
    "missing-slices": (missing_slices,),
}
STATED = {"contrast-medium": 2.0, "missing-files": 1.5, "coloured-overlay": 1.5, "affines-disagree": 1.5}
"""Factors that no degraded slice can measure: a guess on the careful side, and called so."""


def _with(part: Part, hu: NDArray[np.floating]) -> Part:
    """Give the slices other values; a picture's stay in its window."""
    scan = part.scan
    low, high = (-1024.0, 3071.0)
    if scan.window is not None:
        low, high = scan.window[0] - scan.window[1] / 2, scan.window[0] + scan.window[1] / 2
    return replace(part, scan=replace(scan, hu=np.rint(np.clip(hu, low, high)).astype(np.int16)))
