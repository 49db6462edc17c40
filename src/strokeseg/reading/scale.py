"""Check by the pixels alone whether values are Hounsfield units: the scale's own witnesses are air and brain.

Air around a head is at -1000 HU, brain at 20 to 45 HU. In three whole scans (two scanners, an export of a third) the
most frequent values were -1000 to -999 and 24 to 32 HU. Where air is cut off, the number of grey levels in use and the
values at both ends tell a picture in 8 bits from Hounsfield units.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.errors import NoHounsfield
from strokeseg.reading.head_detection import TissueThresholds, find_enclosed_tissue, sample_slice_indices
from strokeseg.reading.pictures.grey_levels import estimate_window, map_window
from strokeseg.result import Remark
from strokeseg.scan import Scan

_SAMPLED_SLICES = 12
_PIXEL_STEP = 4

_AIR_HU, _BRAIN_HU = -1000.0, 32.5
_OFFSET_TOLERANCE_HU = 15.0
_OFFSET_DISAGREEMENT_HU = 20.0  # between air and brain; brain alone differs by as much from head to head
_SLOPE_TOLERANCE = 0.05  # brain at 32.5 ± 15 HU alone makes 0.015
_MAX_AIR_HU, _MAX_OFFSET_WITHOUT_AIR_HU = -900, 200.0
_RIGHT_AIR_HU, _MIN_RIGHT_AIR_SHARE = (-1030, -970), 0.05  # beside padding whose noise looks like air
_SLOPES, _SLOPES_WITH_RIGHT_AIR = (0.05, 20.0), (0.5, 2.0)
_BRAIN_RANGE_HU = (10.0, 62.0)  # where air is cut off; a single slice with a large bleed has up to 61

_MIN_END_SHARE = 0.01  # of the pixels at the lowest value: padding, or cut off
_MIN_CUT_AIR_SHARE, _MIN_CUT_BONE_SHARE = 0.05, 0.005
_AIR_RANGE_SHARE, _TISSUE_RANGE_SHARE = 0.1, 0.15  # ends of air and start of tissue in the range of values
_MIN_AIR_SHARE, _MIN_TISSUE_SHARE = 0.05, 0.03
_MAX_UNIFORM_SHARE = 0.5  # of the most frequent value near that of air; lossy compression spreads a cut-off value
_PEAK_WIDTH_SHARE = 1 / 400  # of the range of values; 5 to 6 HU
_MIN_BONE_HU = 150.0  # lower ends of the scale hide bone; see TissueThresholds.for_hounsfield
_MIN_WINDOW_TOP_HU, _WINDOW_CENTRE_HU = 70, 40

_GREY_LEVELS = 255
_MAX_SPAN_OF_8_BITS = 300
_DENSE_RANGE = (0.1, 0.75)  # of the pixels between the ends
_MAX_LEVEL_SHARE = 0.75  # of the values in use: whole Hounsfield units were stretched over more levels
_WINDOW_WIDTHS_HU = (50, 250)
_MIN_BRAIN_SPREAD = 10.0  # of 255; quartiles of brain are 5 to 12 HU apart: 13 to 38 levels at a width of 80, 4 at 400


@dataclass(frozen=True)
class ScaleWitnesses:
    """What the values of a scan show of their scale.

    Attributes
    ----------
    lowest, highest : int
        The ends of the values.
    lowest_share, highest_share : float
        Share of the pixels at each end.
    level_count : int
        Number of different values.
    level_share : float
        Share of the values in use, where most pixels lie.
    air : float or None
        Most frequent value of the air around the head; None if the air is cut off, uniform or not in the picture.
    tissue : float or None
        Most frequent value above air; None if no value stands out.
    """

    lowest: int
    highest: int
    lowest_share: float
    highest_share: float
    level_count: int
    level_share: float
    air: float | None
    tissue: float | None

    @property
    def air_cut(self) -> bool:
        """Whether air is cut off: the lowest value is frequent, and not that of air or padding."""
        is_8_bit = self.highest - self.lowest <= _MAX_SPAN_OF_8_BITS
        return self.air is None and self.lowest_share >= _MIN_CUT_AIR_SHARE and (self.lowest > _MAX_AIR_HU or is_8_bit)

    @property
    def cut_at_both_ends(self) -> bool:
        """Whether air and bone are cut off, as in a picture through a window."""
        return self.air_cut and self.highest_share >= _MIN_CUT_BONE_SHARE

    @property
    def stretched_width_hu(self) -> float | None:
        """Number of values that were stretched over more, which leaves gaps between them; None if they were not.

        Values were whole Hounsfield units before, so that this is the width of the window in HU.
        """
        width_hu = float(self.level_count - 1)
        is_window = _WINDOW_WIDTHS_HU[0] <= width_hu <= _WINDOW_WIDTHS_HU[1]
        return width_hu if is_window and self.level_share <= _MAX_LEVEL_SHARE else None


def check_scale(scan: Scan) -> Scan:
    """Refuse or repair values that are no Hounsfield units.

    An offset that air and brain agree on is subtracted. A picture, or a scan whose values end below bone, is read as a
    picture through its window. Everything else that shows a head on another scale is refused.

    Parameters
    ----------
    scan : Scan
        The scan.

    Returns
    -------
    Scan
        The scan, with remark `hounsfield-offset` or `values-as-grey-levels` if it was changed.

    Raises
    ------
    NoHounsfield
        `no-hounsfield`, if the scale differs from Hounsfield units by more than the tolerances.
    """
    if not scan.calibrated:
        return scan
    sample = scan.hu[sample_slice_indices(len(scan.hu), _SAMPLED_SLICES)]
    witnesses = measure_scale(sample)
    air, tissue = witnesses.air, witnesses.tissue
    if tissue is None:
        return scan
    has_brain = _BRAIN_RANGE_HU[0] <= tissue <= _BRAIN_RANGE_HU[1]
    if witnesses.cut_at_both_ends and (witnesses.stretched_width_hu or not has_brain):
        return _read_grey_levels(scan, sample, witnesses)
    if witnesses.highest_share >= _MIN_CUT_BONE_SHARE and witnesses.highest < _MIN_BONE_HU and has_brain:
        return _read_cut_scan(scan, witnesses)
    if air is not None:
        return _check_air_and_tissue(scan, sample, air, tissue)
    is_near = abs(tissue - _BRAIN_HU) <= _MAX_OFFSET_WITHOUT_AIR_HU
    if witnesses.air_cut and is_near and not has_brain and _measure_brain(sample, 1.0, tissue - _BRAIN_HU)[0] > 0:
        raise NoHounsfield(
            f"brain lies at {tissue:.0f} in place of 20 to 45, and air is cut off at {witnesses.lowest}: these are not "
            "Hounsfield units",
            "Export the series again with its rescale slope and intercept.",
        )
    return scan


def measure_scale(sample: NDArray[np.int16]) -> ScaleWitnesses:
    """Measure the witnesses of the scale: most frequent values, ends and number of values.

    Parameters
    ----------
    sample : ndarray of int16, shape (slices, rows, columns)
        Slices of the scan.

    Returns
    -------
    ScaleWitnesses
        The witnesses.
    """
    values = sample[:, ::_PIXEL_STEP, ::_PIXEL_STEP].astype(np.int32).ravel()
    lowest = int(values.min())
    counts = np.bincount(values - lowest).astype(np.float64)
    span, level_count = len(counts) - 1, int(np.count_nonzero(counts))
    # Lossy compression scatters what was cut off.
    end = 1 + (span // 20 if span <= _MAX_SPAN_OF_8_BITS else 0)
    lowest_share, highest_share = (float(each.sum() / len(values)) for each in (counts[:end], counts[-end:]))
    if lowest_share >= _MIN_END_SHARE:
        counts[:end] = 0
    if highest_share >= _MIN_CUT_BONE_SHARE:
        counts[-end:] = 0
    air, tissue = _find_peaks(counts)
    return ScaleWitnesses(
        lowest=lowest,
        highest=lowest + span,
        lowest_share=lowest_share,
        highest_share=highest_share,
        level_count=level_count,
        level_share=_measure_level_share(counts),
        air=None if air is None else lowest + air,
        tissue=None if tissue is None else lowest + tissue,
    )


def _measure_level_share(counts: NDArray[np.float64]) -> float:
    """Return the share of values in use where most of the pixels lie; outside a few pixels leave gaps by chance."""
    if not counts.any():
        return 1.0
    cumulated = np.cumsum(counts) / counts.sum()
    dense = counts[slice(*np.searchsorted(cumulated, _DENSE_RANGE))]
    return float(np.count_nonzero(dense) / max(1, len(dense)))


def _find_peaks(counts: NDArray[np.float64]) -> tuple[float | None, float | None]:
    """Return the most frequent values at the lower end of the range, if they are air, and above it.

    The range is without padding below and without the brightest bone above. Air is noise; a single value is padding or
    a mask, which says nothing of the scale.
    """
    total = counts.sum()
    if total == 0:
        return None, None
    cumulated = np.cumsum(counts) / total
    low, high = (int(np.searchsorted(cumulated, share)) for share in (0.005, 0.99))
    width = max(1.0, (high - low) * _PEAK_WIDTH_SHARE)
    smooth = ndimage.gaussian_filter1d(counts, width, mode="constant") * (2.5 * width / total)  # area of each peak
    first, air_end, tissue_start = (
        max(0, low - int(5 * width)),
        low + int(_AIR_RANGE_SHARE * (high - low)),
        low + int(_TISSUE_RANGE_SHARE * (high - low)),
    )
    air = first + int(smooth[first : air_end + 1].argmax())
    tissue = tissue_start + int(smooth[tissue_start : high + 1].argmax())
    near_air = counts[max(0, air - int(3 * width)) : air + int(3 * width) + 1]
    is_noise = near_air.max() < _MAX_UNIFORM_SHARE * near_air.sum()
    if is_noise and smooth[air] >= _MIN_AIR_SHARE and smooth[tissue] >= _MIN_TISSUE_SHARE:
        return float(air), float(tissue)
    tissue = first + int(smooth[first : high + 1].argmax())
    return None, float(tissue) if smooth[tissue] >= _MIN_TISSUE_SHARE else None


def _check_air_and_tissue(scan: Scan, sample: NDArray[np.int16], air: float, tissue: float) -> Scan:
    """Compare air and tissue with Hounsfield units; both give the slope and the intercept of another scale.

    Another scale counts only if it shows a head whose brain has the right density. Where air is right, the most
    frequent tissue may be something else than brain: then the other scale must show twice as much of a head.
    """
    air_offset, tissue_offset = air - _AIR_HU, tissue - _BRAIN_HU
    slope = (tissue - air) / (_BRAIN_HU - _AIR_HU)
    is_air_off = abs(air_offset) > _OFFSET_TOLERANCE_HU
    if abs(slope - 1) <= _SLOPE_TOLERANCE:
        is_tissue_off = abs(tissue_offset) > _OFFSET_TOLERANCE_HU
        agree = abs(air_offset - tissue_offset) <= _OFFSET_DISAGREEMENT_HU
        if is_air_off and is_tissue_off and agree:
            return _subtract_offset(scan, sample, round(air_offset))
        return scan
    near_air = np.bincount(
        sample[(sample > _RIGHT_AIR_HU[0]) & (sample < _RIGHT_AIR_HU[1])] - _RIGHT_AIR_HU[0], minlength=1
    )
    has_right_air = near_air.sum() - near_air.max() >= _MIN_RIGHT_AIR_SHARE * sample.size
    if has_right_air and _BRAIN_RANGE_HU[0] <= tissue <= _BRAIN_RANGE_HU[1]:
        return scan
    lowest_slope, highest_slope = _SLOPES if is_air_off else _SLOPES_WITH_RIGHT_AIR
    if not lowest_slope <= slope <= highest_slope:
        return scan
    intercept = air - _AIR_HU * slope
    brain_area = _measure_brain(sample, slope, intercept)[0]
    if brain_area > (0 if is_air_off else 2 * _measure_brain(sample, 1.0, 0.0)[0]):
        raise NoHounsfield(
            f"air lies at {air:.0f} in place of -1000, brain at {tissue:.0f} in place of 20 to 45: one Hounsfield unit "
            f"is about {slope:.2g} of a value",
            "Export the series again with its rescale slope and intercept.",
        )
    return scan


def _subtract_offset(scan: Scan, sample: NDArray[np.int16], offset: int) -> Scan:
    area, brain_hu = _measure_brain(sample, 1.0, offset)
    if area == 0 or abs(brain_hu - _BRAIN_HU) > _OFFSET_TOLERANCE_HU:
        return scan
    hu = np.empty_like(scan.hu)
    for plane, lowered in zip(scan.hu, hu, strict=True):
        lowered[...] = np.clip(plane.astype(np.int32) - offset, -32768, 32767)
    message = (
        f"Air lay at {offset + _AIR_HU:.0f}, brain at {brain_hu + offset:.0f}: the values were {abs(offset)} "
        f"{'above' if offset > 0 else 'below'} Hounsfield units and were corrected. Brain is now at {brain_hu:.0f} HU."
    )
    return replace(scan, hu=hu).with_remarks(Remark(code="hounsfield-offset", severity="repaired", message=message))


def _measure_brain(sample: NDArray[np.int16], slope: float, intercept: float) -> tuple[float, float]:
    """Return the area of head-like slices' brain, and its median, HU, if values are slope * HU + intercept."""
    thresholds, areas, values = TissueThresholds.for_hounsfield(), [0.0], []
    for plane in sample:
        tissue = find_enclosed_tissue((plane - np.float32(intercept)) / np.float32(slope), thresholds)
        if tissue is not None and tissue.is_head_like:
            areas.append(tissue.area_share)
            values.append(tissue.values)
    return sum(areas), float(np.median(np.concatenate(values))) if values else np.nan


