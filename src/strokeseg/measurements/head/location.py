"""Location of a lesion in radiological terms: side, above or below the tentorium, part of the brain.

Each of them is "unsure" if the evidence from the head (mid-sagittal plane, registered atlas, inner surface of the
skull) does not suffice.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strokeseg.imaging.components import Labels
from strokeseg.measurements.head import atlas
from strokeseg.measurements.head.atlas import AtlasFit
from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.measurements.head.extra_axial import is_dural_sheet, is_layer_at_skull
from strokeseg.measurements.head.inner_table import InnerTable
from strokeseg.measurements.head.midplane import Midplane
from strokeseg.measurements.head.ventricles import VentricularBlood, find_ventricles, measure_ventricular_blood
from strokeseg.measurements.lesion_points import LesionPoints, merge_points, sample_lesions
from strokeseg.result import Location, Side, Tentorium, are_sides_known

# Without a spacing the head gives the scale: its largest slice has about the area of a circle of this radius, mm.
_HEAD_RADIUS_MM = 72.0
# A lesion on the midline: this share within this distance of the plane, or centred on it within the last distance, mm.
_MIDLINE_MM, _MIDLINE_SHARE, _CENTRED_MM = 5.0, 0.6, 12.0
# A lesion on both sides: share beyond the midline distance on each side.
_BOTH_SHARE = 0.15
# If the plane is not reliable, only a lesion beyond this distance has a side, mm.
_CLEAR_MM = 15.0
# Error of the atlas at the tentorium, mm.
_TENTORIUM_MM = 3.0
# Points further outside of the inner table lie in bone, scalp or air, mm.
_OUTSIDE_MM = 5.0


@dataclass(frozen=True)
class LesionLocation:
    """Location of a lesion.

    Attributes
    ----------
    side : Side
        Side of the patient.
    tentorium : Tentorium
        Above or below the tentorium.
    place : Location
        Part of the brain.
    """

    side: Side
    tentorium: Tentorium
    place: Location


@dataclass(frozen=True)
class Locations:
    """Locations of all lesions.

    Attributes
    ----------
    lesions : tuple of LesionLocation
        Location of each lesion.
    side : Side or None
        Side of all lesions together; None without a lesion.
    ventricular_blood : VentricularBlood or None
        Blood in the ventricles; None if the atlas could not be registered.
    """

    lesions: tuple[LesionLocation, ...]
    side: Side | None
    ventricular_blood: VentricularBlood | None


def locate_lesions(labels: Labels, count: int, head: CoarseHead, plane: Midplane | None) -> Locations:
    """Determine the location of each lesion and the blood in the ventricles.

    Parameters
    ----------
    labels : ndarray of int, shape (slices, rows, columns)
        Lesions, numbered 1 to ``count``, on the scan's own grid.
    count : int
        Number of lesions.
    head : CoarseHead
        The head.
    plane : Midplane or None
        The mid-sagittal plane, if detected.

    Returns
    -------
    Locations
        The locations.
    """
    table = InnerTable.from_head(head)
    fit = None if plane is None else atlas.fit_atlas(head, plane, table)
    lesions = sample_lesions(labels, count, head.scan)
    blood = None if fit is None else measure_ventricular_blood(lesions, fit, find_ventricles(head, fit))
    unit = nominal_mm_per_mm(head)
    locations = []
    for index, lesion in enumerate(lesions):
        if is_outside_skull(lesion, fit):
            locations.append(LesionLocation(find_side(lesion, head, plane), "unsure", "unsure"))
            continue
        level = find_tentorial_level(lesion, fit)
        share = 0.0 if blood is None else blood.lesions_ml[index] / lesion.total_ml
        place = classify_place(lesion, table, plane, fit, share, level, unit)
        locations.append(LesionLocation(find_side(lesion, head, plane), level, place))
    merged = merge_points(lesions)
    return Locations(tuple(locations), None if merged is None else find_side(merged, head, plane), blood)


def find_side(lesion: LesionPoints, head: CoarseHead, plane: Midplane | None) -> Side:
    """Determine the side of a lesion, or of all lesions together.

    Midline: 60 % of the volume within 5 mm of the mid-sagittal plane, or centred on it and within 12 mm. Both: at least
    15 % beyond 5 mm on each side. Unsure: no plane, a plane that is not reliable and a lesion within 15 mm of it, or an
    input that does not state left and right.

    Parameters
    ----------
    lesion : LesionPoints
        Points of the lesion.
    head : CoarseHead
        The head.
    plane : Midplane or None
        The mid-sagittal plane.

    Returns
    -------
    Side
        The side.
    """
    if plane is None:
        return "unsure"
    distance = plane.distance_mm(lesion.points_mm) / nominal_mm_per_mm(head)
    left, right = lesion.volume_share(distance > 0), lesion.volume_share(distance < 0)
    major: Side = "left" if left > right else "right"
    side = major if are_sides_known(head.scan.remarks) else "unsure"
    if not plane.reliable:
        clear_share = max(lesion.volume_share(distance > _CLEAR_MM), lesion.volume_share(distance < -_CLEAR_MM))
        return side if clear_share > 0.9 else "unsure"
    centred = abs(np.average(distance, weights=lesion.volumes_ml)) < _MIDLINE_MM
    if lesion.volume_share(np.abs(distance) < _MIDLINE_MM) > _MIDLINE_SHARE or (
        centred and lesion.volume_share(np.abs(distance) < _CENTRED_MM) > 0.9
    ):
        return "midline"
    if min(lesion.volume_share(distance > _MIDLINE_MM), lesion.volume_share(distance < -_MIDLINE_MM)) > _BOTH_SHARE:
        return "both"
    return side


def is_outside_skull(lesion: LesionPoints, fit: AtlasFit | None) -> bool:
    """Return whether most of a lesion lies outside of the skull, so that it is no intracranial hemorrhage.

    Parameters
    ----------
    lesion : LesionPoints
        Points of the lesion.
    fit : AtlasFit or None
        Registered atlas.

    Returns
    -------
    bool
        False without an atlas.
    """
    return fit is not None and lesion.volume_share(fit.distance_mm("inside", lesion.points_mm) > _OUTSIDE_MM) > 0.5


def find_tentorial_level(lesion: LesionPoints, fit: AtlasFit | None) -> Tentorium:
    """Determine whether a lesion lies above or below the tentorium.

    Both: at least 15 % on each side. Points within 3 mm of the tentorium are not used. Unsure: more than 70 % of the
    lesion lie within 3 mm, or no atlas.

    Parameters
    ----------
    lesion : LesionPoints
        Points of the lesion.
    fit : AtlasFit or None
        Registered atlas.

    Returns
    -------
    Tentorium
        The level.
    """
    if fit is None:
        return "unsure"
    distance = fit.distance_mm("infratentorial", lesion.points_mm) / 2
    below, above = lesion.volume_share(distance < -_TENTORIUM_MM), lesion.volume_share(distance > _TENTORIUM_MM)
    if below + above < 0.3:
        return "unsure"
    if min(below, above) > _BOTH_SHARE:
        return "both"
    return "infratentorial" if below > above else "supratentorial"


def classify_place(
    lesion: LesionPoints,
    table: InnerTable,
    plane: Midplane | None,
    fit: AtlasFit | None,
    ventricular: float,
    level: Tentorium,
    unit: float = 1.0,
) -> Location:
    """Determine which part of the head a lesion lies in.

    Parameters
    ----------
    lesion : LesionPoints
        Points of the lesion.
    table : InnerTable
        Inner table of the skull.
    plane : Midplane or None
        The mid-sagittal plane.
    fit : AtlasFit or None
        Registered atlas.
    ventricular : float
        Share of the lesion in the ventricles, 0 to 1.
    level : Tentorium
        Result of :func:`find_tentorial_level`.
    unit : float, default: 1.0
        Result of :func:`nominal_mm_per_mm`.

    Returns
    -------
    Location
        Part of the head.
    """
    if ventricular > 0.6:
        return "ventricle"
    if is_layer_at_skull(lesion, table, unit) or is_dural_sheet(lesion, plane, fit, unit):
        return "extra-axial"
    if fit is None:
        return "unsure"
    if level == "infratentorial":
        if ventricular > 0.4:
            return "unsure"
        brainstem_share = lesion.volume_share(fit.distance_mm("brainstem", lesion.points_mm) < 0)
        return "brainstem" if brainstem_share > 0.6 else "cerebellum" if brainstem_share < 0.4 else "unsure"
    if level == "supratentorial":
        deep_share = lesion.volume_share(fit.distance_mm("deep", lesion.points_mm) < 0)
        centre_distance = float(fit.distance_mm("deep", lesion.centre_mm[None])[0])
        # A large hemorrhage of the basal ganglia extends beyond them, but stays centred there.
        if deep_share > 0.5 or (deep_share > 0.3 and centre_distance < 0):
            return "deep"
        return "lobar" if deep_share < 0.25 and centre_distance > 2 else "unsure"
    return "unsure"


def nominal_mm_per_mm(head: CoarseHead) -> float:
    """Return how many nominal mm of the scan are about 1 mm of a head; 1.0 if the spacing is known.

    Parameters
    ----------
    head : CoarseHead
        The head.

    Returns
    -------
    float
        Nominal mm for 1 mm.
    """
    if head.scan.spacing_known:
        return 1.0
    area = head.brain.sum((1, 2)).max() * head.samples.spacing_mm[0] * head.samples.spacing_mm[1]
    return float(np.sqrt(area / np.pi) / _HEAD_RADIUS_MM)
