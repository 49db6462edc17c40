"""How far a place is from the skull's inner surface, its inner table."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from strokeseg.measure.head import Head
from strokeseg.measure.shell import follow
from strokeseg.scan import Floats

# The points lie about 5 mm apart; what is further aside of the nearest one lies at a hole in the skull, mm.
_ASIDE_MM = 10.0


@dataclass(frozen=True)
class Table:
    """Points on the inner table.

    They are looked for in the slices' own planes, so that the two ends of a scan that is cut off are no surface.

    Parameters
    ----------
    places_mm : (n, 3), LPS mm
    normals : (n, 3), unit vectors, outwards; 0 where none is known
    """

    places_mm: Floats
    normals: Floats

    @classmethod
    def of(cls, head: Head) -> Table:
        """Take bone where a ring of it is seen, and the brain's edge on the smaller slices below and above."""
        shell = follow(head)
        places, normals = np.zeros((0, 3)), np.zeros((0, 3))
        edges = np.zeros_like(head.brain)
        rest = np.flatnonzero(head.brain.any((1, 2)))
        if shell is not None:
            places, normals = shell.places_mm[shell.bony], shell.normals[shell.bony]
            rest = np.setdiff1d(rest, shell.samples)
        for index in rest:
            edges[index] = head.brain[index] & ~ndimage.binary_erosion(head.brain[index])
        # Every second one is about as dense as the others.
        slices, rows, columns = np.nonzero(edges)
        step = head.samples.pixel_step
        at = np.column_stack([head.slices[slices], rows * step + (step - 1) / 2, columns * step + (step - 1) / 2])[::2]
        further = head.scan.planes.to_lps_mm(at) if len(at) else np.zeros((0, 3))
        return cls(np.concatenate([places, further]), np.concatenate([normals, np.zeros_like(further)]))

    def distance_mm(self, places_mm: Floats) -> Floats:
        """Give how far inside of the inner table places lie, mm, negative outside of it.

        Infinite where the table next to a place is not seen: a hole in the skull has none.

        Parameters
        ----------
        places_mm : (n, 3), LPS mm

        Returns
        -------
        (n,)
        """
        if not len(self.places_mm):
            return np.full(len(places_mm), np.inf)
        apart, nearest = self._tree.query(places_mm)
        normals = self.normals[nearest]
        along = ((self.places_mm[nearest] - places_mm) * normals).sum(1)
        aside = np.sqrt(np.clip(apart**2 - along**2, 0, None))
        return np.where(normals.any(1), np.where(aside < _ASIDE_MM, along, np.inf), apart)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.places_mm)
