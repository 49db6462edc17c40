"""The ventricles, and the blood in them.

The atlas gives the position of the ventricles; the visible fluid gives their width in this patient. Blood hides the
wall between tissue and ventricle. A lesion beside a ventricle is therefore split only if both parts extend far enough;
a thin rim belongs to the other part.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

from strokeseg.measurements.head.atlas import AtlasFit
from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.measurements.lesion_points import LesionPoints
from strokeseg.scan import Floats

Mask = NDArray[np.bool_]

# Density of CSF, HU, and the limit of fluid as a share of the difference between CSF and brain.
_CSF_HU, _FLUID_SHARE = 6.0, 0.45
# Largest extent of a patient's ventricles beyond the template's, and the distance that they must reach, mm.
_REACH_MM, _CORE_MM = 9.0, 1.0
# Fluid within this distance of blood may be displaced or have a blurred edge, mm.
_BLOOD_MARGIN_MM = 4.0
# Limits of the widening of the ventricles relative to the template, and its usual value, mm on every side.
_MIN_WIDENING_MM, _MAX_WIDENING_MM, _USUAL_WIDENING_MM = -1.0, 6.0, 1.0
# Tolerance for blood outside of the wall, mm: the error of the registration.
_WALL_MM = 2.0
# A part of a lesion that extends less far from the other part is its rim, mm.
_RIM_MM = 8.0
# A smaller volume in the ventricles is no finding, ml.
_MIN_ML = 0.2


@dataclass(frozen=True)
class Ventricles:
    """The ventricles on the samples of the head.

    Attributes
    ----------
    fluid : ndarray of bool, shape (slices, rows, columns)
        CSF in the ventricles.
    fluid_ml : float
        Volume of the CSF, ml.
    widening_mm : ndarray of float, shape (2,)
        Distance of the walls beyond the template's walls, on the right and on the left, mm; a hemorrhage compresses the
        ventricle on its own side.
    """

    fluid: Mask
    fluid_ml: float
    widening_mm: Floats


@dataclass(frozen=True)
class VentricularBlood:
    """The blood in the ventricles.

    Attributes
    ----------
    lesions_ml : tuple of float
        Volume of each lesion in the ventricles, ml.
    total_ml : float
        Volume of all lesions in the ventricles, ml.
    share : float or None
        Share of the ventricles' volume, 0 to 1; None if neither fluid nor blood is detected in them.
    present : bool
        Whether the volume is 0.2 ml or more.
    """

    lesions_ml: tuple[float, ...]
    total_ml: float
    share: float | None
    present: bool


def find_ventricles(head: CoarseHead, fit: AtlasFit) -> Ventricles:
    """Detect the fluid of the ventricles: connected, near the template's ventricles, and reaching them.

    Parameters
    ----------
    head : CoarseHead
        The head.
    fit : AtlasFit
        Registered atlas.

    Returns
    -------
    Ventricles
        The ventricles.
    """
    distance, left = np.full(head.hu.shape, np.inf), np.zeros(head.hu.shape, dtype=bool)
    points = _positions_mm(head, np.argwhere(head.brain))
    distance[head.brain] = fit.distance_mm("ventricle", points)
    left[head.brain] = fit.midplane.distance_mm(points) > 0
    blood = head.blood > 0.25
    tissue = head.brain & ~blood & (head.samples.bone_share < 0.1)
    brain_hu = float(np.median(head.hu[tissue])) if tissue.any() else 32.0
    limit_hu = _CSF_HU + _FLUID_SHARE * (brain_hu - _CSF_HU)
    near = distance < _REACH_MM
    fluid = near & ~blood & (head.hu < limit_hu) & (head.samples.bone_share < 0.1)
    labels, count = ndimage.label(fluid)
    reaches_core = np.zeros(count + 1, dtype=bool)
    reaches_core[np.unique(labels[fluid & (distance < _CORE_MM)])] = True
    reaches_core[0] = False
    fluid = reaches_core[labels]
    voxel_ml = _sample_volumes_ml(head)
    free = near & ~_dilate_blood(blood, head)
    widening = np.array([_measure_widening_mm(distance[side], fluid[side]) for side in (free & ~left, free & left)])
    return Ventricles(fluid, float((fluid.sum((1, 2)) * voxel_ml).sum()), widening)


def measure_ventricular_blood(lesions: list[LesionPoints], fit: AtlasFit, ventricles: Ventricles) -> VentricularBlood:
    """Measure how much of each lesion lies in the ventricles.

    Tested on heads made of the template (tests/measurements/head/test_ventricles.py). Not measured on patients, because
    no whole scans with labelled ventricular blood were available. Blood is missed in ventricles that it has widened
    greatly or that a hemorrhage has displaced; ventricles beside an infarct are measured too wide.

    Parameters
    ----------
    lesions : list of LesionPoints
        Points of each lesion.
    fit : AtlasFit
        Registered atlas.
    ventricles : Ventricles
        The ventricles.

    Returns
    -------
    VentricularBlood
        The volumes.
    """
    inside = [mark_intraventricular(lesion, fit, ventricles) for lesion in lesions]
    volumes_ml = [float(lesion.volumes_ml[selected].sum()) for lesion, selected in zip(lesions, inside, strict=True)]
    total = sum(volumes_ml)
    capacity_ml = total + ventricles.fluid_ml
    return VentricularBlood(
        tuple(volumes_ml), total, total / capacity_ml if capacity_ml > 0 else None, present=total >= _MIN_ML
    )


def mark_intraventricular(lesion: LesionPoints, fit: AtlasFit, ventricles: Ventricles) -> Mask:
    """Mark the points of a lesion that lie in the ventricles.

    The wall is the template's wall, moved outwards by the measured widening. If a lesion crosses the wall, its smaller
    part counts to the larger one unless it extends more than 8 mm from it. A smaller part that extends less far is the
    rim of a lesion that bulges into the ventricle, or of a ventricle that the blood has widened.

    Parameters
    ----------
    lesion : LesionPoints
        Points of the lesion.
    fit : AtlasFit
        Registered atlas.
    ventricles : Ventricles
        The ventricles.

    Returns
    -------
    ndarray of bool, shape (n,)
        True for points in the ventricles.
    """
    widening_mm = ventricles.widening_mm[(fit.midplane.distance_mm(lesion.points_mm) > 0).astype(np.intp)]
    inside = fit.distance_mm("ventricle", lesion.points_mm) < widening_mm + _WALL_MM
    if not inside.any() or inside.all():
        return inside
    outer, inner = lesion.points_mm[~inside], lesion.points_mm[inside]
    share = lesion.volume_share(inside)
    if share < 0.5 and _max_reach_mm(inner, outer) < _RIM_MM:
        return np.zeros_like(inside)
    if share >= 0.5 and _max_reach_mm(outer, inner) < _RIM_MM:
        return np.ones_like(inside)
    return inside


def _max_reach_mm(part: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Distance to which a part extends from the other part, mm, without the furthest 5 % of its points."""
    return float(np.quantile(cKDTree(other).query(part)[0], 0.95))


