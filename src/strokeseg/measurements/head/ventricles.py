"""The ventricles, and the blood in them.

The atlas says where ventricles may be; how wide they are in this patient is read off the fluid that is seen. Blood
hides the wall between tissue and ventricle, so that a bleed next to a ventricle is split only where its two parts have
a shape of their own: what is but a rind of the other belongs to it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from strokeseg.measurements.head.atlas import AtlasFit
from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.measurements.lesion.points import LesionPoints
from strokeseg.scan import Floats

Mask = NDArray[np.bool_]

# Fluid is what is nearer to CSF than to brain, by this part of the way.
_CSF_HU, _FLUID_SHARE = 6.0, 0.45
# How far outside of the template's ventricles a patient's may reach, mm, and within what a ventricle must touch them.
_REACH_MM, _CORE_MM = 9.0, 1.0
# Fluid so near to blood may be pushed, or its edge be blurred.
_BLOOD_MARGIN_MM = 4.0
# How much wider than the template's the ventricles can be read to be, mm on every side.
_MIN_WIDENING_MM, _MAX_WIDENING_MM, _USUAL_WIDENING_MM = -1.0, 6.0, 1.0
# Blood up to so far outside of the wall may still be inside: the fit's own error.
_WALL_MM = 2.0
# A part that nowhere reaches so far from the other one is its rind, mm; half of each lesion decides which is which.
_RIND_MM = 8.0
# Less than this is no finding, ml.
_MIN_ML = 0.2


@dataclass(frozen=True)
class Ventricles:
    """The ventricles on the head's samples.

    Parameters
    ----------
    fluid : ndarray of bool, shape (slices, rows, columns)
        CSF in them.
    fluid_ml : float
        Its volume, ml.
    wider_mm : object
        (2,), how much further out their walls lie than the template's, on the right and on the left: a bleed presses
        those on its own side together.
    """

    fluid: Mask
    fluid_ml: float
    widening_mm: Floats


@dataclass(frozen=True)
class VentricularBlood:
    """The blood in the ventricles.

    Parameters
    ----------
    lesions_ml : tuple of float
        One a lesion, ml.
    total_ml : float
        Of all lesions.
    share : float or None
        Of the ventricles' volume, 0 to 1; None where neither fluid nor blood is seen in them.
    present : bool
        Whether there is any, 0.2 ml or more.
    """

    lesions_ml: tuple[float, ...]
    total_ml: float
    share: float | None
    present: bool


def find_ventricles(head: CoarseHead, fit: AtlasFit) -> Ventricles:
    """Find the ventricles' fluid: connected, in reach of the template's ventricles, and touching them."""
    distance, left = np.full(head.hu.shape, np.inf), np.zeros(head.hu.shape, dtype=bool)
    places = _positions_mm(head, np.argwhere(head.brain))
    distance[head.brain] = fit.distance_mm("ventricle", places)
    left[head.brain] = fit.midplane.distance_mm(places) > 0
    blood = head.blood > 0.25
    tissue = head.brain & ~blood & (head.samples.bone_share < 0.1)
    brain_hu = float(np.median(head.hu[tissue])) if tissue.any() else 32.0
    limit_hu = _CSF_HU + _FLUID_SHARE * (brain_hu - _CSF_HU)
    reached = distance < _REACH_MM
    fluid = reached & ~blood & (head.hu < limit_hu) & (head.samples.bone_share < 0.1)
    parts, count = ndimage.label(fluid)
    held = np.zeros(count + 1, dtype=bool)
    held[np.unique(parts[fluid & (distance < _CORE_MM)])] = True
    held[0] = False
    fluid = held[parts]
    voxel_ml = _sample_volumes_ml(head)
    free = reached & ~_dilate_blood(blood, head)
    wider = np.array([_measure_widening_mm(distance[own], fluid[own]) for own in (free & ~left, free & left)])
    return Ventricles(fluid, float((fluid.sum((1, 2)) * voxel_ml).sum()), wider)


def measure_ventricular_blood(spreads: list[LesionPoints], fit: AtlasFit, found: Ventricles) -> VentricularBlood:
    """Tell how much of every lesion lies in the ventricles.

    Tested on heads made of the template (tests/measure/test_ventricle.py); not measured on patients, for want of whole
    scans with labelled ventricular blood. It will miss blood in ventricles that it has widened far or that a bleed has
    pushed away, and where an infarct touches them they are read too wide.

    Parameters
    ----------
    spreads : list of LesionPoints
        One a lesion.
    """
    inside = [mark_intraventricular(each, fit, found) for each in spreads]
    lesions = [float(each.volumes_ml[within].sum()) for each, within in zip(spreads, inside, strict=True)]
    total = sum(lesions)
    whole = total + found.fluid_ml
    return VentricularBlood(tuple(lesions), total, total / whole if whole > 0 else None, present=total >= _MIN_ML)


def mark_intraventricular(lesion: LesionPoints, fit: AtlasFit, found: Ventricles) -> Mask:
    """Mark the lesion's places that lie in the ventricles, (n,).

    The wall is the template's, as much wider as the fluid is. Of a lesion that crosses it, a part that nowhere reaches
    more than 8 mm from the other part is a rind, of a bleed that bulges into the ventricle or of a ventricle that the
    blood has widened, and goes with the other part, if that is the larger one.
    """
    wider_mm = found.widening_mm[(fit.midplane.distance_mm(lesion.points_mm) > 0).astype(np.intp)]
    within = fit.distance_mm("ventricle", lesion.points_mm) < wider_mm + _WALL_MM
    if not within.any() or within.all():
        return within
    outer, inner = lesion.points_mm[~within], lesion.points_mm[within]
    share = lesion.volume_share(within)
    if share < 0.5 and _max_reach_mm(inner, outer) < _RIND_MM:
        return np.zeros_like(within)
    if share >= 0.5 and _max_reach_mm(outer, inner) < _RIND_MM:
        return np.ones_like(within)
    return within


def _max_reach_mm(part: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """How far a part reaches away from the other one, mm; the furthest twentieth is left out."""
    return float(np.quantile(cKDTree(other).query(part)[0], 0.95))


def _measure_widening_mm(distance: NDArray[np.float64], fluid: Mask) -> float:
    """Return the level of the template's distance that holds as much as the fluid."""
    if distance.size < 50 or (distance < 0).sum() < 20:
        return _USUAL_WIDENING_MM
    level = np.quantile(distance, min(1.0, fluid.mean()))
    return float(np.clip(level, _MIN_WIDENING_MM, _MAX_WIDENING_MM))


def _dilate_blood(blood: Mask, head: CoarseHead) -> Mask:
    """What is near blood on its slice."""
    steps = max(1, round(_BLOOD_MARGIN_MM / min(head.samples.spacing_mm)))
    return np.asarray(ndimage.binary_dilation(blood, np.ones((1, 3, 3), dtype=bool), iterations=steps))


def _positions_mm(head: CoarseHead, samples: NDArray[np.intp]) -> Floats:
    """Map samples, (n, 3), to LPS mm."""
    step = head.samples.pixel_step
    whole = samples * (1.0, step, step) + (0, (step - 1) / 2, (step - 1) / 2)
    whole[:, 0] = head.slices[samples[:, 0]]
    return head.scan.planes.to_lps_mm(whole)


def _sample_volumes_ml(head: CoarseHead) -> NDArray[np.float64]:
    """(samples' slices,), a sample's volume, ml; slices between two samples count with the nearer one."""
    planes = head.scan.planes
    index = np.minimum(np.arange(head.scan.shape[0]) // head.samples.slice_step, len(head.hu) - 1)
    lengths = np.bincount(index, planes.weights_mm, minlength=len(head.hu))
    return lengths * head.samples.spacing_mm[0] * head.samples.spacing_mm[1] / 1000
