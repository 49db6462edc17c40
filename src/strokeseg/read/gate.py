"""The gate: a scan goes through with remarks, or is refused in one sentence. One function a row of the gate's table."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from strokeseg.errors import NoHounsfield, NotHead
from strokeseg.read.head import Inside, Levels, inside
from strokeseg.result import Remark
from strokeseg.scan import Scan

_TILT_DEG = 0.5
_UNEVEN = 0.05
_THICK_MM = 6.0

_LOOKS = 12
_AREA = 0.02
_AREA_MM2 = 400.0  # the spinal canal has less, the smallest slice of a brain more
_RADIUS_MM = 105.0  # mean inner radius: of a skull about 70, of a rib cage about 130


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
    """Refuse values beyond any CT scale."""
    low, high = int(scan.hu.min()), int(scan.hu.max())
    if low == high:
        raise NotHead(f"every pixel has the value {low}")
    if scan.calibrated and (high < 20 or low < -9000):
        raise NoHounsfield(f"values reach from {low} to {high}: these are no Hounsfield units of a head")


def not_head(scan: Scan) -> None:
    """Refuse what shows a head on none of up to twelve slices.

    Raises
    ------
    NoHounsfield
        `no-hounsfield`, if it shows twice as much of one, or one at all, with all values 1024 or 1000 lower; the air in
        a sinus at 24 is like brain inside bone too, so that one look at the values as they are is not enough
    NotHead
        `not-head`
    """
    area = head_area(scan)
    for offset in (1024, 1000) if scan.calibrated else ():
        if head_area(replace(scan, hu=np.maximum(scan.hu, offset - 32768) - np.int16(offset))) > 2 * area:
            raise NoHounsfield(
                f"the values are {offset} above Hounsfield units (brain lies near {offset + 33})",
                f"Export the series with a rescale intercept of -{offset}.",
            )
    if area == 0:
        raise NotHead("no slice shows brain-like tissue of a head's size inside a ring of bone")


def head_area(scan: Scan) -> float:
    """Sum, over up to twelve slices, the share of each that is brain-range tissue of a head's size inside bone."""
    levels = Levels.window(*scan.window) if scan.window else Levels.hounsfield()
    picked = np.unique(np.linspace(0, len(scan.hu) - 1, min(len(scan.hu), _LOOKS)).round().astype(int))
    seen = [found for index in picked if (found := inside(scan.hu[index], levels)) is not None]
    return sum(found.area for found in seen if _head_like(found, scan))


def _head_like(found: Inside, scan: Scan) -> bool:
    if not found.like_a_head:
        return False
    if not scan.spacing_known:
        return found.area >= _AREA
    pixels = found.area * scan.shape[1] * scan.shape[2]
    radius_mm = found.radius_px * max(scan.planes.pixel_spacing_mm)
    return pixels * scan.planes.pixel_area_mm2 >= _AREA_MM2 and radius_mm <= _RADIUS_MM


def gantry_tilt(scan: Scan) -> Remark | None:
    """Remark a tilted gantry, by positions."""
    tilt = scan.planes.tilt_deg
    if not scan.spacing_known or tilt < _TILT_DEG:
        return None
    message = (
        f"The gantry was tilted by {tilt:.1f} degrees (from the slices' positions); the planes are kept as they are."
    )
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
