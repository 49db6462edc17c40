"""From a stack of masks to a closed triangle surface: distances, interpolation, marching cubes, fewer triangles.

The stack's own coordinates are (u, row, column): u counts its slices, and a slice reaches from u - 0.5 to u + 0.5. Only
the last step maps them to LPS mm, so tilt and uneven spacing need no care before it.
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


def signed_distances_mm(mask: Mask, spacing_mm: tuple[float, float], most_mm: float) -> Field:
    """Return every pixel's distance to the outline on its own slice, above zero inside.

    The outline runs half-way between the centres of the pixels inside and outside.

    Parameters
    ----------
    mask : ndarray of bool, shape (slices, rows, columns)
        Its outermost rows and columns must be empty.
    spacing_mm : tuple of (float, float)
        (between rows, between columns).
    most_mm : float
        Larger distances, and those of an empty slice, are cut to this.
    """
    half = (spacing_mm[0] * spacing_mm[1]) ** 0.5 / 2
    out = np.full(mask.shape, -most_mm, dtype=np.float32)
    for index in np.flatnonzero(mask.any((1, 2))):
        inside = ndimage.distance_transform_edt(mask[index], sampling=spacing_mm)
        outside = ndimage.distance_transform_edt(~mask[index], sampling=spacing_mm)
        out[index] = np.where(mask[index], inside - half, half - outside)
    return np.clip(out, -most_mm, most_mm)


def interpolate_slices(distances: Field, parts: int, sigma_px: float, sigma_slices: float) -> tuple[Field, Floats]:
    """Interpolate the shape between slices and smooth it.

    Distances, and not masks, are interpolated linearly (shape-based interpolation), so that an outline moves steadily
    from slice to slice instead of in steps.

    Parameters
    ----------
    distances : Field
        (slices, rows, columns), from :func:`distances_mm`.
    parts : int
        Samples a slice.
    sigma_px, sigma_slices : float
        Of the Gaussian in the plane and along the stack.

    Returns
    -------
    tuple of (Field, Floats)
        Float32 (samples, rows, columns), and (samples,) the u of every sample; they reach about a slice past the
        centres of the end slices, which they repeat there.

    References
    ----------
    Raya SP, Udupa JK. Shape-based interpolation of multidimensional objects. IEEE Trans Med Imaging 1990;9:32-42.
    """
    count = len(distances)
    extra = 1 + parts // 2
    places = -0.5 + (0.5 - extra + np.arange(count * parts + 2 * extra)) / parts
    held = np.clip(places, 0, count - 1)
    low = np.clip(held.astype(int), 0, max(count - 2, 0))
    part = (held - low).astype(np.float32)[:, None, None]
    field = distances[low] * (1 - part) + distances[np.minimum(low + 1, count - 1)] * part
    sigma = (sigma_slices * parts if count > 1 else 0.0, sigma_px, sigma_px)
    return ndimage.gaussian_filter(field, sigma, mode="nearest", truncate=2.5), places


def close_ends(
    field: Field, places: Floats, step_mm: tuple[float, float], rounding_mm: tuple[float, float] = (0.0, 0.0)
) -> Field:
    """End the shape half a slice below its first and above its last slice; pairs of parameters are (below, above).

    Parameters
    ----------
    field, places : Field
        From :func:`between_slices`.
    step_mm : tuple of (float, float)
        Length of one slice.
    rounding_mm : tuple of (float, float), default: (0.0, 0.0)
        From this distance to the outline on, the end is flat; nearer, it is rounded off along a parabola; 0 is a flat
        cut.
    """
    closed = field.copy()
    last = places[0] + places[-1]
    for past, step, rounding in zip((-places, places - last), step_mm, rounding_mm, strict=True):
        for index in np.flatnonzero(past > 0):
            share: Field | float = 1.0
            if rounding > 0:
                share = 1 - (1 - np.clip(field[index] / rounding, 0, 1)) ** 2
            closed[index] = np.minimum(closed[index], (0.5 * share - past[index]) * step)
    return closed


def extract_isosurface(field: Field, level: float, to_lps: ToLps) -> Mesh:
    """Draw the surface at which a field passes a level, by marching cubes.

    Parameters
    ----------
    field : Field
        Above the level inside; its outermost samples count as outside.
    level : float
        Of the surface.
    to_lps : ToLps
        Maps (n, 3) array indices of ``field`` to LPS mm.

    Returns
    -------
    Mesh
        Mesh, outward; without triangles if nothing is above the level.
    """
    # A sample right on the level would make triangles without area, one above it at the edge a hole.
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
    """Turn all triangles over if their volume is below zero."""
    if volume_mm3(mesh) >= 0:
        return mesh
    return Mesh(mesh.vertices_mm, np.ascontiguousarray(mesh.faces[:, ::-1]))


def volume_mm3(mesh: Mesh) -> float:
    """Return the volume that a closed surface encloses (divergence theorem), mm³; below zero if it is inside out."""
    if len(mesh.faces) == 0:
        return 0.0
    corners = (mesh.vertices_mm - mesh.vertices_mm.mean(axis=0)).astype(np.float64)[mesh.faces]
    return float(np.einsum("ij,ij->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6)


def is_watertight(mesh: Mesh) -> bool:
    """Return whether every edge joins exactly two triangles of the same orientation, and every triangle has an area."""
    edges = mesh.faces[:, [0, 1, 1, 2, 2, 0]].reshape(-1, 2).astype(np.int64)
    count = len(mesh.vertices_mm)
    there, back = np.sort(edges @ [count, 1]), np.sort(edges @ [1, count])
    paired = bool(np.all(np.diff(there) > 0) and np.array_equal(there, back))
    corners = mesh.vertices_mm.astype(np.float64)[mesh.faces]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return paired and bool(np.all(np.einsum("ij,ij->i", areas, areas) > 1e-16))


def decimate(mesh: Mesh, triangles: int) -> Mesh:
    """Leave out triangles where the surface is flattest (quadric error), and keep the surface closed.

    Decimation pinches sheets together at single edges; these are parted again. Where that does not help, it is tried in
    other steps and with more triangles left. At last the mesh is given back as it was.
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
    """Part sheets that touch in an edge or a vertex, and take out pairs of triangles that lie back to back.

    At an edge of four triangles, every one that runs along it is joined to one that runs back; each corner's vertex
    then belongs to one fan of triangles. The points stay where they are.
    """
    faces = mesh.faces
    ordered = np.sort(faces, axis=1)
    even = np.where((np.roll(ordered, 1, 1) == faces).all(1) | (np.roll(ordered, 2, 1) == faces).all(1), 1, -1)
    even[(ordered == faces).all(1)] = 1
    _, group = np.unique(ordered, axis=0, return_inverse=True)
    faces = faces[np.bincount(group, even)[group] != 0]
    starts, ends = faces.ravel().astype(np.int64), faces[:, [1, 2, 0]].ravel().astype(np.int64)
    keys = np.minimum(starts, ends) * len(mesh.vertices_mm) + np.maximum(starts, ends)
    there, back = np.flatnonzero(starts < ends), np.flatnonzero(starts > ends)
    there, back = (half[np.argsort(keys[half], kind="stable")] for half in (there, back))
    if not np.array_equal(keys[there], keys[back]):
        return mesh
    # A corner is known by the half-edge that starts there.
    following = np.arange(len(starts)).reshape(-1, 3)[:, [1, 2, 0]].ravel()
    one, other = np.concatenate([there, following[there]]), np.concatenate([following[back], back])
    joined = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(starts), len(starts)))
    _, vertex = connected_components(joined, directed=False)
    _, first = np.unique(vertex, return_index=True)
    return Mesh(mesh.vertices_mm[starts[first]], vertex.reshape(-1, 3).astype(np.int32))


