"""Grey levels of pictures to Hounsfield units: through a given or estimated window, or directly."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import NoHounsfield
from strokeseg.reading.head_detection import TissueThresholds, find_enclosed_tissue
from strokeseg.reading.pictures.picture_file import Grey
from strokeseg.result import Remark

CANDIDATE_WINDOWS = ((40.0, 80.0), (40.0, 120.0), (127.5, 255.0))
"""(centre, width), HU, of the windows among which a picture's window is estimated."""

CANDIDATE_OFFSETS_HU = (0, 1024, 32768)
"""Offsets above Hounsfield units that values of more than 8 bits may have."""

_BRAIN_HU = 32.5
_MAX_BRAIN_DIFFERENCE_HU, _MAX_BRAIN_ERROR_HU = 20.0, 50.0
_SAMPLED_SLICES = 12


def find_white_value(stack: Grey) -> float:
    """Return the value of white: 255 for 8 bits, else the lowest common maximum that is not exceeded."""
    if stack.dtype == np.uint8:
        return 255.0
    highest = float(stack.max())
    return next((white for white in (1.0, 255.0, 4095.0) if highest <= white), 65535.0)


def estimate_window(stack: Grey, white: float) -> tuple[float, float]:
    """Estimate the window of pictures: the candidate that puts the brain's median nearest 32 HU.

    In pictures of a known window the median inside the skull is 32 to 34 HU (PHE-SICH, CT-ICH), with any hemorrhage.
    The estimate is right for about 80 % of the single slices at (40, 80) and for 92 to 99 % of those at (40, 120); the
    two windows differ little. If no slice has tissue inside bone, the median of all grey pixels is used.

    Parameters
    ----------
    stack : ndarray, shape (slices, rows, columns)
        Grey levels.
    white : float
        The value of white.

    Returns
    -------
    tuple of (float, float)
        (centre, width), HU.
    """
    thresholds = TissueThresholds.for_window(white / 2, white)
    values: list[NDArray[Any]] = [
        tissue.values for plane in stack if (tissue := find_enclosed_tissue(plane, thresholds)) is not None
    ]
    if not values:
        grey = [plane[(plane > thresholds.air_below) & (plane < thresholds.brain_below)] for plane in stack]
        values = grey if any(each.size for each in grey) else [np.zeros(1)]
    level = float(np.median(np.concatenate(values))) / white
    return min(CANDIDATE_WINDOWS, key=lambda window: abs(level * window[1] + window[0] - window[1] / 2 - _BRAIN_HU))


def check_window(stack: Grey, white: float, window: tuple[float, float]) -> Remark | None:
    """Compare a stated window with the grey levels: brain must lie at 32.5 HU, within limits.

    In pictures through their true window the median inside the skull is 18 to 61 HU (1,455 single slices of CT-ICH,
    PHE-SICH, BHSD, MBH-Seg and CPAISD), with large hemorrhages. Pictures without a head are not checked.

    Parameters
    ----------
    stack : ndarray, shape (slices, rows, columns)
        Grey levels.
    white : float
        The value of white.
    window : tuple of (float, float)
        The stated (centre, width), HU.

    Returns
    -------
    Remark or None
        `window-contradicted`, if brain is more than 20 HU off.

    Raises
    ------
    NoHounsfield
        `no-hounsfield`, if brain is more than 50 HU off.
    """
    thresholds = TissueThresholds.for_window(white / 2, white)
    planes = stack[:: max(1, len(stack) // _SAMPLED_SLICES)]
    tissues = [find_enclosed_tissue(plane, thresholds) for plane in planes]
    values = [tissue.values for tissue in tissues if tissue is not None and tissue.is_head_like]
    if not values:
        return None
    centre, width = window
    brain_hu = float(np.median(np.concatenate(values))) / white * width + centre - width / 2
    if abs(brain_hu - _BRAIN_HU) <= _MAX_BRAIN_DIFFERENCE_HU:
        return None
    likely = estimate_window(planes, white)
    message = (
        f"the stated window, centre {centre:g} and width {width:g}, puts brain at {brain_hu:.0f} HU in place of 20 to "
        f"45; the grey levels fit centre {likely[0]:g}, width {likely[1]:g}"
    )
    if abs(brain_hu - _BRAIN_HU) > _MAX_BRAIN_ERROR_HU:
        raise NoHounsfield(message, "State the window of the pictures with --window, or leave the option out.")
    message = message[0].upper() + message[1:] + ". Volumes may be wrong."
    return Remark(code="window-contradicted", severity="warning", message=message)


def map_window(stack: Grey, white: float, window: tuple[float, float]) -> NDArray[np.int16]:
    """Map grey levels to Hounsfield units: black is the lower end of the window, white its upper end.

    Parameters
    ----------
    stack : ndarray, shape (slices, rows, columns)
        Grey levels.
    white : float
        The value of white.
    window : tuple of (float, float)
        (centre, width), HU.

    Returns
    -------
    ndarray of int16, shape (slices, rows, columns)
        Hounsfield units.
    """
    centre, width = window
    hu = np.empty(stack.shape, np.int16)
    if stack.dtype == np.uint8:
        table = np.rint(np.arange(256) / 255 * width + centre - width / 2).astype(np.int16)
        for plane, hu_plane in zip(stack, hu, strict=True):  # numpy makes indices of eight bytes
            hu_plane[...] = table[plane]
        return hu
    for plane, hu_plane in zip(stack, hu, strict=True):  # floats of a whole stack would need four times its memory
        hu_plane[...] = np.rint(np.clip(plane / white, 0, 1) * width + centre - width / 2)
    return hu


def try_hounsfield(stack: Grey) -> tuple[NDArray[np.int16] | None, list[Remark]]:
    """Read values of more than 8 bits as Hounsfield units with the offset that shows most tissue inside bone.

    Parameters
    ----------
    stack : ndarray of float32, shape (slices, rows, columns)
        Values of the pictures.

    Returns
    -------
    hu : ndarray of int16, shape (slices, rows, columns), or None
        Hounsfield units; None if no offset shows a head.
    remarks : list of Remark
        `values-as-hounsfield`.
    """
    areas = {offset: _measure_enclosed_tissue(stack, offset) for offset in CANDIDATE_OFFSETS_HU}
    offset = max(areas, key=lambda each: areas[each])
    if areas[offset] == 0:
        return None, []
    shift = f" plus {offset}" if offset else ""
    message = f"The pictures' values look like Hounsfield units{shift} and were read as such."
    return _subtract_offset(stack, offset), [Remark(code="values-as-hounsfield", severity="info", message=message)]


def _measure_enclosed_tissue(stack: Grey, offset: int) -> float:
    planes = _subtract_offset(stack[:: max(1, len(stack) // 12)], offset)
    tissues = [find_enclosed_tissue(plane, TissueThresholds.for_hounsfield()) for plane in planes]
    return sum(tissue.area_share for tissue in tissues if tissue is not None and tissue.is_head_like)


def _subtract_offset(stack: Grey, offset: int) -> NDArray[np.int16]:
    hu = np.empty(stack.shape, np.int16)
    for plane, hu_plane in zip(stack, hu, strict=True):
        hu_plane[...] = np.clip(np.rint(plane - offset), -32768, 32767)
    return hu
