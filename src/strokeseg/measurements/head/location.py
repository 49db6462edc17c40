"""Where a bleed lies, in a radiologist's words: side, above or below the tentorium, and which part of the brain.

Every answer can be "unsure", and is where the head's own evidence (its mid-sagittal plane, the atlas laid on it, the
skull's inner surface) does not carry it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from strokeseg.imaging.components import Labels
from strokeseg.measurements.head import atlas
from strokeseg.measurements.head.atlas import AtlasFit
from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.measurements.head.inner_table import InnerTable
from strokeseg.measurements.head.midplane import Midplane
from strokeseg.measurements.head.ventricles import VentricularBlood, find_ventricles, measure_ventricular_blood
from strokeseg.measurements.lesion.points import LesionPoints, merge_points, sample_lesions
from strokeseg.result import Location, Side, Tentorium, are_sides_known

# Without a spacing lengths are told by the head: its widest slice has about the area of a circle of this radius, mm.
_HEAD_RADIUS_MM = 72.0
# A lesion on the midline: most of it within so far of the plane; or centred on it and nowhere further, mm.
_MIDLINE_MM, _MIDLINE_SHARE, _CENTRED_MM = 5.0, 0.6, 12.0
# It is on both sides if so much of it lies beyond that on each.
_BOTH_SHARE = 0.15
# Where the plane is unsure, only what lies clear of it has a side.
_CLEAR_MM = 15.0
# Nearer to the tentorium than this the atlas may be wrong, mm.
_TENTORIUM_MM = 3.0
# A layer at the skull: how near is contact, and thickness / extent of the contact, at most.
_CONTACT_MM = 4.0
_MAX_LAYER_RATIO = 0.6
# What lies so far outside of the skull's inside, mm, lies in bone, scalp or air.
_OUTSIDE_MM = 5.0
# A sheet along the falx or the tentorium: at most so thick, at least so long, mm.
_SHEET_MM, _SHEET_LENGTH_MM = 9.0, 20.0


@dataclass(frozen=True)
class LesionLocation:
    """Where a lesion lies."""

    side: Side
    tentorium: Tentorium
    place: Location


@dataclass(frozen=True)
class Locations:
    """Where everything lies.

    Parameters
    ----------
    lesions : tuple of LesionLocation
        One a lesion.
    side : Side or None
        All together; None without a lesion.
    blood : object
        In the ventricles; None where the atlas does not lie on the head.
    """

    lesions: tuple[LesionLocation, ...]
    side: Side | None
    ventricular_blood: VentricularBlood | None


def locate_lesions(labels: Labels, count: int, head: CoarseHead, plane: Midplane | None) -> Locations:
    """Tell where every lesion lies, and what of it lies in the ventricles.

    Parameters
    ----------
    labels : Labels
        (slices, rows, columns), 1 to ``count``, on the scan's own grid.
    plane : Midplane or None
        None where it was not found.
    """
    table = InnerTable.from_head(head)
    fit = None if plane is None else atlas.fit_atlas(head, plane, table)
    lesions = sample_lesions(labels, count, head.scan)
    blood = None if fit is None else measure_ventricular_blood(lesions, fit, find_ventricles(head, fit))
    unit = nominal_mm_per_mm(head)
    found = []
    for index, lesion in enumerate(lesions):
        if is_outside_skull(lesion, fit):
            found.append(LesionLocation(find_side(lesion, head, plane), "unsure", "unsure"))
            continue
        level = find_tentorial_level(lesion, fit)
        share = 0.0 if blood is None else blood.lesions_ml[index] / lesion.total_ml
        where = classify_place(lesion, table, plane, fit, share, level, unit)
        found.append(LesionLocation(find_side(lesion, head, plane), level, where))
    whole = merge_points(lesions)
    return Locations(tuple(found), None if whole is None else find_side(whole, head, plane), blood)


def find_side(lesion: LesionPoints, head: CoarseHead, plane: Midplane | None) -> Side:
    """Tell on which side of the patient a lesion, or all of them together, lies.

    Midline: 60 % of it within 5 mm of the mid-sagittal plane, or centred on it and within 12 mm. Both: 15 % of it or
    more beyond 5 mm on each side. Unsure: no plane, a plane that is not sure and a lesion within 15 mm of it, or an
    input that does not say which side is which.
    """
    if plane is None:
        return "unsure"
    away = plane.distance_mm(lesion.points_mm) / nominal_mm_per_mm(head)
    left, right = lesion.volume_share(away > 0), lesion.volume_share(away < 0)
    major: Side = "left" if left > right else "right"
    named = major if are_sides_known(head.scan.remarks) else "unsure"
    if not plane.reliable:
        clear = max(lesion.volume_share(away > _CLEAR_MM), lesion.volume_share(away < -_CLEAR_MM))
        return named if clear > 0.9 else "unsure"
    centred = abs(np.average(away, weights=lesion.volumes_ml)) < _MIDLINE_MM
    if lesion.volume_share(np.abs(away) < _MIDLINE_MM) > _MIDLINE_SHARE or (
        centred and lesion.volume_share(np.abs(away) < _CENTRED_MM) > 0.9
    ):
        return "midline"
    if min(lesion.volume_share(away > _MIDLINE_MM), lesion.volume_share(away < -_MIDLINE_MM)) > _BOTH_SHARE:
        return "both"
    return named


def is_outside_skull(lesion: LesionPoints, fit: AtlasFit | None) -> bool:
    """Whether most of a lesion lies outside of the skull: it is no bleed of the head's inside."""
    return fit is not None and lesion.volume_share(fit.distance_mm("inside", lesion.points_mm) > _OUTSIDE_MM) > 0.5


