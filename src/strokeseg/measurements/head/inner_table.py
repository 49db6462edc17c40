"""How far a place is from the skull's inner surface, its inner table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.measurements.head.inner_skull import trace_inner_skull
from strokeseg.scan import Floats

# The points lie about 5 mm apart; what is further aside of the nearest one lies at a hole in the skull, mm.
_MAX_LATERAL_MM = 10.0


@dataclass(frozen=True)
class InnerTable:
    """Points on the inner table.

    They are looked for in the slices' own planes, so that the two ends of a scan that is cut off are no surface.

    Parameters
    ----------
    places_mm : object
        (n, 3), LPS mm.
    normals : Floats
        (n, 3), unit vectors, outwards; 0 where none is known.
    """

    points_mm: Floats
    normals: Floats

    @classmethod
    def from_head(cls, head: CoarseHead) -> InnerTable:
        """Take bone where a ring of it is seen, and the brain's edge on the smaller slices below and above."""
        shell = trace_inner_skull(head)
        places, normals = np.zeros((0, 3)), np.zeros((0, 3))
        edges = np.zeros_like(head.brain)
        rest = np.flatnonzero(head.brain.any((1, 2)))
        if shell is not None:
            places, normals = shell.points_mm[shell.on_bone], shell.normals[shell.on_bone]
            rest = np.setdiff1d(rest, shell.sample_slices)
        for index in rest:
            edges[index] = head.brain[index] & ~ndimage.binary_erosion(head.brain[index])
        # Every second one is about as dense as the others.
        slices, rows, columns = np.nonzero(edges)
        step = head.samples.pixel_step
        at = np.column_stack([head.slices[slices], rows * step + (step - 1) / 2, columns * step + (step - 1) / 2])[::2]
        further = head.scan.planes.to_lps_mm(at) if len(at) else np.zeros((0, 3))
        return cls(np.concatenate([places, further]), np.concatenate([normals, np.zeros_like(further)]))

    def distance_mm(self, places_mm: Floats) -> Floats:
        """Return how far inside of the inner table places lie, mm, negative outside of it.

        Infinite where the table next to a place is not seen: a hole in the skull has none.

        Parameters
        ----------
        places_mm : Floats
            (n, 3), LPS mm.

        Returns
        -------
        Floats
            (n,).
        """
        if not len(self.points_mm):
            return np.full(len(places_mm), np.inf)
        apart, nearest = self._tree.query(places_mm)
        normals = self.normals[nearest]
        along = ((self.points_mm[nearest] - places_mm) * normals).sum(1)
        aside = np.sqrt(np.clip(apart**2 - along**2, 0, None))
        return np.where(normals.any(1), np.where(aside < _MAX_LATERAL_MM, along, np.inf), apart)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.points_mm)
