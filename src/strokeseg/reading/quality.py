"""Warn of contrast medium, a sharp kernel, metal and motion, by the pixels alone.

Tags are not used: after an export they are often missing. Every remark states the measured value and the limit. The
limits were set on three whole scans without any of the four (two scanners, pixels of 0.49 and 0.96 mm, steps of 1 to
7 mm). The values of these scans stand beside each limit; tests/reading/test_quality.py checks them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.imaging import downsample
from strokeseg.reading.head_detection import sample_slice_indices
from strokeseg.result import Remark
from strokeseg.scan import Scan

_SAMPLED_SLICES = 24
_MAX_SKIN_SLICES = 64
_WIDE_SLICE_SHARE = 0.6  # of the largest brain area on a slice: slices of the base and the vertex are full of bone

# Vessels with contrast medium lie between dense blood and bone. So does calcium, on few slices and in few components.
_VESSEL_EDGE_HU = 120.0
_VESSEL_PEAK_HU = (140.0, 500.0)
_VESSEL_MM2 = (4.0, 400.0)
_MIN_VESSELS = 3
_MIN_VESSEL_SLICE_SHARE = 0.5  # of the slices; at most 0.2 in the three scans without contrast medium
_MIN_SLICES = 3

# Neighbouring pixels share their noise after a soft kernel, but hardly after a sharp one.
_MAX_SOFT_NOISE_HU = 12.0  # medians of the three soft scans: 4 to 9
_MIN_SOFT_CORRELATION = 0.2  # medians of the three soft scans: 0.32 to 0.64

_METAL_HU = 3000  # enamel and the densest bone of the three scans end at 2986
_MIN_METAL_MM2 = 10.0

# The edge from air to skin is blurred over one or two pixels; in a head that moved the skin is doubled.
_SKIN_HU = (-800, -200)
_MAX_SKIN_MM = 4.0  # upper quartile over all directions; at most 2.9 in the three scans without motion
_RAYS = 72


@dataclass(frozen=True)
class SliceMeasurements:
    """Measurements of one slice at about 1 mm.

    Attributes
    ----------
    index : int
        Index of the slice.
    brain_mm2 : float
        Area of brain-range tissue inside bone.
    vessel_count : int
        Number of components as dense as vessels with contrast medium, inside bone and apart from it.
    vessel_area_mm2 : float
        Their area.
    """

    index: int
    brain_mm2: float
    vessel_count: int
    vessel_area_mm2: float


def check_quality(scan: Scan) -> list[Remark]:
    """Check a scan for contrast medium, a sharp kernel, metal and motion.

    Pictures are not checked, because their scale ends at their window.

    Parameters
    ----------
    scan : Scan
        A scan that shows a head.

    Returns
    -------
    list of Remark
        `contrast-medium`, `sharp-kernel`, `metal`, `motion`.
    """
    if not scan.calibrated or not scan.spacing_known:
        return []
    slices = [measure_slice(scan, int(index)) for index in sample_slice_indices(len(scan.hu), _SAMPLED_SLICES)]
    max_brain_mm2 = max(each.brain_mm2 for each in slices)
    wide_slices = [each for each in slices if each.brain_mm2 >= _WIDE_SLICE_SHARE * max_brain_mm2 > 0]
    # A sharp kernel overshoots at every edge: its bone reaches the values of metal, its noise those of vessels.
    if sharp_kernel := check_sharp_kernel(scan, wide_slices):
        remarks = [sharp_kernel, check_motion(scan)]
    else:
        remarks = [check_contrast_medium(wide_slices), check_metal(scan), check_motion(scan)]
    return [remark for remark in remarks if remark is not None]


def check_contrast_medium(wide_slices: Sequence[SliceMeasurements]) -> Remark | None:
    """Warn if half of the slices show three or more components as dense as enhanced vessels (`contrast-medium`).

    One or two slices are not checked: on them vessels cannot be told from calcium.

    Parameters
    ----------
    wide_slices : sequence of SliceMeasurements
        Slices with a large area of brain.
    """
    if len(wide_slices) < _MIN_SLICES:
        return None
    with_vessels = [each for each in wide_slices if each.vessel_count >= _MIN_VESSELS]
    if len(with_vessels) < _MIN_VESSEL_SLICE_SHARE * len(wide_slices):
        return None
    area = np.mean([each.vessel_area_mm2 for each in with_vessels])
    message = (
        f"Contrast medium: {len(with_vessels)} of {len(wide_slices)} sampled slices show {_MIN_VESSELS} or more bright "
        f"areas ({area:.0f} mm² a slice, {_VESSEL_EDGE_HU:.0f} to {_VESSEL_PEAK_HU[1]:.0f} HU) inside the skull. "
        "Enhanced vessels may be mistaken for blood, and blood for vessels."
    )
    return _make_warning(code="contrast-medium", message=message, slices=[each.index for each in with_vessels])


def check_sharp_kernel(scan: Scan, wide_slices: Sequence[SliceMeasurements]) -> Remark | None:
    """Warn if noise is high and nearly independent from pixel to pixel, as after a bone kernel (`sharp-kernel`).

    Parameters
    ----------
    scan : Scan
        The scan.
    wide_slices : sequence of SliceMeasurements
        Slices with a large area of brain.
    """
    measurements = [
        noise
        for each in wide_slices[:: max(1, len(wide_slices) // 4)]
        if (noise := _measure_noise(scan.hu[each.index])) is not None
    ]
    if not measurements:
        return None
    noise_hu, correlation = np.median(measurements, axis=0)
    if noise_hu <= _MAX_SOFT_NOISE_HU or correlation >= _MIN_SOFT_CORRELATION:
        return None
    message = (
        f"Sharp (bone) kernel: the noise in the brain is {noise_hu:.0f} HU (limit {_MAX_SOFT_NOISE_HU:.0f} HU), its "
        f"correlation between neighbouring pixels {correlation:.2f} (limit {_MIN_SOFT_CORRELATION}). Faint blood may "
        "not be visible; use the soft-tissue series."
    )
    return _make_warning(code="sharp-kernel", message=message)


def check_metal(scan: Scan) -> Remark | None:
    """Warn of values above those of bone and teeth (`metal`)."""
    if int(scan.hu.max()) < _METAL_HU:
        return None
    areas = np.array([np.count_nonzero(plane >= _METAL_HU) for plane in scan.hu]) * scan.planes.pixel_area_mm2
    slices = np.flatnonzero(areas >= _MIN_METAL_MM2)
    if slices.size == 0:
        return None
    message = (
        f"Metal: up to {areas.max():.0f} mm² a slice at or above {_METAL_HU} HU, on {slices.size} slices. Streaks may "
        "hide blood or look like blood."
    )
    return _make_warning(code="metal", message=message, slices=slices.tolist())


def check_motion(scan: Scan) -> Remark | None:
    """Warn if the skin is doubled (`motion`): the edge from air to skin is wide in a quarter of the directions or more.

    Only slices with nearly the widest outline are used: near the vertex the skin is cut obliquely, and thick slices
    blur it.
    """
    step = -(-len(scan.hu) // _MAX_SKIN_SLICES)
    measurements = [(index, *_measure_skin(scan, index)) for index in range(0, len(scan.hu), step)]
    max_outline_mm = max(outline_mm for _, _, outline_mm in measurements)
    blurred = [
        (index, skin_mm)
        for index, skin_mm, outline_mm in measurements
        if outline_mm >= 0.9 * max_outline_mm and skin_mm > _MAX_SKIN_MM
    ]
    if not blurred:
        return None
    message = (
        f"Motion: on {len(blurred)} slices the skin is blurred or doubled over up to "
        f"{max(skin_mm for _, skin_mm in blurred):.1f} mm (limit {_MAX_SKIN_MM:.0f} mm). Edges of bone may look like "
        "blood. Dense hair or a bandage can have the same effect."
    )
    return _make_warning(code="motion", message=message, slices=[index for index, _ in blurred])


def measure_slice(scan: Scan, index: int) -> SliceMeasurements:
    """Measure one slice at about 1 mm.

    Parameters
    ----------
    scan : Scan
        The scan.
    index : int
        Index of the slice.
    """
    pixel_mm = max(scan.planes.pixel_spacing_mm)
    step = max(1, round(1 / pixel_mm))
    coarse = downsample.downsample_mean(np.clip(scan.hu[index], -200, 1000), step)
    area_mm2 = scan.planes.pixel_area_mm2 * step**2
    labels, count = ndimage.label(coarse > _VESSEL_EDGE_HU, np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1) * area_mm2
    areas[0] = 0
    inside = _mark_inside_skull((areas > _VESSEL_MM2[1])[labels])
    brain_mm2 = float(np.count_nonzero(inside & (coarse > 0) & (coarse < 90)) * area_mm2)
    bright = np.flatnonzero(labels)
    numbers = labels.reshape(-1)[bright]
    peaks = np.full(count + 1, -np.inf)
    np.maximum.at(peaks, numbers, coarse.reshape(-1)[bright])
    outside = np.bincount(numbers, ~inside.reshape(-1)[bright], minlength=count + 1)
    has_vessel_size = (areas >= _VESSEL_MM2[0]) & (areas <= _VESSEL_MM2[1])
    has_vessel_density = (peaks > _VESSEL_PEAK_HU[0]) & (peaks < _VESSEL_PEAK_HU[1])
    vessels = np.flatnonzero(has_vessel_size & has_vessel_density & (outside == 0))
    return SliceMeasurements(index, brain_mm2, len(vessels), float(areas[vessels].sum()))


def _mark_inside_skull(skull: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the pixels with bone on all four sides."""
    inside = ~skull
    for axis in (0, 1):
        inside &= np.logical_or.accumulate(skull, axis=axis)
        inside &= np.flip(np.logical_or.accumulate(np.flip(skull, axis), axis=axis), axis)
    return inside


