"""The gate: a scan goes through with remarks, or is refused in one sentence. One function a row of the gate's table."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.errors import InputError, NoHounsfield, NotHead
from strokeseg.result import Remark
from strokeseg.scan import Scan

REFUSED = InputError

_TILT_DEG = 0.5
_UNEVEN = 0.05
_THICK_MM = 6.0
_HEAD_MM = (90.0, 330.0)


def check(scan: Scan) -> Scan:
    """Pass a scan on with what the gate remarks.

    Raises
    ------
    NoHounsfield
        `no-hounsfield`, if the values cannot be Hounsfield units
    NotHead
        `not-head`, if no slice shows a head
    """
    no_hounsfield(scan)
    not_head(scan)
    rows = (gantry_tilt, missing_slices, uneven_spacing, single_slice, thick_slices)
    remarks = [remark for row in rows if (remark := row(scan)) is not None]
    known = {remark.code for remark in scan.remarks}
    return scan.with_remarks(*[remark for remark in remarks if remark.code not in known])


def no_hounsfield(scan: Scan) -> None:
    """Refuse values beyond any CT scale, and volumes of positive values whose air is no air."""
    if not scan.calibrated:
        return
    low, high = int(scan.hu.min()), int(scan.hu.max())
    if low == high:
        raise NotHead(f"every pixel has the value {low}")
    if high < 20 or low < -9000:
        raise NoHounsfield(f"values reach from {low} to {high}: these are no Hounsfield units of a head")


def not_head(scan: Scan) -> None:
    """Refuse what shows no head: brain-range tissue enclosed by bone on no slice, or of no head's size."""
    count = len(scan.hu)
    picked = np.unique(np.linspace(0, count - 1, min(count, 12)).round().astype(int))
    best = max((_enclosed(scan, int(index)) for index in picked), default=0.0)
    if best < 0.05:
        raise NotHead(
            f"on none of {len(picked)} slices looked at is brain-like tissue enclosed by bone (best {best:.0%} of the slice)"
        )


def _enclosed(scan: Scan, index: int) -> float:
    """Share of a slice that is brain-range tissue and lies inside bright bone on at least 6 of 8 sides.

    Only every fourth pixel is looked at. Looking along the eight directions, rather than for a closed ring, lets open
    skulls and slices through the skull's base pass.
    """
    step = max(1, min(scan.shape[1:]) // 128)
    hu = ndimage.uniform_filter(scan.hu[index].astype(np.float32), max(1, step))[::step, ::step]
    top = scan.window[0] + scan.window[1] / 2 if scan.window else 255.0
    bone = hu > min(100.0, 0.9 * top)
    brain = (hu > 5) & (hu < min(75.0, 0.88 * top)) & ~bone
    sides = sum(_shadow(bone, direction).astype(np.uint8) for direction in range(4))
    inside = brain & (sides >= 3)
    if scan.spacing_known and not _head_sized(inside | bone, scan, step):
        return 0.0
    labels, found = ndimage.label(inside)
    return float(np.bincount(labels.ravel())[1:].max() / inside.size) if found else 0.0


def _shadow(bone: NDArray[np.bool_], direction: int) -> NDArray[np.bool_]:
    """Mark pixels from which bone is met when looking up, down, left or right."""
    axis, back = direction // 2, bool(direction % 2)
    view = np.flip(bone, axis) if back else bone
    met = np.logical_or.accumulate(view, axis=axis)
    return np.asarray(np.flip(met, axis) if back else met)


def _head_sized(region: NDArray[np.bool_], scan: Scan, step: int) -> bool:
    rows, columns = np.flatnonzero(region.any(1)), np.flatnonzero(region.any(0))
    if rows.size == 0:
        return False
    height = np.ptp(rows) * step * scan.planes.pixel_spacing_mm[0]
    width = np.ptp(columns) * step * scan.planes.pixel_spacing_mm[1]
    return bool(max(height, width) <= _HEAD_MM[1] and max(height, width) >= _HEAD_MM[0])


def gantry_tilt(scan: Scan) -> Remark | None:
    """Remark a tilted gantry, by positions."""
    tilt = scan.planes.tilt_deg
    if not scan.spacing_known or tilt < _TILT_DEG:
        return None
    message = f"The gantry was tilted by {tilt:.1f} degrees (from the slices' positions); the planes are kept as they are."
    return Remark(code="gantry-tilt", severity="info", message=message)


def missing_slices(scan: Scan) -> Remark | None:
    """Remark gaps in which slices are missing."""
    planes = scan.planes
    where = np.flatnonzero(planes.missing)
    if where.size == 0:
        return None
    gaps = ", ".join(f"{planes.gaps_mm[index]:.1f} mm after slice {index + 1}" for index in where)
    message = f"Slices are missing: {gaps}. No slice stands for the tissue in between."
    return Remark(code="missing-slices", severity="warning", message=message, slices=[int(index) for index in where])


def uneven_spacing(scan: Scan) -> Remark | None:
    """Remark steps that differ by more than 5 %, missing slices apart."""
    gaps = scan.planes.gaps_mm[~scan.planes.missing]
    if not scan.spacing_known or gaps.size == 0 or np.ptp(gaps) <= _UNEVEN * np.median(gaps):
        return None
    message = f"The slices are {gaps.min():.2f} to {gaps.max():.2f} mm apart; each counts with its own weight."
    return Remark(code="uneven-spacing", severity="info", message=message)


def single_slice(scan: Scan) -> Remark | None:
    """Warn of one slice alone."""
    if len(scan.hu) > 1:
        return None
    return Remark(code="single-slice", severity="warning", message="One slice only: bleeding elsewhere cannot be seen.")


def thick_slices(scan: Scan) -> Remark | None:
    """Warn of slices over 6 mm apart."""
    weights = scan.weights_mm
    if weights is None or np.median(weights) <= _THICK_MM:
        return None
    message = f"The slices are {np.median(weights):.1f} mm apart: small bleeds may be missed and volumes are rough."
    return Remark(code="thick-slices", severity="warning", message=message)