def _measure_widening_mm(distance: NDArray[np.float64], fluid: Mask) -> float:
    """Find the distance from the template's ventricles that encloses the same volume as the fluid, mm."""
    if distance.size < 50 or (distance < 0).sum() < 20:
        return _USUAL_WIDENING_MM
    level = np.quantile(distance, min(1.0, fluid.mean()))
    return float(np.clip(level, _MIN_WIDENING_MM, _MAX_WIDENING_MM))


def _dilate_blood(blood: Mask, head: CoarseHead) -> Mask:
    """Dilate the blood within slices by :data:`_BLOOD_MARGIN_MM`."""
    steps = max(1, round(_BLOOD_MARGIN_MM / min(head.samples.spacing_mm)))
    return np.asarray(ndimage.binary_dilation(blood, np.ones((1, 3, 3), dtype=bool), iterations=steps))


def _positions_mm(head: CoarseHead, samples: NDArray[np.intp]) -> Floats:
    """Map indices of samples, shape (n, 3), to LPS mm."""
    step = head.samples.pixel_step
    indices = samples * (1.0, step, step) + (0, (step - 1) / 2, (step - 1) / 2)
    indices[:, 0] = head.slices[samples[:, 0]]
    return head.scan.planes.to_lps_mm(indices)


def _sample_volumes_ml(head: CoarseHead) -> NDArray[np.float64]:
    """Volume of a sample on each slice of samples, ml; slices between two samples count to the nearer one."""
    planes = head.scan.planes
    index = np.minimum(np.arange(head.scan.shape[0]) // head.samples.slice_step, len(head.hu) - 1)
    lengths = np.bincount(index, planes.weights_mm, minlength=len(head.hu))
    return lengths * head.samples.spacing_mm[0] * head.samples.spacing_mm[1] / 1000
