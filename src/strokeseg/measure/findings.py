"""A scan and a mask to Findings."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.measure.lesions import abc2_ml, label, max_diameter_mm
from strokeseg.result import Findings, Lesion
from strokeseg.scan import Scan


def measure(scan: Scan, mask: Any, probability: NDArray[np.floating[Any]] | None, dropped_specks: int) -> Findings:
    """Measure a mask; see :func:`strokeseg.measure.measure`."""
    values = np.asarray(mask)
    if values.shape != scan.shape:
        raise ValueError(f"the mask is {values.shape}, the scan {scan.shape}")
    if values.dtype != bool and not np.isin(values, (0, 1)).all():
        raise ValueError("the mask must hold only 0 and 1")
    labels, count = label(values.astype(bool), scan)
    boxes = ndimage.find_objects(labels)
    lesions = [_lesion(scan, labels, number, boxes[number - 1][1:], probability) for number in range(1, count + 1)]
    volumes = [lesion.volume_ml for lesion in lesions]
    sure = [lesion.probability for lesion in lesions if lesion.probability is not None]
    return Findings(
        hemorrhage=bool(lesions),
        confidence=round(max(sure), 3) if sure else None,
        volume_ml=None if scan.weights_mm is None else round(sum(v for v in volumes if v is not None), 3),
        dropped_specks=dropped_specks,
        lesions=lesions,
    )


def _lesion(
    scan: Scan,
    labels: NDArray[np.int32],
    number: int,
    box: tuple[slice, slice],
    probability: NDArray[np.floating[Any]] | None,
) -> Lesion:
    """Measure one lesion; only its box of rows and columns is looked at, on all slices."""
    cut = (slice(None), *box)
    where = labels[cut] == number
    slices, rows, columns = np.nonzero(where)
    rows, columns = rows + box[0].start, columns + box[1].start
    weights = scan.weights_mm
    volume = centroid = None
    if weights is not None:
        share = weights[slices]
        volume = float(share.sum() * scan.planes.pixel_area_mm2 / 1000)
        middle = np.average(np.column_stack([slices, rows, columns]), axis=0, weights=share)
        centroid = scan.planes.to_lps_mm(middle)[0]
    known = scan.spacing_known
    return Lesion(
        id=number,
        pixels=len(slices),
        slices=(int(slices.min()), int(slices.max())),
        probability=None
        if probability is None
        else round(float(np.mean(probability[cut][where], dtype=np.float64)), 3),
        volume_ml=None if volume is None else round(volume, 3),
        abc2_ml=None if weights is None else round(abc2_ml(where, scan), 3),
        max_diameter_mm=round(max_diameter_mm(where, scan), 1) if known else None,
        mean_hu=round(float(scan.hu[cut][where].mean()), 1) if scan.calibrated else None,
        centroid_lps_mm=None if centroid is None else (float(centroid[0]), float(centroid[1]), float(centroid[2])),
    )
