"""Check that a surface is a closed solid, as 3D printing and measuring programs require."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from strokeseg.result import Remark
from strokeseg.scene import Mesh, Scene
from strokeseg.surfaces import meshing


@dataclass(frozen=True)
class SolidCheck:
    """Properties of a surface.

    Attributes
    ----------
    triangles : int
        Number of triangles.
    bodies : int
        Number of separate bodies.
    watertight : bool
        Every edge joins an even number of triangles.
    manifold : bool
        Every edge joins exactly two triangles, every vertex a single fan of triangles, and every triangle has an area.
    outward : bool
        All triangles are oriented outwards, and the volume is positive.
    volume_ml : float
        Enclosed volume, ml.
    area_mm2 : float
        Area, mm².
    """

    triangles: int
    bodies: int
    watertight: bool
    manifold: bool
    outward: bool
    volume_ml: float
    area_mm2: float

    @property
    def printable(self) -> bool:
        """Whether 3D printing programs accept the surface without repair."""
        return self.triangles > 0 and self.watertight and self.manifold and self.outward


def check_solid(mesh: Mesh) -> SolidCheck:
    """Check a surface as 3D printing programs do; triangles that intersect each other are not detected.

    Parameters
    ----------
    mesh : Mesh
        The surface, LPS mm.

    Returns
    -------
    SolidCheck
        Properties of the surface.
    """
    if len(mesh.faces) == 0:
        return SolidCheck(0, 0, False, False, False, 0.0, 0.0)
    count = len(mesh.vertices_mm)
    starts, ends = mesh.faces.ravel().astype(np.int64), mesh.faces[:, [1, 2, 0]].ravel().astype(np.int64)
    _, edge, uses = np.unique(
        np.minimum(starts, ends) * count + np.maximum(starts, ends), return_inverse=True, return_counts=True
    )
    forward = np.bincount(edge, starts < ends)
    pairs_only = bool((uses == 2).all())
    corners = mesh.vertices_mm.astype(np.float64)[mesh.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    volume_mm3 = meshing.volume_mm3(mesh)
    joined = coo_array((np.ones(len(starts), bool), (starts, ends)), shape=(count, count))
    _, body = connected_components(joined, directed=False)
    return SolidCheck(
        triangles=len(mesh.faces),
        bodies=len(np.unique(body[starts])),
        watertight=bool((uses % 2 == 0).all()),
        manifold=pairs_only and _has_single_fans(mesh) and bool(np.linalg.norm(across, axis=1).min() > 1e-8),
        outward=bool((2 * forward == uses).all()) and volume_mm3 > 0,
        volume_ml=volume_mm3 / 1000,
        area_mm2=meshing.area_mm2(mesh),
    )


def remark_not_printable(scene: Scene) -> list[Remark]:
    """Create the remark on surfaces that are not printable.

    Parameters
    ----------
    scene : Scene
        The surfaces.

    Returns
    -------
    list of Remark
        One remark, or none if all surfaces are printable.
    """
    surfaces = [("the brain", scene.brain), ("the skull", scene.skull)]
    surfaces += [(f"lesion {number}", mesh) for number, mesh in enumerate(scene.lesions, 1)]
    unprintable = [
        name for name, mesh in surfaces if mesh is not None and len(mesh.faces) and not check_solid(mesh).printable
    ]
    if not unprintable:
        return []
    message = (
        f"Not a closed solid: the surface of {', '.join(unprintable)}. 3D printing needs a repair of this surface."
    )
    return [Remark(code="not-printable", severity="warning", message=message)]


def _has_single_fans(mesh: Mesh) -> bool:
    """Return whether the triangles around every vertex are connected by edges, unlike cones that touch at tips."""
    corners = mesh.faces.astype(np.int64)
    # Around a vertex, every triangle connects two neighbours. The neighbours of a single fan are all connected.
    centre = corners.ravel()
    first, second = corners[:, [1, 2, 0]].ravel(), corners[:, [2, 0, 1]].ravel()
    count = len(mesh.vertices_mm)
    keys, key_indices = np.unique(
        np.concatenate([centre * count + first, centre * count + second]), return_inverse=True
    )
    starts, ends = np.split(key_indices, 2)
    joined = coo_array((np.ones(len(starts), bool), (starts, ends)), shape=(len(keys), len(keys)))
    fans, _ = connected_components(joined, directed=False)
    return bool(fans == len(np.unique(centre)))
