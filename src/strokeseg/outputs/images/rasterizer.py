"""Projection of meshes into an image: the camera, and a z-buffer in NumPy."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from strokeseg.scan import Floats
from strokeseg.scene import Mesh

Image3 = NDArray[np.float32]

# Distance of the viewer and focal length, in half widths of the scene.
_VIEW_DISTANCE, _FOCAL_LENGTH = 4.2, 3.3


@dataclass(frozen=True)
class Camera:
    """A perspective camera that looks at the scene.

    Attributes
    ----------
    rotation : ndarray of float64, shape (3, 3)
        Rows are unit vectors in LPS: right and up in the image, and towards the viewer.
    centre_mm : ndarray of float64, shape (3,)
        Point in the middle of the image, LPS mm.
    half_mm : float
        Half of the width of the scene.
    """

    rotation: Floats
    centre_mm: Floats
    half_mm: float

    def project(self, points_mm: NDArray[Any], side: int) -> Floats:
        """Project points into a square image.

        Parameters
        ----------
        points_mm : ndarray, shape (n, 3)
            LPS mm.
        side : int
            Side of the image, pixels.

        Returns
        -------
        ndarray of float64, shape (n, 3)
            Column, row, and nearness (larger is nearer).
        """
        rotated = (np.asarray(points_mm, dtype=np.float64) - self.centre_mm) @ self.rotation.T / self.half_mm
        near = 1 / (_VIEW_DISTANCE - rotated[:, 2])
        middle = (side - 1) / 2
        column = middle + rotated[:, 0] * near * _FOCAL_LENGTH * side / 2
        row = middle - rotated[:, 1] * near * _FOCAL_LENGTH * side / 2
        return np.column_stack([column, row, near])


class RasterLayer(NamedTuple):
    """The visible part of a surface, pixel by pixel.

    Attributes
    ----------
    pixel : ndarray of int64, shape (n,)
        Row x side + column.
    near : ndarray of float32, shape (n,)
        Nearness; larger is nearer.
    normals : ndarray of float32, shape (3, n)
        Unit normals: components to the right, up, and towards the viewer.
    """

    pixel: NDArray[np.int64]
    near: NDArray[np.float32]
    normals: Image3


def rasterize(mesh: Mesh, vertex_normals: Floats, camera: Camera, side: int) -> RasterLayer:
    """Find the nearest triangle facing the viewer at each pixel, with its normal interpolated from the corners.

    Parameters
    ----------
    mesh : Mesh
        A closed surface whose faces are oriented outwards.
    vertex_normals : ndarray of float64, shape (n, 3)
        From :func:`compute_vertex_normals`.
    camera : Camera
        The point of view.
    side : int
        Side of the square image, pixels.

    Returns
    -------
    RasterLayer
        The pixels that the surface covers.
    """
    corners = camera.project(mesh.vertices_mm, side)[mesh.faces]
    # Rows increase downwards, so a triangle that faces the viewer is clockwise in the image.
    facing = np.flatnonzero(_compute_signed_area(*corners.transpose(1, 0, 2)) < -1e-9)
    corners = corners[facing]
    owner = _find_nearest_triangles(corners, side)
    pixel = np.flatnonzero(owner >= 0)
    triangle = owner[pixel]
    of_corner = (vertex_normals @ camera.rotation.T).astype(np.float32)[mesh.faces[facing]].reshape(-1, 9)[triangle]
    projected = corners.astype(np.float32).reshape(-1, 9)[triangle]
    near, normals = np.zeros(len(pixel), np.float32), np.zeros((3, len(pixel)), np.float32)
    for corner, share in enumerate(_compute_barycentric(projected.reshape(-1, 3, 3), pixel % side, pixel // side)):
        near += share * projected[:, 3 * corner + 2]
        for axis in range(3):
            normals[axis] += share * of_corner[:, 3 * corner + axis]
    normals /= np.maximum(_compute_length(normals), np.float32(1e-9))
    return RasterLayer(pixel, near, normals)


def _find_nearest_triangles(corners: Floats, side: int) -> NDArray[np.int32]:
    """Return (side * side,), the index of the nearest triangle at the centre of each pixel, or -1; all face the viewer.

    Each triangle is split into runs of pixels along the rows; all runs are drawn at once, and the nearest remains.
    """
    triangle, row, first, count = _split_into_runs(corners, side)
    a, b, c = corners.transpose(1, 0, 2)
    area = _compute_signed_area(a, b, c)
    # Nearness is a plane over the image: its slopes along columns and rows, and its value at the first pixel.
    along = ((b[:, 2] - a[:, 2]) * (c[:, 1] - a[:, 1]) - (c[:, 2] - a[:, 2]) * (b[:, 1] - a[:, 1])) / area
    down = ((c[:, 2] - a[:, 2]) * (b[:, 0] - a[:, 0]) - (b[:, 2] - a[:, 2]) * (c[:, 0] - a[:, 0])) / area
    corner = a[:, 2] - along * a[:, 0] - down * a[:, 1]
    start = (corner[triangle] + along[triangle] * first + down[triangle] * row).astype(np.float32)
    slope = along.astype(np.float32)[triangle]
    run = np.repeat(np.arange(len(count), dtype=np.int32), count)
    step = np.arange(len(run), dtype=np.int32) - np.repeat((np.cumsum(count) - count).astype(np.int32), count)
    pixel = (row * side + first).astype(np.int32)[run] + step
    near = start[run] + slope[run] * step.astype(np.float32)
    owner, nearest = np.full(side * side, -1, np.int32), np.zeros(side * side, np.float32)
    np.maximum.at(nearest, pixel, near)
    is_nearest = near == nearest[pixel]
    owner[pixel[is_nearest]] = triangle[run[is_nearest]]
    return owner


def _split_into_runs(corners: Floats, side: int) -> tuple[NDArray[np.int64], ...]:
    """Split triangles into runs of pixels; return their (triangle, row, first column, number of columns)."""
    x, y = np.ascontiguousarray(corners.transpose(2, 1, 0)[:2])
    top = np.maximum(np.ceil(y.min(0)), 0).astype(np.int64)
    height = np.maximum(np.minimum(np.floor(y.max(0)), side - 1).astype(np.int64) - top + 1, 0)
    triangle = np.repeat(np.arange(len(corners)), height)
    row = top[triangle] + np.arange(len(triangle)) - np.repeat(np.cumsum(height) - height, height)
    left, right = np.full(len(row), np.inf), np.full(len(row), -np.inf)
    across, below = x[:, triangle], y[:, triangle]
    for one, other in ((0, 1), (1, 2), (2, 0)):
        y_one, y_other = below[one], below[other]
        crossed = (np.minimum(y_one, y_other) <= row) & (row <= np.maximum(y_one, y_other)) & (y_one != y_other)
        fraction = (row - y_one) / np.where(crossed, y_other - y_one, 1)
        at = across[one] + fraction * (across[other] - across[one])
        left = np.where(crossed, np.minimum(left, at), left)
        right = np.where(crossed, np.maximum(right, at), right)
    first = np.ceil(np.clip(left - 1e-6, 0, side)).astype(np.int64)
    count = np.floor(np.clip(right + 1e-6, -1, side - 1)).astype(np.int64) - first + 1
    has_pixels = count > 0
    return triangle[has_pixels], row[has_pixels], first[has_pixels], count[has_pixels]


def _compute_barycentric(
    corners: Image3, columns: NDArray[np.int64], rows: NDArray[np.int64]
) -> list[NDArray[np.float32]]:
    """Return the three barycentric coordinates of n triangles at one pixel each."""
    (a, b, c), points = corners.transpose(1, 0, 2), np.column_stack([columns, rows]).astype(np.float32)
    area = _compute_signed_area(a, b, c)
    of_b, of_c = (
        np.clip(_compute_signed_area(a, points, c) / area, 0, 1),
        np.clip(_compute_signed_area(a, b, points) / area, 0, 1),
    )
    return [np.maximum(1 - of_b - of_c, 0), of_b, of_c]


def _compute_signed_area(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]) -> NDArray[Any]:
    """Return twice the signed area of triangles in the image; each corner is (n, 2 or more)."""
    return np.asarray((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1]))


def _compute_length(vectors: Image3) -> NDArray[np.float32]:
    return np.sqrt(vectors[0] * vectors[0] + vectors[1] * vectors[1] + vectors[2] * vectors[2])
