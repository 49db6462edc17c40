"""What makes an answer worth less, told from the pixels: contrast medium, a sharp kernel, metal, motion.

Tags are not asked: they are missing after an export as often as not. Every remark states what was measured and the
limit. The limits were set on three whole scans without any of the four (two scanners, pixels of 0.49 and 0.96 mm, steps
of 1 to 7 mm); what those measured stands beside each limit, and tests/read/test_quality.py holds them to it.
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
_WIDE_SLICE_SHARE = 0.6  # of the most brain on a slice: the base and the vertex have bone all over

# Vessels with contrast medium lie between dense blood and bone; so does calcium, on few slices and in few pieces.
_VESSEL_HU = (120.0, 140.0, 500.0)  # edge, least and most of a piece's highest
_VESSEL_MM2 = (4.0, 400.0)
_MIN_VESSELS = 3
_MIN_VESSEL_SLICE_SHARE = 0.5  # of the slices; the three plain scans: at most 0.2
_MIN_SLICES = 3

# Neighbouring pixels share their noise after a soft kernel and hardly after a sharp one.
_MAX_SOFT_NOISE_HU = 12.0  # the three soft scans: 4 to 9, medians
_MIN_SOFT_CORRELATION = 0.2  # the three soft scans: 0.32 to 0.64, medians

_METAL_HU = 3000  # enamel and the densest bone of the three scans end at 2986
_MIN_METAL_MM2 = 10.0

# From air to skin takes the blur of one pixel or two; a head that moved has its skin twice.
_SKIN_HU = (-800, -200)
_MAX_SKIN_MM = 4.0  # upper quartile over all directions; the three still scans: at most 2.9
_RAYS = 72


@dataclass(frozen=True)
class SliceMeasurements:
    """One slice at about 1 mm.

    Parameters
    ----------
    index : int
        Of the slice.
    brain_mm2 : float
        Area of brain-range tissue inside bone.
    pieces : object
        Number of pieces as dense as vessels with contrast medium, inside bone and apart from it.
    pieces_mm2 : object
        Their area.
    """

    index: int
    brain_mm2: float
    vessel_count: int
    vessel_area_mm2: float


def check_quality(scan: Scan) -> list[Remark]:
    """Measure a scan that the gate let through; pictures are not measured, for their scale ends at their window."""
    if not scan.calibrated or not scan.spacing_known:
        return []
    looks = [measure_slice(scan, int(index)) for index in sample_slice_indices(len(scan.hu), _SAMPLED_SLICES)]
    most = max(each.brain_mm2 for each in looks)
    wide = [each for each in looks if each.brain_mm2 >= _WIDE_SLICE_SHARE * most > 0]
    sharp = check_sharp_kernel(scan, wide)
    # A sharp kernel overshoots at every edge: its bone reaches the values of metal, its noise those of vessels.
    found = (
        [sharp, check_motion(scan)] if sharp else [check_contrast_medium(wide), check_metal(scan), check_motion(scan)]
    )
    return [remark for remark in found if remark is not None]


def check_contrast_medium(wide: Sequence[SliceMeasurements]) -> Remark | None:
    """Warn where half of the slices show three or more pieces as dense as enhanced vessels.

    One or two slices cannot tell vessels from calcium: nothing is said of them.
    """
    if len(wide) < _MIN_SLICES:
        return None
    with_vessels = [each for each in wide if each.vessel_count >= _MIN_VESSELS]
    if len(with_vessels) < _MIN_VESSEL_SLICE_SHARE * len(wide):
        return None
    area = np.mean([each.vessel_area_mm2 for each in with_vessels])
    message = (
        f"Contrast medium: {len(with_vessels)} of {len(wide)} slices looked at show {_MIN_VESSELS} or more bright pieces "
        f"({area:.0f} mm² a slice, {_VESSEL_HU[0]:.0f} to {_VESSEL_HU[2]:.0f} HU) inside the skull. Enhanced vessels "
        "may be taken for blood, and blood for them."
    )
    return _make_warning(code="contrast-medium", message=message, slices=[each.index for each in with_vessels])


def check_sharp_kernel(scan: Scan, wide: Sequence[SliceMeasurements]) -> Remark | None:
    """Warn where the noise is high and nearly independent from pixel to pixel, as a bone kernel leaves it."""
    measured = [
        noise for each in wide[:: max(1, len(wide) // 4)] if (noise := _measure_noise(scan.hu[each.index])) is not None
    ]
    if not measured:
        return None
    sd, alike = np.median(measured, axis=0)
    if sd <= _MAX_SOFT_NOISE_HU or alike >= _MIN_SOFT_CORRELATION:
        return None
    message = (
        f"A sharp (bone) kernel: the noise in the brain is {sd:.0f} HU and neighbouring pixels share {alike:.2f} of it "
        f"(limits {_MAX_SOFT_NOISE_HU:.0f} HU and {_MIN_SOFT_CORRELATION}). Faint blood drowns in it; the soft-tissue series is better."
    )
    return _make_warning(code="sharp-kernel", message=message)


def check_metal(scan: Scan) -> Remark | None:
    """Warn of what is denser than any bone or tooth."""
    if int(scan.hu.max()) < _METAL_HU:
        return None
    areas = np.array([np.count_nonzero(plane >= _METAL_HU) for plane in scan.hu]) * scan.planes.pixel_area_mm2
    slices = np.flatnonzero(areas >= _MIN_METAL_MM2)
    if slices.size == 0:
        return None
    message = (
        f"Metal: up to {areas.max():.0f} mm² a slice at or above {_METAL_HU} HU, on {slices.size} slices. Its streaks "
        "may hide blood or look like it."
    )
    return _make_warning(code="metal", message=message, slices=slices.tolist())


def check_motion(scan: Scan) -> Remark | None:
    """Warn where the skin is doubled: the way from air to skin is long in a quarter of the directions or more.

    Only slices with nearly the widest outline count: near the vertex the skin is cut aslant, and thick slices blur it.
    """
    step = -(-len(scan.hu) // _MAX_SKIN_SLICES)
    measured = [(index, *_measure_skin(scan, index)) for index in range(0, len(scan.hu), step)]
    widest = max(outline for _, _, outline in measured)
    moved = [(index, way) for index, way, outline in measured if outline >= 0.9 * widest and way > _MAX_SKIN_MM]
    if not moved:
        return None
    message = (
        f"Motion: on {len(moved)} slices the skin is blurred or doubled over {max(way for _, way in moved):.1f} mm "
        f"(limit {_MAX_SKIN_MM:.0f} mm). Edges of bone may look like blood. Dense hair or a bandage can look so too."
    )
    return _make_warning(code="motion", message=message, slices=[index for index, _ in moved])


def measure_slice(scan: Scan, index: int) -> SliceMeasurements:
    """Look at one slice at about 1 mm."""
    pixel_mm = max(scan.planes.pixel_spacing_mm)
    step = max(1, round(1 / pixel_mm))
    coarse = downsample.downsample_mean(np.clip(scan.hu[index], -200, 1000), step)
    area_mm2 = scan.planes.pixel_area_mm2 * step**2
    labels, count = ndimage.label(coarse > _VESSEL_HU[0], np.ones((3, 3)))
    areas = np.bincount(labels.ravel(), minlength=count + 1) * area_mm2
    areas[0] = 0
    inside = _mark_inside_skull((areas > _VESSEL_MM2[1])[labels])
    brain_mm2 = float(np.count_nonzero(inside & (coarse > 0) & (coarse < 90)) * area_mm2)
    bright = np.flatnonzero(labels)
    numbers = labels.reshape(-1)[bright]
    highest = np.full(count + 1, -np.inf)
    np.maximum.at(highest, numbers, coarse.reshape(-1)[bright])
    outside = np.bincount(numbers, ~inside.reshape(-1)[bright], minlength=count + 1)
    of_a_size = (areas >= _VESSEL_MM2[0]) & (areas <= _VESSEL_MM2[1])
    as_dense = (highest > _VESSEL_HU[1]) & (highest < _VESSEL_HU[2])
    chosen = np.flatnonzero(of_a_size & as_dense & (outside == 0))
    return SliceMeasurements(index, brain_mm2, len(chosen), float(areas[chosen].sum()))


def _mark_inside_skull(skull: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mark the pixels that have bone on all four sides."""
    inside = ~skull
    for axis in (0, 1):
        inside &= np.logical_or.accumulate(skull, axis=axis)
        inside &= np.flip(np.logical_or.accumulate(np.flip(skull, axis), axis=axis), axis)
    return inside