def area_mm2(mesh: Mesh) -> float:
    """Return the surface's area, mm²."""
    corners = mesh.vertices_mm.astype(np.float64)[mesh.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    return float(np.linalg.norm(across, axis=1).sum() / 2)


def adjust_volume(mesh: Mesh, target_mm3: float) -> Mesh:
    """Move the surface along its normals, everywhere by the same length, until it encloses a volume.

    Parameters
    ----------
    mesh : Mesh
        Closed and outward.
    target_mm3 : float
        Above zero.
    """
    points = mesh.vertices_mm.astype(np.float64)
    for _ in range(8):
        missing = target_mm3 - volume_mm3(Mesh(points.astype(np.float32), mesh.faces))
        if abs(missing) < 1e-4 * target_mm3:
            break
        corners = points[mesh.faces]
        across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        # The volume's gradient at a vertex: a sixth of the doubled areas around it, along the normal.
        gradient = np.zeros_like(points)
        for axis in range(3):
            around = np.bincount(mesh.faces.ravel(), np.repeat(across[:, axis], 3), minlength=len(points))
            gradient[:, axis] = around / 6
        lengths = np.linalg.norm(gradient, axis=1)
        normals = gradient / np.maximum(lengths, 1e-12)[:, None]
        points = points + normals * (missing / lengths.sum())
    return Mesh(points.astype(np.float32), mesh.faces)
