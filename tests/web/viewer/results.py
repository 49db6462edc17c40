"""Results for the viewer's tests, from the samples at half resolution, so that they can be drawn in software."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

import strokeseg
from strokeseg.pipeline import Result
from strokeseg.result import Timing

SAMPLES = Path(__file__).parents[3] / "samples"


def pictures() -> Result:
    """Return the network's result for the shipped stack of pictures, with a spacing, so that it has volumes."""
    (scan,) = strokeseg.read(SAMPLES / "ctich_081", window=(40, 120), spacing_mm=(5.0, 0.45, 0.45))
    return strokeseg.segment(_halved(scan), model="fast")


def without_scale(result: Result) -> Result:
    """Return the same result without a known spacing."""
    scan = strokeseg.Scan.from_array(result.scan.hu, calibrated=False)
    findings = strokeseg.measure(scan, result.mask, result.probability)
    return dataclasses.replace(result, scan=scan, findings=findings)


def drawn(model: Result, radius_mm: float) -> Result:
    """Return the shipped DICOM head with a spherical lesion drawn into its left half, not by a network."""
    (read,) = strokeseg.read(SAMPLES / "ge_head.zip")
    scan = _halved(read)
    middle = scan.planes.to_lps_mm([[18, 128, 160]])
    indices = np.stack(np.meshgrid(*(np.arange(n) for n in scan.shape), indexing="ij"), -1).reshape(-1, 3)
    apart = np.linalg.norm(scan.planes.to_lps_mm(indices) - middle, axis=1)
    mask = (apart <= radius_mm).reshape(scan.shape)
    findings = strokeseg.measure(scan, mask, mask.astype(np.float32))
    return Result(scan, mask.astype(np.float16), mask, findings, model.model, Timing())


def _halved(scan: strokeseg.Scan) -> strokeseg.Scan:
    row, column = scan.planes.pixel_spacing_mm
    planes = dataclasses.replace(scan.planes, pixel_spacing_mm=(row * 2, column * 2))
    return dataclasses.replace(scan, hu=scan.hu[:, ::2, ::2], planes=planes)
