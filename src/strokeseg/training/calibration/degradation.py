"""Degrade good slices, to measure by how much volumes become less accurate.

Each degradation takes the slices of a patient and returns them degraded, or None if there are too few of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from strokeseg.scan import Scan
from strokeseg.training.sample import UNKNOWN

NOISE_HU = 15.0
"""Standard deviation of white noise; the remark `sharp-kernel` is given from 12 HU on."""
SHIFT_MM = 4.0
"""Shift of the head between the two halves of a rotation; the remark `motion` is given from 4 mm on."""
STREAK_HU = 20.0
"""Amplitude of the streaks, at the metal."""
WINDOW_FACTOR = 1.25
"""Ratio of the estimated window's width to the true one's, or its inverse."""

_STREAKS = 24
_STREAK_REACH_MM = 60.0


@dataclass(frozen=True)
class SliceGroup:
    """Slices of one patient that have the same size, with their annotated volume.

    Attributes
    ----------
    scan : Scan
        The slices as the network receives them.
    truth_ml : float
        Annotated volume at the nominal spacing, ml.
    known : ndarray of bool, shape (slices, rows, columns)
        False where the truth is unknown.
    """

    scan: Scan
    truth_ml: float
    known: NDArray[np.bool_]


Degradation = Callable[[SliceGroup], SliceGroup | None]


def make_slice_group(scan: Scan, truth: NDArray[np.uint8]) -> SliceGroup:
    """Group slices with their masks, as :class:`strokeseg.training.sample.Sample` has them."""
    weights_mm = scan.weights_mm
    if weights_mm is None:
        raise ValueError("a volume needs a known spacing, nominal or not")
    truth_ml = float((truth == 1).sum((1, 2)) @ weights_mm * scan.planes.pixel_area_mm2 / 1000)
    return SliceGroup(scan, truth_ml, truth != UNKNOWN)


def add_noise(group: SliceGroup) -> SliceGroup:
    """Add white noise."""
    noise = np.random.default_rng(0).normal(0, NOISE_HU, group.scan.shape)
    return _replace_hu(group, group.scan.hu + noise)


def add_motion(group: SliceGroup) -> SliceGroup:
    """Average the head with itself shifted by 4 mm to the side."""
    scan = group.scan
    pixels = max(1, round(SHIFT_MM / scan.planes.pixel_spacing_mm[1]))
    moved = np.pad(scan.hu, ((0, 0), (0, 0), (pixels, 0)), mode="edge")[..., : scan.shape[2]]
    return _replace_hu(group, (scan.hu.astype(np.float64) + moved) / 2)


def add_streaks(group: SliceGroup) -> SliceGroup:
    """Add streaks that start at one side of the head."""
    _, rows, columns = group.scan.shape
    row_mm, column_mm = group.scan.planes.pixel_spacing_mm
    down = (np.arange(rows) - rows / 2)[:, None] * row_mm
    right = (np.arange(columns) - columns / 5)[None] * column_mm
    streaks = np.sin(_STREAKS * np.arctan2(down, right)) * np.exp(-np.hypot(down, right) / _STREAK_REACH_MM)
    return _replace_hu(group, group.scan.hu + STREAK_HU * streaks)


def widen_window(group: SliceGroup) -> SliceGroup:
    """Read the grey levels through a window that is a quarter wider: every contrast becomes larger."""
    return _replace_hu(group, 40 + (group.scan.hu.astype(np.float64) - 40) * WINDOW_FACTOR)


def narrow_window(group: SliceGroup) -> SliceGroup:
    """Read the grey levels through a window that is a fifth narrower: every contrast becomes smaller."""
    return _replace_hu(group, 40 + (group.scan.hu.astype(np.float64) - 40) / WINDOW_FACTOR)


def join_slices(group: SliceGroup) -> SliceGroup | None:
    """Join every two slices into one of twice the thickness; None if their number is odd."""
    scan = group.scan
    if len(scan.hu) % 2:
        return None
    hu = scan.hu.astype(np.float64)
    step_mm = 2 * float(np.median(scan.planes.weights_mm))
    thick = Scan.from_array(
        (hu[::2] + hu[1::2]) / 2, (step_mm, *scan.planes.pixel_spacing_mm), calibrated=scan.calibrated
    )
    return SliceGroup(replace(thick, window=scan.window), group.truth_ml, group.known[::2] & group.known[1::2])


def remove_middle_slice(group: SliceGroup) -> SliceGroup | None:
    """Remove the middle slice; None for fewer than five. Its annotated volume still counts."""
    scan = group.scan
    count = len(scan.hu)
    if count < 5:
        return None
    remaining = np.arange(count) != count // 2
    planes = replace(scan.planes, positions_mm=scan.planes.positions_mm[remaining])
    return SliceGroup(replace(scan, hu=scan.hu[remaining], planes=planes), group.truth_ml, group.known[remaining])


DEGRADATIONS: dict[str, tuple[Degradation, ...]] = {
    "sharp-kernel": (add_noise,),
    "motion": (add_motion,),
    "metal": (add_streaks,),
    "window-estimated": (widen_window, narrow_window),
    "thick-slices": (join_slices,),
    "missing-slices": (remove_middle_slice,),
}
ASSUMED_FACTORS = {"contrast-medium": 2.0, "missing-files": 1.5, "coloured-overlay": 1.5, "affines-disagree": 1.5}
"""Factors that no degraded slice can measure: cautious assumptions, reported as such."""


def _replace_hu(group: SliceGroup, hu: NDArray[np.floating]) -> SliceGroup:
    """Replace the values of the slices; those of a picture stay in its window."""
    scan = group.scan
    low, high = (-1024.0, 3071.0)
    if scan.window is not None:
        low, high = scan.window[0] - scan.window[1] / 2, scan.window[0] + scan.window[1] / 2
    return replace(group, scan=replace(scan, hu=np.rint(np.clip(hu, low, high)).astype(np.int16)))
