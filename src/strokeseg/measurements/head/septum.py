"""The septum pellucidum on one slice: what parts the two lateral ventricles.

On many lines across the head, a narrow gap between two runs of fluid is looked for. The septum is where such gaps lie
in one line from the front to the back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.scan import Floats

# The grid on which a slice is looked at: across the midline and along it, mm; and how it is smoothed (standard
# deviations): along the septum more than across.
_ASIDE_MM, _ACROSS_MM, _ALONG_MM = 44.0, 0.5, 1.0
_SMOOTH_MM = (2.0, 0.8)
# What of the midline is looked at, in parts of its length from the front; further back the ventricles part.
_FROM, _TO = 0.08, 0.55
# The foramen of Monro is about here, and the septum is asked near it.
_FORAMEN_PART, _FORAMEN_SD = 0.42, 0.06
# The septum's middle lies in this part of the midline, from the front; a gap that goes on before the second is the
# fissure between the hemispheres.
_SEPTUM_PART, _FISSURE_PART = (0.25, 0.52), 0.2
# Fluid is darker than brain by at least this, HU; it ends where the grey is these parts of the way from fluid to brain.
# The lower ones part ventricles between which a thin septum is blurred.
_LEAST_CONTRAST_HU = 10.0
_LEVELS = (0.5, 0.36, 0.24)
_DARKEST_HU = -15.0
# Its own grey is the darkest in the head's centre: from this part of the midline on, and so far aside of it.
_CENTRE_PART, _CENTRE_MM = 0.28, 20.0
# Of a gap between two runs of fluid: the widest, the width at which it counts 1/e, the narrowest run beside it, mm.
_WIDEST_MM, _NARROW_MM, _RUN_MM = 14.0, 7.0, 1.5
# The same of ventricles that blood fills: a bleed beside a ventricle is thicker, and lies further off.
_BLOODY_GAP_MM, _BLOODY_RUN_MM = 5.0, 18.0
_SOME_BLOOD, _BLOOD = 0.3, 0.5
# The septum leans at most so much, is at least so long, and has at least so much fluid on each side.
# Its lines across are seen at least so well on average (3 is wide runs at all levels), and no two are further apart.
_LEAN, _LONG_MM, _FLUID_MM2, _LEAST_SEEN, _BREAK_MM = 0.36, 8.0, 15.0, 0.85, 3.5
_FURTHEST_MM, _OFF_LINE_MM = 22.0, 1.5


@dataclass(frozen=True)
class Septum:
    """The septum on one slice.

    Parameters
    ----------
    place_mm : object
        (3,), LPS mm.
    weight : float
        How well it is seen: the gaps that it is made of, narrow ones near the foramen of Monro counting most.
    """

    point_mm: Floats
    weight: float


def find_septum(head: CoarseHead, sample: int, ends_mm: Floats, *, level_known: bool) -> Septum | None:
    """Find the septum on one slice.

    Parameters
    ----------
    sample : int
        Index of the head's sample slice.
    ends_mm : Floats
        (2, 3), LPS mm, the front and the back end of the ideal midline on it.
    level_known : bool
        Whether the slice is known to lie at the ventricles' level: only then may blood be what fills them.

    Returns
    -------
    Septum or None
        None where nothing parts two ventricles.
    """
    front_mm, back_mm = ends_mm
    length = float(np.linalg.norm(back_mm - front_mm))
    back = (back_mm - front_mm) / length
    left = np.cross(head.scan.planes.normal, back)
    aside = np.arange(-_ASIDE_MM, _ASIDE_MM + _ACROSS_MM, _ACROSS_MM)
    along = np.arange(_FROM * length, _TO * length, _ALONG_MM)
    grey, blood = _resample(head, sample, front_mm + along[:, None, None] * back + aside[:, None] * left)
    brain = _brain_hu(head, sample)
    middle = grey[np.ix_(along > _CENTRE_PART * length, np.abs(aside) < _CENTRE_MM)]
    fluid = max(float(np.percentile(middle, 2)), _DARKEST_HU)
    if brain - fluid < _LEAST_CONTRAST_HU:
        return None
    # Air and fat are as little fluid as blood is. Where no septum is seen then, blood may be what fills a ventricle.
    plain = np.where((grey < _DARKEST_HU) | (blood > _SOME_BLOOD), brain, grey)
    line = _fit_line(_find_gaps_at_levels(plain, brain, fluid, along, aside), length)
    if line is None and level_known and blood.max() > _BLOOD:
        gaps = _find_gaps_at_levels(np.where(blood > _BLOOD, fluid, plain), brain, fluid, along, aside)
        slim = (gaps[:, 2] <= _BLOODY_GAP_MM) & (gaps[:, 3:5] <= _BLOODY_RUN_MM).all(1)
        line = _fit_line(gaps[slim], length)
    if line is None:
        return None
    return Septum(front_mm + line[0] * back + line[1] * left, line[2])


def _resample(head: CoarseHead, sample: int, places_mm: Floats) -> tuple[Floats, Floats]:
    """Smoothed grey of the scan's own pixels at places on a sample's slice, and the share of blood there.

    Of thin slices, the mean of all that the sample stands for is taken.
    """
    planes, step = head.scan.planes, head.samples.slice_step
    index = int(head.slices[sample])
    first = max(0, index - (step - 1) // 2)
    pixels = head.scan.hu[first : first + step]
    apart = places_mm - planes.positions_mm[index]
    rows = apart @ planes.column_cosine / planes.pixel_spacing_mm[0]
    columns = apart @ planes.row_cosine / planes.pixel_spacing_mm[1]
    first_at = [
        min(max(0, int(at.min()) - 1), size - 1) for at, size in zip((rows, columns), pixels.shape[1:], strict=True)
    ]
    box = [slice(low, max(low + 1, int(at.max()) + 3)) for low, at in zip(first_at, (rows, columns), strict=True)]
    cut = pixels[:, box[0], box[1]].mean(0, dtype=np.float32)
    grey = ndimage.map_coordinates(cut, [rows - box[0].start, columns - box[1].start], order=1, mode="nearest")
    grey = ndimage.gaussian_filter(grey, (_SMOOTH_MM[0] / _ALONG_MM, _SMOOTH_MM[1] / _ACROSS_MM))
    pixel = head.samples.pixel_step
    blood = ndimage.map_coordinates(
        head.blood[sample], [(at - (pixel - 1) / 2) / pixel for at in (rows, columns)], order=1, mode="nearest"
    )
    return grey, blood


def _brain_hu(head: CoarseHead, sample: int) -> float:
    inside = ndimage.binary_erosion(head.brain[sample], iterations=2) & (head.blood[sample] < 0.1)
    return float(np.median(head.hu[sample][inside])) if inside.any() else 0.0


def _find_gaps_at_levels(grey: Floats, brain: float, fluid: float, along: Floats, aside: Floats) -> Floats:
    """The gaps (:func:`_gaps`) at every level."""
    return np.concatenate([_find_gaps(grey < fluid + level * (brain - fluid), along, aside) for level in _LEVELS])


def _find_gaps(fluid: NDArray[np.bool_], along: Floats, aside: Floats) -> Floats:
    """Return (n, 7) of every gap: place along and aside, width, both runs' widths, weight, how well it is seen.

    A gap is what lies between two neighbouring runs of fluid on one line across; runs that leave the grid are open.
    """
    padded = np.pad(fluid, ((0, 0), (1, 1))).astype(np.int8)
    change = np.diff(padded, axis=1)
    row, start = np.nonzero(change == 1)
    stop = np.nonzero(change == -1)[1]
    inner = (start > 0) & (stop < fluid.shape[1])
    widths = (stop - start) * _ACROSS_MM
    here, there = np.arange(row.size - 1), np.arange(1, row.size)
    gap = (start[there] - stop[here]) * _ACROSS_MM
    good = (row[here] == row[there]) & (gap <= _WIDEST_MM) & inner[here] & inner[there]
    good &= np.minimum(widths[here], widths[there]) >= _RUN_MM
    here, there, gap = here[good], there[good], gap[good]
    middle = aside[0] + (start[there] + stop[here] - 1) / 2 * _ACROSS_MM
    seen = np.minimum(1, np.minimum(widths[here], widths[there]) / 3)
    weight = seen * np.exp(-((gap / _NARROW_MM) ** 2))
    return np.column_stack([along[row[here]], middle, gap, widths[here], widths[there], weight, seen])


def _fit_line(gaps: Floats, length_mm: float) -> tuple[float, float, float] | None:
    """The straight line on which most gaps lie: the place along and aside of its middle, and its weight."""
    if len(gaps) < 3:
        return None
    leans = np.arange(-_LEAN, _LEAN + 0.01, 0.06)
    half = length_mm * _FORAMEN_PART
    bins = np.arange(-40.0, 41.0)
    votes = np.stack(
        [np.histogram(gaps[:, 1] - lean * (gaps[:, 0] - half), bins, weights=gaps[:, 5])[0] for lean in leans]
    )
    votes = votes + 0.5 * (np.roll(votes, 1, 1) + np.roll(votes, -1, 1))
    which, at = np.unravel_index(votes.argmax(), votes.shape)
    lean, aside = float(leans[which]), float(bins[at] + 0.5)
    for _ in range(2):
        off = np.abs(gaps[:, 1] - aside - lean * (gaps[:, 0] - half))
        on = gaps[off < _OFF_LINE_MM]
        # Through places on one line across, or on two, any line would do.
        if np.unique(on[:, 0]).size < 3:
            return None
        lean, level = np.polyfit(on[:, 0] - half, on[:, 1], 1, w=np.sqrt(on[:, 5]))
        aside = float(level)
    return _check_septum(on, length_mm) if abs(lean) <= 1.5 * _LEAN else None


def _check_septum(on: Floats, length_mm: float) -> tuple[float, float, float] | None:
    """Whether gaps in one line are a septum, and its middle; only its longest unbroken part counts."""
    on = on[np.argsort(on[:, 0], kind="stable")]
    parts = np.split(on, np.flatnonzero(np.diff(on[:, 0]) > _BREAK_MM) + 1)
    on = max(parts, key=lambda part: float(part[:, 5].sum()))
    rows, first = np.unique(on[:, 0], return_index=True)
    if rows.size * _ALONG_MM < _LONG_MM or on[:, 6].sum() < _LEAST_SEEN * rows.size:
        return None
    if min(on[first, 3].sum(), on[first, 4].sum()) * _ALONG_MM < _FLUID_MM2:
        return None
    middle = float(np.average(on[:, 0], weights=on[:, 5]))
    if not _SEPTUM_PART[0] <= middle / length_mm <= _SEPTUM_PART[1] or rows[0] < _FISSURE_PART * length_mm:
        return None
    near = on[:, 5] * np.exp(-(((on[:, 0] / length_mm - _FORAMEN_PART) / _FORAMEN_SD) ** 2) / 2)
    along, off = (float(np.average(on[:, column], weights=near + 1e-6)) for column in (0, 1))
    return (along, off, float(near.sum())) if abs(off) <= _FURTHEST_MM else None
