"""Decide by evidence gathered over the whole scan whether it shows a head, and cut a larger scan to its head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.errors import InconsistentGeometry, NotHead
from strokeseg.reading.head_detection import (
    MIN_TISSUE_AREA_SHARE,
    TissueThresholds,
    find_enclosed_tissue,
    sample_slice_indices,
)
from strokeseg.reading.head_evidence import SliceEvidence, measure_slice_evidence
from strokeseg.result import Remark
from strokeseg.scan import Scan

_SAMPLED_SLICES = 12
_MAX_SAMPLE_STEP_MM = 20.0
_MAX_SAMPLED_SLICES = 120

_MIN_PROBABILITY = 0.5
# Of up to three slices each counts alone; every slice of the data sets with brain inside a skull has more than this.
_MIN_PROBABILITY_OF_FEW = 0.2
_FEW_SLICES = 3
_MIN_HEAD_SHARE = 0.2
_MIN_RUN_MM = 40.0
_MAX_HEAD_MM = 300.0

_MIN_AREA_SHARE = 0.02
_MIN_AREA_MM2 = 400.0  # the spinal canal has less, the smallest slice of a brain more
_MAX_RADIUS_MM = 105.0  # mean inner radius; about 70 of a skull, about 130 of a rib cage
_DOUBTFUL_RADIUS_MM = 90.0

_BODY_STRIDE = 8
_FAT_HU = -200
_MAX_HEAD_MM2 = 40_000.0  # a circumference of 600 mm encloses 28,600; 36,000 with a headrest; shoulders have 60,000
_MAX_HEAD_AREAS = 1.5  # of the largest slice of this head, with what touches it
_MAX_OUTLINE_MM2 = 60_000.0  # of a head that touches the table
_MAX_BEYOND_MM = 100.0


@dataclass(frozen=True)
class HeadEvidence:
    """Evidence for a head, gathered over the sampled slices of a scan.

    Attributes
    ----------
    sampled_slices : int
        Number of slices that were measured.
    head_like_slices : int
        Number of them that show the inside of a skull.
    longest_run : int
        Largest number of neighbouring sampled slices that do.
    run_mm : float or None
        Length of this run along the normal, mm; None if unknown.
    probability : float
        Highest probability that a sampled slice shows the inside of a skull.
    closed_skull : float or None
        Median share of directions with bone on the head-like slices; None without such slices, as below.
    brain_hu : float or None
        Median of their medians inside the skull, HU.
    brain_spread_hu : float or None
        Median of their ranges from the 10th to the 90th percentile (grey and white matter, fluid, blood), HU.
    texture_hu : float or None
        Median of the mean differences of neighbouring coarse pixels, HU.
    asymmetry : float or None
        Median difference of the skull's radii on both sides of the best axis, as a share of the radius.
    dark_outside : float or None
        Median share of air, or of black, outside of bone and brain.
    skull_radius_mm : float or None
        Largest mean inner radius, mm; None if the spacing is unknown.
    brain_area_mm2 : float or None
        Largest area inside the skull on a slice, mm²; None if the spacing is unknown.
    """

    sampled_slices: int
    head_like_slices: int
    longest_run: int
    run_mm: float | None
    probability: float
    closed_skull: float | None
    brain_hu: float | None
    brain_spread_hu: float | None
    texture_hu: float | None
    asymmetry: float | None
    dark_outside: float | None
    skull_radius_mm: float | None
    brain_area_mm2: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers by name, rounded."""
        return {name: round(value, 3) if isinstance(value, float) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class _HeadSlices:
    """The measured slices: their indices, what was measured, and the longest run of head-like ones."""

    indices: NDArray[np.intp]
    evidence: Sequence[SliceEvidence | None]
    run: tuple[int, int]  # first and end, positions in ``indices``


def measure_head_evidence(scan: Scan) -> HeadEvidence:
    """Measure the evidence for a head over a scan.

    Parameters
    ----------
    scan : Scan
        The scan.

    Returns
    -------
    HeadEvidence
        The evidence.
    """
    return _summarize(scan, _measure_slices(scan))


def keep_head(scan: Scan) -> Scan:
    """Refuse a scan without a head; cut one that shows a head and more to its head.

    Parameters
    ----------
    scan : Scan
        The scan.

    Returns
    -------
    Scan
        The scan, or its head with remark `cut-to-head`.

    Raises
    ------
    NotHead
        `not-head`, if too few slices show a head.
    InconsistentGeometry
        `geometry`, if the head has an impossible size: the pixel spacing is wrong.
    """
    slices = _measure_slices(scan)
    evidence = _summarize(scan, slices)
    _check_share(scan, evidence)
    scan = scan.with_remarks(*_check_size(scan, evidence))
    return _cut(scan, slices)


def _measure_slices(scan: Scan) -> _HeadSlices:
    thresholds = TissueThresholds.for_window(*scan.window) if scan.window else TissueThresholds.for_hounsfield()
    indices = sample_slice_indices(len(scan.hu), count_samples(_measure_extent_mm(scan)))
    min_probability = _MIN_PROBABILITY_OF_FEW if len(indices) <= _FEW_SLICES else _MIN_PROBABILITY
    found: list[SliceEvidence | None] = []
    for index in indices:
        tissue = find_enclosed_tissue(scan.hu[index], thresholds, MIN_TISSUE_AREA_SHARE)
        if tissue is None or not tissue.is_head_like:
            found.append(None)
            continue
        evidence = measure_slice_evidence(tissue, thresholds)
        found.append(evidence if evidence.probability >= min_probability and _is_large(scan, evidence) else None)
    found = _leave_out_bodies(scan, indices, found)
    return _HeadSlices(indices, found, _find_longest_run(found))


def _leave_out_bodies(
    scan: Scan, indices: NDArray[np.intp], found: Sequence[SliceEvidence | None]
) -> list[SliceEvidence | None]:
    """Leave out slices that cannot show a head by the area inside their outline, or by that of the other slices.

    A slice with too large a skull stays: not the slice may be wrong, but the spacing.
    """
    if not scan.spacing_known or not any(found):
        return list(found)
    areas = np.array(
        [0.0 if each is None else _measure_outline_mm2(scan, int(i)) for i, each in zip(indices, found, strict=True)]
    )
    max_mm2 = max(_MAX_HEAD_MM2, _MAX_HEAD_AREAS * float(np.median(areas[areas > 0])))
    pixel_mm = max(scan.planes.pixel_spacing_mm)
    return [
        None
        if each is None or area > max_mm2 or (area > _MAX_OUTLINE_MM2 and each.radius_px * pixel_mm <= _MAX_RADIUS_MM)
        else each
        for each, area in zip(found, areas, strict=True)
    ]


def count_samples(extent_mm: float) -> int:
    """Return how many slices are sampled: twelve, or more where they would be more than 20 mm apart."""
    return int(min(max(_SAMPLED_SLICES, np.ceil(extent_mm / _MAX_SAMPLE_STEP_MM)), _MAX_SAMPLED_SLICES))


def _measure_extent_mm(scan: Scan) -> float:
    return float(np.ptp(scan.planes.along_normal_mm)) if scan.spacing_known else 0.0


def _is_large(scan: Scan, evidence: SliceEvidence) -> bool:
    if not scan.spacing_known:
        return evidence.area_share >= _MIN_AREA_SHARE
    return evidence.area_share * _measure_picture_mm2(scan) >= _MIN_AREA_MM2


def _measure_picture_mm2(scan: Scan) -> float:
    return scan.shape[1] * scan.shape[2] * scan.planes.pixel_area_mm2


def _find_longest_run(found: Sequence[SliceEvidence | None]) -> tuple[int, int]:
    best, start = (0, 0), 0
    for position, evidence in enumerate([*found, None]):
        if evidence is None:
            best = max(best, (start, position), key=lambda run: run[1] - run[0])
            start = position + 1
    return best


def _summarize(scan: Scan, slices: _HeadSlices) -> HeadEvidence:
    heads = [evidence for evidence in slices.evidence if evidence is not None]
    first, end = slices.run
    along = scan.planes.along_normal_mm[slices.indices]
    pixel_mm = max(scan.planes.pixel_spacing_mm)

    def median(name: str) -> float | None:
        return float(np.median([evidence.features[name] for evidence in heads])) if heads else None

    known = scan.spacing_known and bool(heads)
    return HeadEvidence(
        sampled_slices=len(slices.indices),
        head_like_slices=len(heads),
        longest_run=end - first,
        run_mm=float(along[end - 1] - along[first]) if known and end > first else None,
        probability=max((evidence.probability for evidence in heads), default=0.0),
        closed_skull=median("ring_share"),
        brain_hu=median("median_hu"),
        brain_spread_hu=median("spread_hu"),
        texture_hu=median("texture_hu"),
        asymmetry=median("asymmetry"),
        dark_outside=median("dark_outside"),
        skull_radius_mm=max(evidence.radius_px for evidence in heads) * pixel_mm if known else None,
        brain_area_mm2=max(evidence.area_share for evidence in heads) * _measure_picture_mm2(scan) if known else None,
    )


def _check_share(scan: Scan, evidence: HeadEvidence) -> None:
    """Refuse a scan (`not-head`) if less than a fifth of its sampled slices, and no long run of them, shows a head."""
    count, sampled = evidence.head_like_slices, evidence.sampled_slices
    is_long_scan = _measure_extent_mm(scan) > _MAX_HEAD_MM
    has_run = evidence.longest_run >= 3 and (evidence.run_mm or 0.0) >= _MIN_RUN_MM
    if count and ((is_long_scan and has_run) or (not is_long_scan and count >= _MIN_HEAD_SHARE * sampled)):
        return
    raise NotHead(
        f"{count} of {sampled} sampled slices show brain-like tissue of a head's size inside a ring of bone, "
        f"{evidence.longest_run} in a row; a head shows on a fifth of them or more"
    )


def _check_size(scan: Scan, evidence: HeadEvidence) -> list[Remark]:
    """Refuse a skull of impossible size (`geometry`); warn of a doubtful one (`doubtful-size`)."""
    radius_mm = evidence.skull_radius_mm
    if radius_mm is None or radius_mm <= _DOUBTFUL_RADIUS_MM:
        return []
    spacing = " x ".join(f"{length:.3g}" for length in scan.planes.pixel_spacing_mm)
    message = (
        f"the inside of the skull is {2 * radius_mm:.0f} mm wide on average, of a head about 140 mm: the pixel spacing "
        f"({spacing} mm) is probably wrong, or this is no head"
    )
    if radius_mm > _MAX_RADIUS_MM:
        raise InconsistentGeometry(message, "Export it again with its true pixel spacing.")
    return [Remark(code="doubtful-size", severity="warning", message=message[0].upper() + message[1:] + ".")]


def _cut(scan: Scan, slices: _HeadSlices) -> Scan:
    """Leave out the slices of a body, and those more than 100 mm beyond the slices that show the brain."""
    if not scan.spacing_known or len(scan.hu) < 2:
        return scan
    along = scan.planes.along_normal_mm
    lowest, highest = slices.indices[slices.run[0]], slices.indices[slices.run[1] - 1]
    low_mm, high_mm = along[lowest] - _MAX_BEYOND_MM, along[highest] + _MAX_BEYOND_MM
    kept = (along >= low_mm) & (along <= high_mm)
    head_mm2 = max(_measure_outline_mm2(scan, int(index)) for index in slices.indices[slice(*slices.run)])
    max_mm2 = max(_MAX_HEAD_MM2, _MAX_HEAD_AREAS * head_mm2)
    outside = np.flatnonzero(kept & ((np.arange(len(kept)) < lowest) | (np.arange(len(kept)) > highest)))
    bodies = [int(index) for index in outside if _measure_outline_mm2(scan, int(index)) > max_mm2]
    first = max([int(np.argmax(kept)), *(index + 1 for index in bodies if index < lowest)])
    end = min([len(kept) - int(np.argmax(kept[::-1])), *(index for index in bodies if index > highest)])
    if (first, end) == (0, len(scan.hu)):
        return scan
    message = (
        f"The scan shows more than a head: {first} slices below it and {len(scan.hu) - end} above it, of "
        f"{len(scan.hu)}, were left out."
    )
    return _select_slices(scan, first, end).with_remarks(Remark(code="cut-to-head", severity="info", message=message))


def _measure_outline_mm2(scan: Scan, index: int) -> float:
    """Measure the area inside the outline of the largest component of tissue, lungs and other air included."""
    # Pictures end at their window, where air and fat are black.
    limit = _FAT_HU if scan.window is None else TissueThresholds.for_window(*scan.window).air_below
    tissue = scan.hu[index, ::_BODY_STRIDE, ::_BODY_STRIDE] > limit
    labels, count = ndimage.label(ndimage.binary_fill_holes(tissue))
    largest_px = int(np.bincount(labels.ravel())[1:].max()) if count else 0
    return largest_px * scan.planes.pixel_area_mm2 * _BODY_STRIDE**2


def _select_slices(scan: Scan, first: int, end: int) -> Scan:
    """Return the slices from ``first`` to ``end``, and the remarks with their new indices."""
    kept = slice(first, end)
    remarks = tuple(
        remark.model_copy(update={"slices": [index - first for index in remark.slices if first <= index < end]})
        for remark in scan.remarks
    )
    return replace(
        scan,
        hu=scan.hu[kept],
        planes=replace(scan.planes, positions_mm=scan.planes.positions_mm[kept]),
        sop_instance_uids=scan.sop_instance_uids[kept],
        source=None if scan.source is None else replace(scan.source, frames=scan.source.frames[kept]),
        remarks=remarks,
    )
