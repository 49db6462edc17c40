"""Extra-axial lesions, by their shape: layers along the inner table, and sheets along the falx or the tentorium."""

from __future__ import annotations

import numpy as np

from strokeseg.measurements.head.atlas import AtlasFit
from strokeseg.measurements.head.inner_table import InnerTable
from strokeseg.measurements.head.midplane import Midplane
from strokeseg.measurements.lesion_points import LesionPoints

# A layer at the skull: distance that counts as contact, and largest thickness / extent of the contact.
_CONTACT_MM = 4.0
_MAX_LAYER_RATIO = 0.6
# A sheet along the falx or the tentorium: largest thickness and smallest length, mm.
_SHEET_MM, _SHEET_LENGTH_MM = 9.0, 20.0


def is_layer_at_skull(lesion: LesionPoints, table: InnerTable, unit: float = 1.0) -> bool:
    """Return whether a lesion is a layer along the inner table: thin relative to its extent.

    Parameters
    ----------
    lesion : LesionPoints
        Points of the lesion.
    table : InnerTable
        Inner table of the skull.
    unit : float, default: 1.0
        Result of :func:`strokeseg.measurements.head.location.nominal_mm_per_mm`.

    Returns
    -------
    bool
        True for a layer.
    """
    return measure_layer_ratio(lesion, table, unit) < _MAX_LAYER_RATIO


def measure_layer_ratio(lesion: LesionPoints, table: InnerTable, unit: float = 1.0) -> float:
    """Compute thickness / extent of a lesion at the skull.

    The contact is the part within 4 mm of the inner table. Its area is its volume / 4 mm; the thickness is the volume
    of the lesion / that area; the extent is the square root of the area, or the length in the slices if longer. On
    labelled slices (BHSD) and partial stacks (CT-ICH), epidural and subdural lesions had ratios of 0.1 to 0.5, others
    of 1.2 or more.

    Parameters
    ----------
    lesion : LesionPoints
        Points of the lesion.
    table : InnerTable
        Inner table of the skull.
    unit : float, default: 1.0
        Result of :func:`strokeseg.measurements.head.location.nominal_mm_per_mm`.

    Returns
    -------
    float
        Ratio; infinite without contact.
    """
    near = np.abs(table.distance_mm(lesion.points_mm)) / unit < _CONTACT_MM
    if not near.any():
        return float("inf")
    area_mm2 = float(lesion.volumes_ml[near].sum()) * 1000 / unit**3 / _CONTACT_MM
    extent_mm = max(area_mm2**0.5, area_mm2 * unit / lesion.height_mm)
    return lesion.total_ml * 1000 / unit**3 / area_mm2 / extent_mm


def is_dural_sheet(lesion: LesionPoints, plane: Midplane | None, fit: AtlasFit | None, unit: float = 1.0) -> bool:
    """Return whether a lesion is a sheet along the falx or the tentorium.

    Parameters
    ----------
    lesion : LesionPoints
        Points of the lesion.
    plane : Midplane or None
        The mid-sagittal plane.
    fit : AtlasFit or None
        Registered atlas.
    unit : float, default: 1.0
        Result of :func:`strokeseg.measurements.head.location.nominal_mm_per_mm`.

    Returns
    -------
    bool
        True for a sheet.
    """
    centred = (lesion.points_mm - lesion.centre_mm) / unit
    values, vectors = np.linalg.eigh(np.cov(centred.T, aweights=lesion.volumes_ml) if len(centred) > 1 else np.eye(3))
    # Across a flat sheet of thickness t the standard deviation is t / sqrt(12).
    thickness, length = np.sqrt(12 * np.clip(values[[0, 2]], 0, None))
    if thickness > _SHEET_MM or length < _SHEET_LENGTH_MM:
        return False
    if plane is not None and plane.reliable:
        distance = np.abs(plane.distance_mm(lesion.points_mm)) / unit
        if lesion.volume_share(distance < _SHEET_MM) > 0.8 and abs(vectors[:, 0] @ plane.normal) > 0.8:
            return fit is None or lesion.volume_share(fit.distance_mm("ventricle", lesion.points_mm) < 4) < 0.3
    if fit is not None:
        tentorial_distance = np.abs(fit.distance_mm("infratentorial", lesion.points_mm)) / 2
        return lesion.volume_share(tentorial_distance < _SHEET_MM / 2) > 0.7
    return False