def find_tentorial_level(lesion: LesionPoints, fit: AtlasFit | None) -> Tentorium:
    """Return whether a lesion lies above or below the tentorium.

    Both: 15 % of it or more on each side. What lies within 3 mm of the tentorium is not asked; where that is more
    than 70 % of the lesion, and where the atlas does not lie on the head, the answer is unsure.
    """
    if fit is None:
        return "unsure"
    below = fit.distance_mm("infratentorial", lesion.points_mm) / 2
    under, over = lesion.volume_share(below < -_TENTORIUM_MM), lesion.volume_share(below > _TENTORIUM_MM)
    if under + over < 0.3:
        return "unsure"
    if min(under, over) > _BOTH_SHARE:
        return "both"
    return "infratentorial" if under > over else "supratentorial"


def classify_place(
    lesion: LesionPoints,
    table: InnerTable,
    plane: Midplane | None,
    fit: AtlasFit | None,
    ventricular: float,
    level: Tentorium,
    unit: float = 1.0,
) -> Location:
    """Tell which part of the head a lesion lies in.

    Parameters
    ----------
    ventricular : float
        The share of it that lies in the ventricles, 0 to 1.
    level : Tentorium
        What :func:`tentorium` gives.
    unit : float, default: 1.0
        See :func:`unit_mm`.
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
        stem = lesion.volume_share(fit.distance_mm("brainstem", lesion.points_mm) < 0)
        return "brainstem" if stem > 0.6 else "cerebellum" if stem < 0.4 else "unsure"
    if level == "supratentorial":
        deep = lesion.volume_share(fit.distance_mm("deep", lesion.points_mm) < 0)
        off = float(fit.distance_mm("deep", lesion.centre_mm[None])[0])
        # A large bleed grows out of the basal ganglia, and stays centred there.
        if deep > 0.5 or (deep > 0.3 and off < 0):
            return "deep"
        return "lobar" if deep < 0.25 and off > 2 else "unsure"
    return "unsure"


def is_layer_at_skull(lesion: LesionPoints, table: InnerTable, unit: float = 1.0) -> bool:
    """Whether a lesion is a layer along the skull's inner surface: thin for how far it lies along it."""
    return measure_layer_ratio(lesion, table, unit) < _MAX_LAYER_RATIO


def measure_layer_ratio(lesion: LesionPoints, table: InnerTable, unit: float = 1.0) -> float:
    """Thickness / extent of a lesion at the skull; infinite where it is not in contact with it.

    What lies within 4 mm of the inner table is the contact. Its area is its volume / 4 mm, the thickness the lesion's
    volume / that area, and the extent the area's square root, or its length in the slices where it is longer than high.
    On labelled slices (BHSD) and part stacks (CT-ICH) epidural and subdural bleeds gave 0.1 to 0.5, others 1.2 or more.
    """
    near = np.abs(table.distance_mm(lesion.points_mm)) / unit < _CONTACT_MM
    if not near.any():
        return float("inf")
    area_mm2 = float(lesion.volumes_ml[near].sum()) * 1000 / unit**3 / _CONTACT_MM
    extent_mm = max(area_mm2**0.5, area_mm2 * unit / lesion.height_mm)
    return lesion.total_ml * 1000 / unit**3 / area_mm2 / extent_mm


def is_dural_sheet(lesion: LesionPoints, plane: Midplane | None, fit: AtlasFit | None, unit: float = 1.0) -> bool:
    """Whether a lesion is a sheet along the falx, or along the tentorium."""
    centred = (lesion.points_mm - lesion.centre_mm) / unit
    values, vectors = np.linalg.eigh(np.cov(centred.T, aweights=lesion.volumes_ml) if len(centred) > 1 else np.eye(3))
    # A flat sheet of thickness t has a standard deviation of t / sqrt(12) across.
    thick, length = np.sqrt(12 * np.clip(values[[0, 2]], 0, None))
    if thick > _SHEET_MM or length < _SHEET_LENGTH_MM:
        return False
    if plane is not None and plane.reliable:
        away = np.abs(plane.distance_mm(lesion.points_mm)) / unit
        if lesion.volume_share(away < _SHEET_MM) > 0.8 and abs(vectors[:, 0] @ plane.normal) > 0.8:
            return fit is None or lesion.volume_share(fit.distance_mm("ventricle", lesion.points_mm) < 4) < 0.3
    if fit is not None:
        below = np.abs(fit.distance_mm("infratentorial", lesion.points_mm)) / 2
        return lesion.volume_share(below < _SHEET_MM / 2) > 0.7
    return False


def nominal_mm_per_mm(head: CoarseHead) -> float:
    """1 where the spacing is known; otherwise how many nominal mm of a picture are about 1 mm of a head."""
    if head.scan.spacing_known:
        return 1.0
    area = head.brain.sum((1, 2)).max() * head.samples.spacing_mm[0] * head.samples.spacing_mm[1]
    return float(np.sqrt(area / np.pi) / _HEAD_RADIUS_MM)
