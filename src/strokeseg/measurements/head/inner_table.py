"""Distance from the inner table, the inner surface of the skull."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import ndimage
from scipy.spatial import cKDTree

from strokeseg.measurements.head.coarse_head import CoarseHead
from strokeseg.measurements.head.inner_skull import trace_inner_skull
from strokeseg.scan import Floats

# The points are about 5 mm apart. A position further beside the nearest point lies at a hole in the skull, mm.
_MAX_LATERAL_MM = 10.0


@dataclass(frozen=True)
class InnerTable:
    """Points on the inner table.

    The points are detected within slices, so that the ends of a truncated scan do not count as surface.

    Attributes
    ----------
    points_mm : ndarray of float, shape (n, 3)
        Points, LPS mm.
    normals : ndarray of float, shape (n, 3)
        Outward unit normals; 0 if unknown.
    """

    points_mm: Floats
    normals: Floats

    @classmethod
    def from_head(cls, head: CoarseHead) -> InnerTable:
        """Collect points on bone, and on the edge of the brain for slices without a ring of bone.

        Parameters
        ----------
        head : CoarseHead
            The head.

        Returns
        -------
        InnerTable
            The points.
        """
        skull = trace_inner_skull(head)
        points, normals = np.zeros((0, 3)), np.zeros((0, 3))
        edges = np.zeros_like(head.brain)
        other_slices = np.flatnonzero(head.brain.any((1, 2)))
        if skull is not None:
            points, normals = skull.points_mm[skull.on_bone], skull.normals[skull.on_bone]
            other_slices = np.setdiff1d(other_slices, skull.sample_slices)
        for index in other_slices:
            edges[index] = head.brain[index] & ~ndimage.binary_erosion(head.brain[index])
        # Every second point gives about the density of the points on bone.
        slices, rows, columns = np.nonzero(edges)
        step = head.samples.pixel_step
        indices = np.column_stack([head.slices[slices], rows * step + (step - 1) / 2, columns * step + (step - 1) / 2])[
            ::2
        ]
        edge_points = head.scan.planes.to_lps_mm(indices) if len(indices) else np.zeros((0, 3))
        return cls(np.concatenate([points, edge_points]), np.concatenate([normals, np.zeros_like(edge_points)]))

    def distance_mm(self, points_mm: Floats) -> Floats:
        """Compute the distance of points from the inner table.

        Parameters
        ----------
        points_mm : ndarray of float, shape (n, 3)
            Points, LPS mm.

        Returns
        -------
        ndarray of float, shape (n,)
            Distances, mm, positive inside of the skull; infinite where no inner table is detected beside the point, as
            at a hole in the skull.
        """
        if not len(self.points_mm):
            return np.full(len(points_mm), np.inf)
        distance, nearest = self._tree.query(points_mm)
        normals = self.normals[nearest]
        along = ((self.points_mm[nearest] - points_mm) * normals).sum(1)
        lateral = np.sqrt(np.clip(distance**2 - along**2, 0, None))
        return np.where(normals.any(1), np.where(lateral < _MAX_LATERAL_MM, along, np.inf), distance)

    @cached_property
    def _tree(self) -> cKDTree:
        return cKDTree(self.points_mm)
