"""The three-dimensional scene of a result: closed surfaces of brain, lesions and skull."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Mesh:
    """A closed triangle surface.

    Attributes
    ----------
    vertices_mm : ndarray of float32, shape (n, 3)
        LPS mm.
    faces : ndarray of int32, shape (m, 3)
        Indices into the vertices, counter-clockwise seen from outside.
    """

    vertices_mm: NDArray[np.float32]
    faces: NDArray[np.int32]


@dataclass(frozen=True)
class Scene:
    """The surfaces of one head.

    Attributes
    ----------
    brain : Mesh or None
        Surface of the brain; None if no brain was detected.
    lesions : tuple of Mesh
        ``lesions[i]`` is the surface of the lesion with id ``i + 1``.
    to_scale : bool
        False if the spacing is unknown.
    skull : Mesh, optional
        Surface of the skull; None if it was not requested or no bone was detected.
    """

    brain: Mesh | None
    lesions: tuple[Mesh, ...]
    to_scale: bool
    skull: Mesh | None = None