def _read_cut_scan(scan: Scan, witnesses: ScaleWitnesses) -> Scan:
    """Read Hounsfield units that end below bone as a picture: bone cannot be told from blood by its density."""
    top = witnesses.highest
    if top < _MIN_WINDOW_TOP_HU:
        raise NoHounsfield(
            f"the values end at {top}, at {witnesses.highest_share:.0%} of the pixels: bone and blood are cut off",
            "Export the series again without a window.",
        )
    bottom = max(witnesses.lowest, 2 * _WINDOW_CENTRE_HU - top)
    hu = np.maximum(scan.hu, np.int16(bottom))
    message = (
        f"The values end at {top} HU, at {witnesses.highest_share:.0%} of the pixels: a window was applied, and bone "
        "is cut off. The scan was read as a picture; export it without a window."
    )
    return _make_picture(scan, hu, ((bottom + top) / 2, float(top - bottom)), message)


def _read_grey_levels(scan: Scan, sample: NDArray[np.int16], witnesses: ScaleWitnesses) -> Scan:
    """Read grey levels of a narrow window as a picture; refuse those of a wide one, which do not show blood.

    Whole Hounsfield units that were stretched leave gaps: the number of values in use is the width of the window, and
    brain its centre. Without gaps the window is estimated as that of a picture.
    """
    lowest, span = witnesses.lowest, witnesses.highest - witnesses.lowest
    table = np.rint(np.arange(span + 1) * (_GREY_LEVELS / span)).astype(np.uint8)
    greys = table[sample.clip(lowest, witnesses.highest).astype(np.int32) - lowest]
    thresholds = TissueThresholds.for_window(_GREY_LEVELS / 2, _GREY_LEVELS)
    tissues = [find_enclosed_tissue(plane, thresholds) for plane in greys]
    heads = [tissue.values for tissue in tissues if tissue is not None and tissue.is_head_like]
    if not heads:
        return scan
    level = float(np.median(np.concatenate(heads))) / _GREY_LEVELS
    spread = float(np.median([np.subtract(*np.percentile(values, [75, 25])) for values in heads]))
    seen = (
        f"the values range from {lowest} to {witnesses.highest}, {witnesses.lowest_share:.0%} and "
        f"{witnesses.highest_share:.0%} of the pixels lie at these ends, and brain at {lowest + level * span:.0f}"
    )
    if width_hu := witnesses.stretched_width_hu:
        window = (round(_BRAIN_HU - (level - 0.5) * width_hu, 1), width_hu)
    elif spread >= _MIN_BRAIN_SPREAD:
        window = estimate_window(greys, float(_GREY_LEVELS))
    else:
        raise NoHounsfield(
            f"{seen}: these are grey levels of an unknown window, not Hounsfield units",
            "Export the series again in Hounsfield units; if you know the window, give its slices as pictures with "
            "--window and --spacing.",
        )
    hu = np.empty_like(scan.hu)
    for plane, hu_plane in zip(scan.hu, hu, strict=True):
        clipped = plane.clip(lowest, witnesses.highest).astype(np.int32)
        hu_plane[...] = map_window(table[clipped - lowest], float(_GREY_LEVELS), window)
    message = (
        f"These are grey levels, not Hounsfield units: {seen}. The scan was read as a picture with centre "
        f"{window[0]:g}, width {window[1]:g}."
    )
    return _make_picture(scan, hu, window, message)


def _make_picture(scan: Scan, hu: NDArray[np.int16], window: tuple[float, float], message: str) -> Scan:
    picture = replace(scan, hu=hu, calibrated=False, window=window)
    return picture.with_remarks(
        Remark(code="values-as-grey-levels", severity="warning", message=message),
        Remark(code="uncalibrated", severity="warning", message="Densities are not given."),
    )
