"""From a stack of masks to a closed triangle mesh: distances, interpolation, marching cubes, decimation.

The coordinates of the stack are (u, row, column): u counts slices, and a slice extends from u - 0.5 to u + 0.5. Only
the last step maps them to LPS mm, so that earlier steps do not depend on tilt and uneven spacing.
"""

from __future__ import annotations

from collections.abc import Callable

import fast_simplification
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from skimage.measure import marching_cubes

from strokeseg.scan import Floats
from strokeseg.scene import Mesh

Mask = NDArray[np.bool_]
Field = NDArray[np.float32]
ToLps = Callable[[Floats], Floats]

EMPTY_MESH = Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))


def signed_distances_mm(mask: Mask, spacing_mm: tuple[float, float], max_mm: float) -> Field:
    """Compute each pixel's signed distance to the outline on its own slice, positive inside.

    The outline runs midway between the centres of pixels inside and outside.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask; its outermost rows and columns must be empty.
    spacing_mm : tuple of (float, float)
        Pixel spacing (between rows, between columns), mm.
    max_mm : float
        Larger distances, and those of an empty slice, are clipped to this value, mm.

    Returns
    -------
    ndarray of float32, shape (slices, rows, columns)
        Distances, mm.
    """
    half = (spacing_mm[0] * spacing_mm[1]) ** 0.5 / 2
    distances = np.full(mask.shape, -max_mm, dtype=np.float32)
    for index in np.flatnonzero(mask.any((1, 2))):
        inside = ndimage.distance_transform_edt(mask[index], sampling=spacing_mm)
        outside = ndimage.distance_transform_edt(~mask[index], sampling=spacing_mm)
        distances[index] = np.where(mask[index], inside - half, half - outside)
    return np.clip(distances, -max_mm, max_mm)


def interpolate_slices(distances: Field, parts: int, sigma_px: float, sigma_slices: float) -> tuple[Field, Floats]:
    """Interpolate the shape between slices and smooth it.

    Linear interpolation of distances instead of masks (shape-based interpolation) moves the outline smoothly from slice
    to slice.

    Parameters
    ----------
    distances : ndarray of float32, shape (slices, rows, columns)
        Result of :func:`signed_distances_mm`.
    parts : int
        Number of samples in a slice.
    sigma_px, sigma_slices : float
        Standard deviations of the Gaussian filter in the plane, pixels, and along the stack, slices.

    Returns
    -------
    tuple of (ndarray of float32, ndarray of float)
        Field, shape (samples, rows, columns), and u of each sample, shape (samples,). The samples extend about one
        slice beyond the centres of the end slices, which are repeated there.

    References
    ----------
    Raya SP, Udupa JK. Shape-based interpolation of multidimensional objects. IEEE Trans Med Imaging 1990;9:32-42.
    """
    count = len(distances)
    extra = 1 + parts // 2
    positions = -0.5 + (0.5 - extra + np.arange(count * parts + 2 * extra)) / parts
    clipped = np.clip(positions, 0, count - 1)
    low = np.clip(clipped.astype(int), 0, max(count - 2, 0))
    fraction = (clipped - low).astype(np.float32)[:, None, None]
    field = distances[low] * (1 - fraction) + distances[np.minimum(low + 1, count - 1)] * fraction
    sigma = (sigma_slices * parts if count > 1 else 0.0, sigma_px, sigma_px)
    return ndimage.gaussian_filter(field, sigma, mode="nearest", truncate=2.5), positions


