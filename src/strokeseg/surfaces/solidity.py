"""What a printer or a measuring program asks of a surface: is it a solid?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from strokeseg.result import Remark
from strokeseg.scene import Mesh, Scene
from strokeseg.surfaces import meshing as surfaces


@dataclass(frozen=True)
class SolidCheck:
    """What is true of a surface.

    Parameters
    ----------
    triangles : int
        How many.
    components : object
        How many bodies apart from each other.
    watertight : bool
        Every edge joins an even number of triangles, none is open.
    manifold : bool
        Every edge joins just two triangles, every vertex one fan of them, and every triangle has an area.
    outward : bool
        The triangles of every edge run the same way round, and the volume is above zero.
    volume_ml : float
        What it encloses.
    area_mm2 : float
        Of the surface.
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
        """Whether a program for 3D printing takes it as a solid without mending it."""
        return self.triangles > 0 and self.watertight and self.manifold and self.outward


def check_solid(mesh: Mesh) -> SolidCheck:
    """Look at a surface as a program for 3D printing does.

    It does not look for triangles that cut each other.

    Parameters
    ----------
    mesh : Mesh
        LPS mm.
    """
    if len(mesh.faces) == 0:
        return SolidCheck(0, 0, False, False, False, 0.0, 0.0)
    count = len(mesh.vertices_mm)
    starts, ends = mesh.faces.ravel().astype(np.int64), mesh.faces[:, [1, 2, 0]].ravel().astype(np.int64)
    _, edge, uses = np.unique(
        np.minimum(starts, ends) * count + np.maximum(starts, ends), return_inverse=True, return_counts=True
    )
    forward = np.bincount(edge, starts < ends)
    two = bool((uses == 2).all())
    corners = mesh.vertices_mm.astype(np.float64)[mesh.faces]
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    volume_mm3 = surfaces.volume_mm3(mesh)
    joined = coo_array((np.ones(len(starts), bool), (starts, ends)), shape=(count, count))
    _, body = connected_components(joined, directed=False)
    return SolidCheck(
        triangles=len(mesh.faces),
        bodies=len(np.unique(body[starts])),
        watertight=bool((uses % 2 == 0).all()),
        manifold=two and _has_single_fans(mesh) and bool(np.linalg.norm(across, axis=1).min() > 1e-8),
        outward=bool((2 * forward == uses).all()) and volume_mm3 > 0,
        volume_ml=volume_mm3 / 1000,
        area_mm2=surfaces.area_mm2(mesh),
    )


def remark_not_printable(scene: Scene) -> list[Remark]:
    """Say which surfaces a program for 3D printing would have to mend; nothing where there is none."""
    parts = [("the brain", scene.brain), ("the skull", scene.skull)]
    parts += [(f"lesion {number}", mesh) for number, mesh in enumerate(scene.lesions, 1)]
    faulty = [name for name, mesh in parts if mesh is not None and len(mesh.faces) and not check_solid(mesh).printable]
    if not faulty:
        return []
    message = f"Not a closed solid: the surface of {', '.join(faulty)}. A program for 3D printing has to mend it."
    return [Remark(code="not-printable", severity="warning", message=message)]


def _has_single_fans(mesh: Mesh) -> bool:
    """Return whether the triangles around every vertex hang together by their edges: no two cones tip to tip."""
    corners = mesh.faces.astype(np.int64)
    # Around a vertex, every triangle leads from one neighbour to another. One fan: the neighbours hang together.
    middle = corners.ravel()
    leads, to = corners[:, [1, 2, 0]].ravel(), corners[:, [2, 0, 1]].ravel()
    count = len(mesh.vertices_mm)
    keys, place = np.unique(np.concatenate([middle * count + leads, middle * count + to]), return_inverse=True)
    one, other = np.split(place, 2)
    joined = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(keys), len(keys)))
    fans, _ = connected_components(joined, directed=False)
    return bool(fans == len(np.unique(middle)))
