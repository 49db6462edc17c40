"""Scan and mask to `Scene`: brain and lesions as closed surfaces. They change the look and never the numbers."""

from __future__ import annotations

from strokeseg.imaging.components import Labels
from strokeseg.scan import Scan
from strokeseg.scene import Scene
from strokeseg.surfaces import brain, lesions
from strokeseg.surfaces import skull as bone
from strokeseg.surfaces.solidity import SolidCheck, check_solid, remark_not_printable

__all__ = ["SolidCheck", "build_scene", "check_solid", "remark_not_printable"]


def build_scene(scan: Scan, labels: Labels, *, skull: bool = False) -> Scene:
    """Make the surfaces of the brain, of every lesion and, where asked for, of the skull.

    Parameters
    ----------
    scan : Scan
        The scan; where its spacing is not known everything is drawn at the planes' nominal one.
    labels : Labels
        (slices, rows, columns), 0 is background, 1 to n the lesions' ids.
    skull : bool, default: False
        Also draw the skull.

    Returns
    -------
    Scene
        Scene, LPS mm: brain and skull are None where none can be found; ``lesions[i]`` is the lesion with id ``i +
        1``, a mesh without triangles for an id that no pixel has.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if labels.shape != scan.shape:
        raise ValueError(f"labels are {labels.shape}, the scan is {scan.shape}")
    return Scene(
        brain.build_brain(scan, labels),
        lesions.build_lesions(scan, labels),
        scan.spacing_known,
        bone.build_skull(scan, labels) if skull else None,
    )
