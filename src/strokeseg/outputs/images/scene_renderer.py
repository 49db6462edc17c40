"""Rendering of the 3D scene in software, with a z-buffer in NumPy: no display, graphics card or package is needed.

Light, translucency and perspective match those of the report's 3D viewer (report/templates/scene.js).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strokeseg.outputs.images.rasterizer import Camera, Image3, rasterize
from strokeseg.scan import Floats
from strokeseg.scene import Mesh, Scene

BACKGROUND = (12, 16, 22)

_MARGIN = 1.12
# Unit vectors to the key light and the fill light, and halfway between the key light and the viewer (for highlights).
_LAMPS = np.array([(-0.45, 0.7, 0.75), (0.8, -0.1, 0.45), (-0.454, 0.706, 1.887)], np.float32)
_LAMPS /= np.linalg.norm(_LAMPS, axis=1, keepdims=True)
_LESION_TINT, _BRAIN_TINT = (0.93, 0.16, 0.14), (0.90, 0.95, 1.0)
# Opacity of the brain seen head-on and at its rim; without lesions nothing needs to show through.
_BRAIN_OPACITY, _BRAIN_OPACITY_ALONE = (0.24, 0.78), (0.6, 0.9)
# Lesions along the surface of the brain cross it repeatedly: the brain reaches its full opacity this far in front.
_OPAQUE_DEPTH_MM = 5.0


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
        As in :class:`strokeseg.outputs.images.rasterizer.Camera`.

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
    """Return (n, 3), the colour of a surface under two lights, 0 to 1; normals as in a raster layer."""
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
