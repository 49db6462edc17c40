"""Scan and mask to `Scene`: brain and lesions as closed surfaces. They change the look and never the numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from strokeseg.result import Scene
from strokeseg.scan import Scan
from strokeseg.surface import brain, lesion

__all__ = ["build"]


def build(scan: Scan, labels: NDArray[np.int32]) -> Scene:
    """Make the surfaces of the brain and of every lesion.

    Parameters
    ----------
    scan : the scan; where its spacing is not known everything is drawn at the planes' nominal one
    labels : int32, (slices, rows, columns), 0 is background, 1 to n the lesions' ids

    Returns
    -------
    Scene, LPS mm: the brain, or None where none can be found; ``lesions[i]`` is the lesion with id ``i + 1``, a mesh
    without triangles for an id that no pixel has

    Raises
    ------
    ValueError
        if the shapes differ
    """
    if labels.shape != scan.shape:
        raise ValueError(f"labels are {labels.shape}, the scan is {scan.shape}")
    return Scene(brain.surface(scan, labels), lesion.surfaces(scan, labels), scan.spacing_known)
