"""What makes a scan worth less, done to slices that are good: by how much do the volumes get worse?

Each takes the slices of a patient and gives them degraded, or None where there are too few of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from strokeseg.scan import Scan
from strokeseg.training.data import UNKNOWN

NOISE_HU = 15.0
"""White, from pixel to pixel; `sharp-kernel` is said from 12 HU on."""
SHIFT_MM = 4.0
"""Of the head between the two halves of a turn; `motion` is said from 4 mm on."""
STREAK_HU = 20.0
"""Of the brightest and darkest streak, at the metal."""
WINDOW_FACTOR = 1.25
"""How much wider or narrower than the true window the estimated one is."""

_STREAKS = 24
_STREAK_REACH_MM = 60.0


@dataclass(frozen=True)
class SliceGroup:
    """Slices of one patient that are of one size, with what is known of them.

    Parameters
    ----------
    scan : Scan
        The slices as the network gets them.
    truth_ml : float
        The volume that is drawn, nominal.
    known : ndarray of bool, shape (slices, rows, columns)
        Of the scan; False where the truth is not known.
    """

    scan: Scan
    truth_ml: float
    known: NDArray[np.bool_]


Degradation = Callable[[SliceGroup], SliceGroup | None]


def make_slice_group(scan: Scan, truth: NDArray[np.uint8]) -> SliceGroup:
    """Take slices as they are, with masks as :class:`strokeseg.training.data.Sample` has them."""
    weights_mm = scan.weights_mm
    if weights_mm is None:
        raise ValueError("a volume needs a known spacing, nominal or not")
    truth_ml = float((truth == 1).sum((1, 2)) @ weights_mm * scan.planes.pixel_area_mm2 / 1000)
    return SliceGroup(scan, truth_ml, truth != UNKNOWN)


def add_noise(part: SliceGroup) -> SliceGroup:
    """Add white noise."""
    noise = np.random.default_rng(0).normal(0, NOISE_HU, part.scan.shape)
    return _replace_hu(part, part.scan.hu + noise)


def add_motion(part: SliceGroup) -> SliceGroup:
    """Take the mean of the head here and 4 mm to the side."""
    scan = part.scan
    pixels = max(1, round(SHIFT_MM / scan.planes.pixel_spacing_mm[1]))
    moved = np.pad(scan.hu, ((0, 0), (0, 0), (pixels, 0)), mode="edge")[..., : scan.shape[2]]
    return _replace_hu(part, (scan.hu.astype(np.float64) + moved) / 2)


def add_streaks(part: SliceGroup) -> SliceGroup:
    """Let streaks run out from one side of the head."""
    _, rows, columns = part.scan.shape
    row_mm, column_mm = part.scan.planes.pixel_spacing_mm
    down = (np.arange(rows) - rows / 2)[:, None] * row_mm
    right = (np.arange(columns) - columns / 5)[None] * column_mm
    streaks = np.sin(_STREAKS * np.arctan2(down, right)) * np.exp(-np.hypot(down, right) / _STREAK_REACH_MM)
    return _replace_hu(part, part.scan.hu + STREAK_HU * streaks)


def widen_window(part: SliceGroup) -> SliceGroup:
    """Take the greys for those of a window that is a quarter wider, so that every contrast seems larger."""
    return _replace_hu(part, 40 + (part.scan.hu.astype(np.float64) - 40) * WINDOW_FACTOR)


def narrow_window(part: SliceGroup) -> SliceGroup:
    """Take the greys for those of a window that is a fifth narrower, so that every contrast seems smaller."""
    return _replace_hu(part, 40 + (part.scan.hu.astype(np.float64) - 40) / WINDOW_FACTOR)


def join_slices(part: SliceGroup) -> SliceGroup | None:
    """Join two slices into one that is twice as thick; None for one slice, and where their number is odd."""
    scan = part.scan
    if len(scan.hu) % 2:
        return None
    hu = scan.hu.astype(np.float64)
    step_mm = 2 * float(np.median(scan.planes.weights_mm))
    thick = Scan.from_array(
        (hu[::2] + hu[1::2]) / 2, (step_mm, *scan.planes.pixel_spacing_mm), calibrated=scan.calibrated
    )
    return SliceGroup(replace(thick, window=scan.window), part.truth_ml, part.known[::2] & part.known[1::2])


def remove_middle_slice(part: SliceGroup) -> SliceGroup | None:
    """Take the middle slice out; None for under five. What was drawn on it still counts."""
    scan = part.scan
    count = len(scan.hu)
    if count < 5:
        return None
    kept = np.arange(count) != count // 2
    planes = replace(scan.planes, positions_mm=scan.planes.positions_mm[kept])
    return SliceGroup(replace(scan, hu=scan.hu[kept], planes=planes), part.truth_ml, part.known[kept])


DEGRADATIONS: dict[str, tuple[Degradation, ...]] = {
    "sharp-kernel": (add_noise,),
    "motion": (add_motion,),
    "metal": (add_streaks,),
    "window-estimated": (widen_window, narrow_window),
    "thick-slices": (join_slices,),
    "missing-slices": (remove_middle_slice,),
}
ASSUMED_FACTORS = {"contrast-medium": 2.0, "missing-files": 1.5, "coloured-overlay": 1.5, "affines-disagree": 1.5}
"""Factors that no degraded slice can measure: a guess on the careful side, and called so."""


def _replace_hu(part: SliceGroup, hu: NDArray[np.floating]) -> SliceGroup:
    """Return the slices other values; a picture's stay in its window."""
    scan = part.scan
    low, high = (-1024.0, 3071.0)
    if scan.window is not None:
        low, high = scan.window[0] - scan.window[1] / 2, scan.window[0] + scan.window[1] / 2
    return replace(part, scan=replace(scan, hu=np.rint(np.clip(hu, low, high)).astype(np.int16)))
