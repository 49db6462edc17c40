"""Scans, masks and scenes whose truth is known by construction."""

from __future__ import annotations

import numpy as np
import trimesh

from strokeseg.result import (
    Findings,
    InputInfo,
    Lesion,
    Mesh,
    ModelInfo,
    Remark,
    ResultDocument,
    Scene,
    Timing,
)
from strokeseg.scan import Planes, Scan

TIMING = Timing(read=0.5, infer=1.5, write=0.25, total=2.25)


def planes(count, step_lps_mm, row_cosine=(1, 0, 0), column_cosine=(0, 1, 0), spacing_mm=(0.5, 0.5), at=(-60, -70, 20)):
    """Evenly stepped planes; ``step_lps_mm`` need not be along the normal."""
    positions = np.asarray(at, float) + np.arange(count)[:, None] * np.asarray(step_lps_mm, float)
    return Planes(positions, np.asarray(row_cosine, float), np.asarray(column_cosine, float), spacing_mm, None)


def scan_of(where, rows=64, columns=72, **fields):
    rng = np.random.default_rng(7)
    hu = rng.integers(-1000, 1500, (len(where.positions_mm), rows, columns)).astype(np.int16)
    return Scan(hu, where, **fields)


def ball(scan, centre_lps_mm, radius_mm):
    """Mark the pixels whose centre lies in a ball, by their positions written out here, not by `to_lps_mm`."""
    where, (count, rows, columns) = scan.planes, scan.shape
    down = np.arange(rows)[:, None, None] * where.pixel_spacing_mm[0] * where.column_cosine
    across = np.arange(columns)[None, :, None] * where.pixel_spacing_mm[1] * where.row_cosine
    mask = np.zeros(scan.shape, dtype=bool)
    for k in range(count):
        mask[k] = np.linalg.norm(where.positions_mm[k] + down + across - centre_lps_mm, axis=2) < radius_mm
    return mask


def sphere(centre_lps_mm, radius_mm):
    made = trimesh.creation.icosphere(subdivisions=3, radius=radius_mm)
    return Mesh((made.vertices + np.asarray(centre_lps_mm)).astype(np.float32), np.asarray(made.faces, dtype=np.int32))


def scene(to_scale=True):
    """A brain of 70 mm at (10, 20, 30) LPS with a bleed 40 mm to the left, 20 mm to the front, 10 mm up of it."""
    return Scene(sphere((10, 20, 30), 70), (sphere((50, 0, 40), 12), sphere((0, 30, 20), 5)), to_scale)


def lesion(number, first, last, **fields):
    known = {
        "pixels": 120,
        "probability": 0.81,
        "volume_ml": 12.34,
        "abc2_ml": 13.1,
        "max_diameter_mm": 31.4,
        "mean_hu": 62.0,
    }
    return Lesion(id=number, slices=(first, last), **(known | fields))


def document(scan, lesions=(), **fields):
    weights = scan.weights_mm
    info = InputInfo(
        kind=scan.kind,
        series_uid=scan.series_uid,
        slices=scan.shape[0],
        rows=scan.shape[1],
        columns=scan.shape[2],
        pixel_spacing_mm=scan.pixel_spacing_mm,
        slice_weights_mm=None if weights is None else [float(weight) for weight in weights],
        tilt_deg=scan.planes.tilt_deg,
        calibrated=scan.calibrated,
        window=scan.window,
    )
    volumes = [one.volume_ml for one in lesions]
    findings = Findings(
        hemorrhage=bool(lesions),
        confidence=0.81 if lesions else None,
        volume_ml=None if None in volumes else sum(volumes),
        lesions=list(lesions),
    )
    model = ModelInfo(
        name="default", version="1.2", sha256="5ca1ab1e" * 8, engine="onnxruntime", precision="float32", threshold=0.42
    )
    made = ResultDocument(
        software="strokeseg 0.1.0",
        status="accepted",
        remarks=[Remark(code="gantry-tilt", severity="info", message="The gantry is tilted by 12 degrees.")],
        input=info,
        model=model,
        findings=findings,
        timing_s=Timing(read=0.5, infer=1.5),
    )
    return made.model_copy(update=fields)
