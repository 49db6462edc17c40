"""Closed surfaces of brain, lesions and skull for the 3D scene; no measurement depends on them."""

from __future__ import annotations

from strokeseg.imaging.components import Labels
from strokeseg.scan import Scan
from strokeseg.scene import Scene
from strokeseg.surfaces.brain import build_brain
from strokeseg.surfaces.lesions import build_lesions
from strokeseg.surfaces.skull import build_skull
from strokeseg.surfaces.solidity import SolidCheck, check_solid, remark_not_printable

__all__ = ["SolidCheck", "build_scene", "check_solid", "remark_not_printable"]


def build_scene(scan: Scan, labels: Labels, *, skull: bool = False) -> Scene:
    """Build the surfaces of the brain, of each lesion and optionally of the skull.

    Parameters
    ----------
    scan : Scan
        The scan; if its spacing is unknown, the nominal spacing of the planes is used.
    labels : ndarray of int, shape (slices, rows, columns)
        Lesions, numbered by id 1 to n; 0 is background.
    skull : bool, default: False
        Also build the skull.

    Returns
    -------
    Scene
        Meshes, LPS mm. Brain and skull are None if not detected. ``lesions[i]`` is the lesion with id ``i + 1``, a mesh
        without triangles for an id without pixels.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if labels.shape != scan.shape:
        raise ValueError(f"the labels have shape {labels.shape}, the scan {scan.shape}")
    return Scene(
        build_brain(scan, labels),
        build_lesions(scan, labels),
        scan.spacing_known,
        build_skull(scan, labels) if skull else None,
    )