def _measure_noise(plane: NDArray[np.int16]) -> tuple[float, float] | None:
    """Measure the noise in even tissue: standard deviation, HU, and correlation of neighbours in a row."""
    values = np.clip(plane, -200, 300).astype(np.float32)
    mean = ndimage.uniform_filter(values, 9)
    even = ndimage.binary_erosion(np.abs(mean - 35) < 25, iterations=4)
    if np.count_nonzero(even) < 500:
        return None
    noise = values - mean
    variance = float((noise[even] ** 2).mean())
    pairs = even[:, 1:] & even[:, :-1]
    if variance == 0 or not pairs.any():
        return None
    return variance**0.5, float((noise[:, 1:] * noise[:, :-1])[pairs].mean()) / variance


def _measure_skin(scan: Scan, index: int) -> tuple[float, float]:
    """Return the width of the edge from air to skin (upper quartile over directions) and the outline's radius, mm."""
    plane = scan.hu[index]
    rows, columns = np.nonzero(plane[::4, ::4] > _SKIN_HU[1])
    if rows.size < 50:
        return 0.0, 0.0
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    step_mm = min(row_mm, column_mm) / 2
    angles = np.linspace(0, 2 * np.pi, _RAYS, endpoint=False)
    distances = np.arange(0, np.hypot(plane.shape[0] * row_mm, plane.shape[1] * column_mm) / 2, step_mm)
    ray_rows = np.rint(4 * rows.mean() + np.outer(np.sin(angles), distances / row_mm)).astype(int)
    ray_columns = np.rint(4 * columns.mean() + np.outer(np.cos(angles), distances / column_mm)).astype(int)
    in_picture = (ray_rows >= 0) & (ray_rows < plane.shape[0]) & (ray_columns >= 0) & (ray_columns < plane.shape[1])
    pixels = plane[np.where(in_picture, ray_rows, 0), np.where(in_picture, ray_columns, 0)]
    values = np.where(in_picture, pixels, -1024)
    tissue = values > _SKIN_HU[1]
    last = np.where(tissue.any(axis=1), distances.size - 1 - tissue[:, ::-1].argmax(axis=1), 0)
    air = (values < _SKIN_HU[0]) & (np.arange(distances.size) > last[:, None])
    # Where the head reaches beyond the picture there is no skin to measure.
    end = np.minimum(last + round(2 * _MAX_SKIN_MM / step_mm), distances.size - 1)
    shown = air.any(axis=1) & in_picture[np.arange(_RAYS), end]
    if np.count_nonzero(shown) < _RAYS // 2:
        return 0.0, 0.0
    skin_mm = (air.argmax(axis=1) - last)[shown] * step_mm
    return float(np.percentile(skin_mm, 75)), float(last[shown].mean() * step_mm)


def _make_warning(*, code: str, message: str, slices: Sequence[int] = ()) -> Remark:
    return Remark(code=code, severity="warning", message=message, slices=list(slices))