def close_ends(
    field: Field, positions: Floats, step_mm: tuple[float, float], rounding_mm: tuple[float, float] = (0.0, 0.0)
) -> Field:
    """Close the shape half a slice below its first and above its last slice; pairs of values are (below, above).

    Parameters
    ----------
    field : ndarray of float32, shape (samples, rows, columns)
        Field from :func:`interpolate_slices`.
    positions : ndarray of float, shape (samples,)
        Positions from :func:`interpolate_slices`.
    step_mm : tuple of (float, float)
        Length of one slice, mm.
    rounding_mm : tuple of (float, float), default: (0.0, 0.0)
        The end is flat beyond this distance from the outline and follows a parabola nearer to it, mm; 0 gives a flat
        cut.

    Returns
    -------
    ndarray of float32, shape (samples, rows, columns)
        The closed field.
    """
    closed = field.copy()
    last = positions[0] + positions[-1]
    for beyond, step, rounding in zip((-positions, positions - last), step_mm, rounding_mm, strict=True):
        for index in np.flatnonzero(beyond > 0):
            share: Field | float = 1.0
            if rounding > 0:
                share = 1 - (1 - np.clip(field[index] / rounding, 0, 1)) ** 2
            closed[index] = np.minimum(closed[index], (0.5 * share - beyond[index]) * step)
    return closed


def extract_isosurface(field: Field, level: float, to_lps: ToLps) -> Mesh:
    """Extract the surface at which a field crosses a level, by marching cubes.

    Parameters
    ----------
    field : ndarray of float32, shape (samples, rows, columns)
        Field, above the level inside; its outermost samples count as outside.
    level : float
        Level of the surface.
    to_lps : callable
        Function that maps array indices of ``field``, shape (n, 3), to LPS mm.

    Returns
    -------
    Mesh
        The surface, oriented outwards; without triangles if no sample is above the level.
    """
    # A sample exactly on the level gives triangles without area; a sample above it at the edge gives a hole.
    near = np.abs(field - level) < 1e-4
    field = np.where(near, np.where(field > level, level + 1e-4, level - 1e-4), field).astype(np.float32)
    edge = np.ones(field.shape, dtype=bool)
    edge[1:-1, 1:-1, 1:-1] = False
    field[edge] = np.minimum(field[edge], level - 1e-2)
    if not field.max() > level:
        return EMPTY_MESH
    vertices, faces, _, _ = marching_cubes(field, level)  # type: ignore[no-untyped-call]
    return orient_outward(Mesh(to_lps(vertices.astype(np.float64)).astype(np.float32), faces.astype(np.int32)))


def orient_outward(mesh: Mesh) -> Mesh:
    """Reverse all triangles if their volume is negative.

    Parameters
    ----------
    mesh : Mesh
        A closed surface.

    Returns
    -------
    Mesh
        The surface, oriented outwards.
    """
    if volume_mm3(mesh) >= 0:
        return mesh
    return Mesh(mesh.vertices_mm, np.ascontiguousarray(mesh.faces[:, ::-1]))


def volume_mm3(mesh: Mesh) -> float:
    """Volume that a closed surface encloses (divergence theorem).

    Parameters
    ----------
    mesh : Mesh
        A closed surface.

    Returns
    -------
    float
        Volume, mm³; negative if the surface is inside out.
    """
    if len(mesh.faces) == 0:
        return 0.0
    corners = (mesh.vertices_mm - mesh.vertices_mm.mean(axis=0)).astype(np.float64)[mesh.faces]
    return float(np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6)


def is_watertight(mesh: Mesh) -> bool:
    """Return whether every edge joins two triangles of the same orientation, and every triangle has an area.

    Parameters
    ----------
    mesh : Mesh
        The surface.

    Returns
    -------
    bool
        True if the surface is closed.
    """
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
    count = len(mesh.vertices_mm)
    forward, backward = np.sort(edges @ [count, 1]), np.sort(edges @ [1, count])
    paired = bool(np.all(np.diff(forward) > 0) and np.array_equal(forward, backward))
    corners = mesh.vertices_mm.astype(np.float64)[mesh.faces]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return paired and bool(np.all(np.einsum("ij,ij->i", areas, areas) > 1e-16))


