"""Rendering of the 3D scene in software, with a z-buffer in NumPy: no display, graphics card or package is needed.

Light, translucency and perspective match those of the report's 3D viewer (report/templates/scene.js).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strokeseg.scan import Floats
from strokeseg.scene import Mesh, Scene

Image3 = NDArray[np.float32]

BACKGROUND = (12, 16, 22)

# Distance of the viewer and focal length, in half widths of the scene.
_VIEW_DISTANCE, _FOCAL_LENGTH = 4.2, 3.3
_MARGIN = 1.12
# Unit vectors to the key light and the fill light, and halfway between the key light and the viewer (for highlights).
_LAMPS = np.array([(-0.45, 0.7, 0.75), (0.8, -0.1, 0.45), (-0.454, 0.706, 1.887)], np.float32)
_LAMPS /= np.linalg.norm(_LAMPS, axis=1, keepdims=True)
_LESION_TINT, _BRAIN_TINT = (0.93, 0.16, 0.14), (0.90, 0.95, 1.0)
# Opacity of the brain seen head-on and at its rim; without lesions nothing needs to show through.
_BRAIN_OPACITY, _BRAIN_OPACITY_ALONE = (0.24, 0.78), (0.6, 0.9)
# Lesions along the surface of the brain cross it repeatedly: the brain reaches its full opacity this far in front.
_OPAQUE_DEPTH_MM = 5.0


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
        seen = (np.asarray(points_mm, dtype=np.float64) - self.centre_mm) @ self.rotation.T / self.half_mm
        near = 1 / (_VIEW_DISTANCE - seen[:, 2])
        middle = (side - 1) / 2
        column = middle + seen[:, 0] * near * _FOCAL_LENGTH * side / 2
        row = middle - seen[:, 1] * near * _FOCAL_LENGTH * side / 2
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


class RenderMeshes(NamedTuple):
    """The brain and the merged lesions of a scene, each with its vertex normals; None if there are none."""

    brain: tuple[Mesh, Floats] | None
    lesions: tuple[Mesh, Floats] | None


def fit_camera(scene: Scene, rotation: Floats) -> Camera | None:
    """Return the camera that shows the whole brain and all lesions from one side.

    Parameters
    ----------
    scene : Scene
        The scene.
    rotation : ndarray of float64, shape (3, 3)
        As in :class:`Camera`.

    Returns
    -------
    Camera or None
        None for a scene without any surface.
    """
    if not _list_visible_meshes(scene):
        return None
    low, high = _compute_bounds_mm(scene)
    half_mm = max(_MARGIN * float((high - low).max()) / 2, 1e-3)
    return Camera(np.asarray(rotation, dtype=np.float64), (low + high) / 2, half_mm)


def compute_extent_mm(scene: Scene) -> Floats:
    """Return the size of brain and lesions along L, P and S.

    Parameters
    ----------
    scene : Scene
        A scene with at least one surface.

    Returns
    -------
    ndarray of float64, shape (3,)
        Extent, mm.
    """
    low, high = _compute_bounds_mm(scene)
    return high - low


def prepare_meshes(scene: Scene) -> RenderMeshes:
    """Prepare the meshes that all images of a scene are rendered from."""
    lesions = _merge_meshes(scene.lesions)
    return RenderMeshes(
        None if scene.brain is None else (scene.brain, compute_vertex_normals(scene.brain)),
        None if lesions is None else (lesions, compute_vertex_normals(lesions)),
    )


def render_scene(scene: RenderMeshes, camera: Camera, side: int, smooth: float = 1.5) -> NDArray[np.uint8]:
    """Render the opaque lesions and the translucent brain.

    Parameters
    ----------
    scene : RenderMeshes
        From :func:`prepare_meshes`.
    camera : Camera
        The point of view.
    side : int
        Side of the image, pixels.
    smooth : float, default: 1.5
        Factor by which the image is rendered larger before it is averaged.

    Returns
    -------
    ndarray of uint8, shape (side, side, 3)
        RGB image.
    """
    fine = round(side * smooth)
    pixels = np.empty((fine * fine, 3), np.uint8)
    pixels[:] = BACKGROUND
    nearest = np.zeros(fine * fine, np.float32)
    if scene.lesions is not None:
        layer = rasterize(*scene.lesions, camera, fine)
        pixels[layer.pixel] = _convert_to_bytes(_shade(layer.normals, _LESION_TINT, 0.35))
        nearest[layer.pixel] = layer.near
    if scene.brain is not None:
        layer = rasterize(*scene.brain, camera, fine)
        thin, thick = _BRAIN_OPACITY_ALONE if scene.lesions is None else _BRAIN_OPACITY
        slope = 1 - np.clip(layer.normals[2], 0, 1)
        opacity = thin + (thick - thin) * slope * slope
        opacity *= np.clip(_compute_depth_gap_mm(layer.near, nearest[layer.pixel], camera) / _OPAQUE_DEPTH_MM, 0, 1)
        colour: Image3 = pixels[layer.pixel].astype(np.float32) / np.float32(255)
        colour += (_shade(layer.normals, _BRAIN_TINT, 0.12) - colour) * opacity[:, None]
        pixels[layer.pixel] = _convert_to_bytes(colour)
    image = Image.fromarray(pixels.reshape(fine, fine, 3))
    return np.asarray(image if fine == side else image.resize((side, side), Image.Resampling.BOX))


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
    seen = corners.astype(np.float32).reshape(-1, 9)[triangle]
    near, normals = np.zeros(len(pixel), np.float32), np.zeros((3, len(pixel)), np.float32)
    for corner, share in enumerate(_compute_barycentric(seen.reshape(-1, 3, 3), pixel % side, pixel // side)):
        near += share * seen[:, 3 * corner + 2]
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
    whole = _compute_signed_area(a, b, c)
    # Nearness is a plane over the image: its slopes along columns and rows, and its value at the first pixel.
    along = ((b[:, 2] - a[:, 2]) * (c[:, 1] - a[:, 1]) - (c[:, 2] - a[:, 2]) * (b[:, 1] - a[:, 1])) / whole
    down = ((c[:, 2] - a[:, 2]) * (b[:, 0] - a[:, 0]) - (b[:, 2] - a[:, 2]) * (c[:, 0] - a[:, 0])) / whole
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
    whole = _compute_signed_area(a, b, c)
    of_b, of_c = (
        np.clip(_compute_signed_area(a, points, c) / whole, 0, 1),
        np.clip(_compute_signed_area(a, b, points) / whole, 0, 1),
    )
    return [np.maximum(1 - of_b - of_c, 0), of_b, of_c]


def _compute_signed_area(a: NDArray[Any], b: NDArray[Any], c: NDArray[Any]) -> NDArray[Any]:
    """Return twice the signed area of triangles in the image; each corner is (n, 2 or more)."""
    return np.asarray((b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (c[:, 0] - a[:, 0]) * (b[:, 1] - a[:, 1]))


def compute_vertex_normals(mesh: Mesh) -> Floats:
    """Return the outward normal of each vertex: the sum of the normals of its triangles, weighted by their areas.

    Parameters
    ----------
    mesh : Mesh
        A closed surface.

    Returns
    -------
    ndarray of float64, shape (n, 3)
        Unit vectors, LPS.
    """
    points = mesh.vertices_mm.astype(np.float64)[mesh.faces]
    across = np.cross(points[:, 1] - points[:, 0], points[:, 2] - points[:, 0])
    total = [
        np.bincount(mesh.faces.ravel(), np.repeat(across[:, axis], 3), minlength=len(mesh.vertices_mm))
        for axis in range(3)
    ]
    return np.column_stack(total) / np.maximum(np.linalg.norm(total, axis=0), 1e-12)[:, None]


def _shade(normals: Image3, tint: tuple[float, float, float], shine: float) -> Image3:
    """Return (n, 3), the colour of a surface under two lights, 0 to 1; normals as in :class:`RasterLayer`."""
    right, up, towards = normals
    # Written out: a matrix product would start the threads of the linear algebra library for every frame.
    key, fill, gloss = (np.maximum(right * a + up * b + towards * c, 0) for a, b, c in _LAMPS)
    for _ in range(5):  # to the power of 32; np.power is ten times slower
        gloss = gloss * gloss
    slope = 1 - np.clip(towards, 0, 1)
    light = 0.26 + 0.68 * key + 0.2 * fill + 0.08 * up + 0.12 * slope * slope * slope
    return np.stack([light * np.float32(channel) + np.float32(shine) * gloss for channel in tint], axis=1)


def _convert_to_bytes(colour: Image3) -> NDArray[np.uint8]:
    return np.clip(colour * np.float32(255), 0, 255).astype(np.uint8)


def _compute_length(vectors: Image3) -> NDArray[np.float32]:
    return np.sqrt(vectors[0] * vectors[0] + vectors[1] * vectors[1] + vectors[2] * vectors[2])


def _compute_depth_gap_mm(
    near: NDArray[np.float32], behind: NDArray[np.float32], camera: Camera
) -> NDArray[np.float32]:
    """Return (n,), the depth of a surface in front of another, mm; a large value if there is no other."""
    return np.asarray((1 / np.maximum(behind, 1e-3) - 1 / near) * camera.half_mm, dtype=np.float32)


def _merge_meshes(meshes: tuple[Mesh, ...]) -> Mesh | None:
    """Merge several surfaces; return None if they have no triangles."""
    if not any(len(mesh.faces) for mesh in meshes):
        return None
    offsets = np.cumsum([0] + [len(mesh.vertices_mm) for mesh in meshes[:-1]])
    faces = [mesh.faces + np.int32(count) for mesh, count in zip(meshes, offsets, strict=True)]
    return Mesh(np.concatenate([mesh.vertices_mm for mesh in meshes]), np.concatenate(faces))


def _compute_bounds_mm(scene: Scene) -> tuple[Floats, Floats]:
    points = [mesh.vertices_mm.astype(np.float64) for mesh in _list_visible_meshes(scene)]
    return np.min([p.min(0) for p in points], axis=0), np.max([p.max(0) for p in points], axis=0)


def _list_visible_meshes(scene: Scene) -> list[Mesh]:
    meshes = scene.lesions if scene.brain is None else (scene.brain, *scene.lesions)
    return [mesh for mesh in meshes if len(mesh.faces)]