def _measure_noise(plane: NDArray[np.int16]) -> tuple[float, float] | None:
    """Measure the noise in even tissue: its standard deviation, HU, and the correlation of neighbours in a row."""
    values = np.clip(plane, -200, 300).astype(np.float32)
    mean = ndimage.uniform_filter(values, 9)
    even = ndimage.binary_erosion(np.abs(mean - 35) < 25, iterations=4)
    if np.count_nonzero(even) < 500:
        return None
    rest = values - mean
    variance = float((rest[even] ** 2).mean())
    pairs = even[:, 1:] & even[:, :-1]
    if variance == 0 or not pairs.any():
        return None
    return variance**0.5, float((rest[:, 1:] * rest[:, :-1])[pairs].mean()) / variance


def _measure_skin(scan: Scan, index: int) -> tuple[float, float]:
    """Return the way from air to skin (upper quartile over the directions) and the outline's mean radius, mm."""
    plane = scan.hu[index]
    rows, columns = np.nonzero(plane[::4, ::4] > _SKIN_HU[1])
    if rows.size < 50:
        return 0.0, 0.0
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    fine_mm = min(row_mm, column_mm) / 2
    angles = np.linspace(0, 2 * np.pi, _RAYS, endpoint=False)
    reach = np.arange(0, np.hypot(plane.shape[0] * row_mm, plane.shape[1] * column_mm) / 2, fine_mm)
    down = np.rint(4 * rows.mean() + np.outer(np.sin(angles), reach / row_mm)).astype(int)
    along = np.rint(4 * columns.mean() + np.outer(np.cos(angles), reach / column_mm)).astype(int)
    on = (down >= 0) & (down < plane.shape[0]) & (along >= 0) & (along < plane.shape[1])
    values = np.where(on, plane[np.where(on, down, 0), np.where(on, along, 0)], -1024)
    tissue = values > _SKIN_HU[1]
    last = np.where(tissue.any(axis=1), reach.size - 1 - tissue[:, ::-1].argmax(axis=1), 0)
    air = (values < _SKIN_HU[0]) & (np.arange(reach.size) > last[:, None])
    # A head that reaches beyond the picture has no skin there to look at.
    shown = air.any(axis=1) & on[np.arange(_RAYS), np.minimum(last + round(2 * _MAX_SKIN_MM / fine_mm), reach.size - 1)]
    if np.count_nonzero(shown) < _RAYS // 2:
        return 0.0, 0.0
    way = (air.argmax(axis=1) - last)[shown] * fine_mm
    return float(np.percentile(way, 75)), float(last[shown].mean() * fine_mm)


def _make_warning(*, code: str, message: str, slices: Sequence[int] = ()) -> Remark:
    return Remark(code=code, severity="warning", message=message, slices=list(slices))