def decimate(mesh: Mesh, triangles: int) -> Mesh:
    """Remove triangles where the surface is flattest (quadric error), and keep the surface closed.

    Decimation may connect sheets at single edges, which are separated again. If that fails, other step sizes and more
    triangles are tried. If all attempts fail, the mesh is returned unchanged.

    Parameters
    ----------
    mesh : Mesh
        A closed surface.
    triangles : int
        Target number of triangles.

    Returns
    -------
    Mesh
        The decimated surface.
    """
    for target in (triangles, 5 * triangles // 4, 8 * triangles // 5, 3 * triangles):
        for aggressiveness in (7, 5):
            if len(mesh.faces) <= target:
                return mesh
            vertices, faces = fast_simplification.simplify(
                mesh.vertices_mm, mesh.faces, target_count=target, agg=aggressiveness
            )
            simpler = separate_sheets(Mesh(vertices.astype(np.float32), faces.astype(np.int32)))
            if is_watertight(simpler):
                return orient_outward(simpler)
    return mesh


def separate_sheets(mesh: Mesh) -> Mesh:
    """Separate sheets that touch at an edge or a vertex, and remove pairs of triangles that lie back to back.

    At an edge of four triangles, each triangle along the edge is joined to one in the opposite direction. Each vertex
    then belongs to a single fan of triangles. Points do not move.

    Parameters
    ----------
    mesh : Mesh
        The surface.

    Returns
    -------
    Mesh
        The surface with separate sheets, or the same surface if edges cannot be paired.
    """
    faces = mesh.faces
    ordered = np.sort(faces, axis=1)
    even = np.where((np.roll(ordered, 1, 1) == faces).all(1) | (np.roll(ordered, 2, 1) == faces).all(1), 1, -1)
    even[(ordered == faces).all(1)] = 1
    _, group = np.unique(ordered, axis=0, return_inverse=True)
    faces = faces[np.bincount(group, even)[group] != 0]
    starts, ends = faces.ravel().astype(np.int64), faces[:, [1, 2, 0]].ravel().astype(np.int64)
    keys = np.minimum(starts, ends) * len(mesh.vertices_mm) + np.maximum(starts, ends)
    forward, backward = np.flatnonzero(starts < ends), np.flatnonzero(starts > ends)
    forward, backward = (half[np.argsort(keys[half], kind="stable")] for half in (forward, backward))
    if not np.array_equal(keys[forward], keys[backward]):
        return mesh
    # The index of a half-edge also identifies the corner where it starts.
    following = np.arange(len(starts)).reshape(-1, 3)[:, [1, 2, 0]].ravel()
    corners, partners = np.concatenate([forward, following[forward]]), np.concatenate([following[backward], backward])
    joined = coo_array((np.ones(len(corners), bool), (corners, partners)), shape=(len(starts), len(starts)))
    _, vertex = connected_components(joined, directed=False)
    _, first = np.unique(vertex, return_index=True)
    return Mesh(mesh.vertices_mm[starts[first]], vertex.reshape(-1, 3).astype(np.int32))


def area_mm2(mesh: Mesh) -> float:
    """Area of a surface.

    Parameters
    ----------
    mesh : Mesh
        The surface.

    Returns
    -------
    float
        Area, mm².
    """
    corners = mesh.vertices_mm.astype(np.float64)[mesh.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(np.linalg.norm(across, axis=1).sum() / 2)


def adjust_volume(mesh: Mesh, target_mm3: float) -> Mesh:
    """Move a surface along its normals, uniformly, until it encloses a given volume.

    Parameters
    ----------
    mesh : Mesh
        A closed surface, oriented outwards.
    target_mm3 : float
        Volume, mm³, positive.

    Returns
    -------
    Mesh
        The moved surface.
    """
    points = mesh.vertices_mm.astype(np.float64)
    for _ in range(8):
        missing = target_mm3 - volume_mm3(Mesh(points.astype(np.float32), mesh.faces))
        if abs(missing) < 1e-4 * target_mm3:
            break
        corners = points[mesh.faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        # The gradient of the volume at a vertex is a sixth of the doubled areas around it, along the normal.
        gradient = np.zeros_like(points)
        for axis in range(3):
            around = np.bincount(mesh.faces.ravel(), np.repeat(across[:, axis], 3), minlength=len(points))
            gradient[:, axis] = around / 6
        lengths = np.linalg.norm(gradient, axis=1)
        normals = gradient / np.maximum(lengths, 1e-12)[:, None]
        points = points + normals * (missing / lengths.sum())
    return Mesh(points.astype(np.float32), mesh.faces)
