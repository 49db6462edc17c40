"""Analytic shapes sampled on any planes, independent of the code under test except for the mapping of planes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import trimesh

from strokeseg.scan import Planes, Scan
from strokeseg.scene import Mesh


def make_planes(
    places_mm: Sequence[float],
    pixel_mm: tuple[float, float],
    *,
    tilt_deg: float = 0.0,
    row: Sequence[float] = (1, 0, 0),
    column: Sequence[float] = (0, 1, 0),
    origin: Sequence[float] = (-30, -40, 50),
) -> Planes:
    """Make slices at positions along the normal; a tilt also shifts them along the columns (a sheared stack)."""
    along, down = np.asarray(row, float), np.asarray(column, float)
    normal = np.cross(along, down)
    places = np.asarray(places_mm, float)[:, None]
    positions = np.asarray(origin, float) + places * normal + np.tan(np.radians(tilt_deg)) * places * down
    thickness = float(places_mm[1] - places_mm[0]) if len(places_mm) > 1 else 5.0
    return Planes(positions, along, down, pixel_mm, thickness)


def compute_points_mm(grid: Planes, shape: tuple[int, int]) -> np.ndarray:
    """Compute the centre of every pixel in LPS mm, (slices, rows, columns, 3)."""
    rows = np.arange(shape[0])[:, None, None] * grid.pixel_spacing_mm[0] * grid.column_cosine
    columns = np.arange(shape[1])[None, :, None] * grid.pixel_spacing_mm[1] * grid.row_cosine
    return grid.positions_mm[:, None, None] + (rows + columns)[None]


def mark_ellipsoid(grid: Planes, shape: tuple[int, int], centre: Sequence[float], half: Sequence[float]) -> np.ndarray:
    """Mark the pixels with their centre inside an ellipsoid, bool (slices, rows, columns)."""
    offsets = (compute_points_mm(grid, shape) - np.asarray(centre, float)) / np.asarray(half, float)
    return np.asarray((offsets**2).sum(-1) <= 1)


def make_scan(grid: Planes, shape: tuple[int, int], hu: np.ndarray | None = None, **more: object) -> Scan:
    values = np.zeros((len(grid.positions_mm), *shape)) if hu is None else hu
    return Scan(values.astype(np.int16), grid, **more)  # type: ignore[arg-type]


def measure_volume_mm3(mask: np.ndarray, grid: Planes) -> float:
    """Sum pixel area x slice weight, with weights from the gaps alone (no missing slices)."""
    along = grid.positions_mm @ np.cross(grid.row_cosine, grid.column_cosine)
    if len(along) == 1:
        return float(mask.sum()) * grid.pixel_spacing_mm[0] * grid.pixel_spacing_mm[1] * float(grid.thickness_mm or 0)
    edges = (along[1:] + along[:-1]) / 2
    edges = np.concatenate([[2 * along[0] - edges[0]], edges, [2 * along[-1] - edges[-1]]])
    return float(mask.sum((1, 2)) @ np.diff(edges)) * grid.pixel_spacing_mm[0] * grid.pixel_spacing_mm[1]


def assert_closed(mesh: Mesh) -> trimesh.Trimesh:
    """Assert that a mesh is closed, oriented outward and without empty triangles; return it as trimesh."""
    assert mesh.vertices_mm.dtype == np.float32 and mesh.faces.dtype == np.int32
    assert np.isfinite(mesh.vertices_mm).all()
    solid = trimesh.Trimesh(mesh.vertices_mm.astype(float), mesh.faces, process=False)
    assert solid.is_watertight
    assert solid.is_winding_consistent
    assert solid.volume > 0
    assert solid.area_faces.min() > 0
    return solid
