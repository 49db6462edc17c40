"""Sample each lesion at a limited number of points, from which its location is determined."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from strokeseg.imaging import components
from strokeseg.imaging.components import Labels
from strokeseg.scan import NOMINAL_STEP_MM, Floats, Scan

_MAX_POINTS = 2500


@dataclass(frozen=True)
class LesionPoints:
    """Points distributed evenly over one lesion, or over all lesions.

    Attributes
    ----------
    points_mm : ndarray of float, shape (n, 3)
        Points, LPS mm.
    volumes_ml : ndarray of float, shape (n,)
        Volume that each point represents; nominal if the spacing is unknown, then only ratios are meaningful.
    height_mm : float
        Height of the lesion's slices along their normal; nominal if the spacing is unknown.
    """

    points_mm: Floats
    volumes_ml: Floats
    height_mm: float

    @property
    def total_ml(self) -> float:
        """Volume of the lesion, ml."""
        return float(self.volumes_ml.sum())

    @property
    def centre_mm(self) -> Floats:
        """Centre of mass, LPS mm, shape (3,)."""
        return np.asarray(np.average(self.points_mm, axis=0, weights=self.volumes_ml))

    def volume_share(self, selected: NDArray[np.bool_]) -> float:
        """Share of the lesion's volume that selected points represent.

        Parameters
        ----------
        selected : ndarray of bool, shape (n,)
            True for selected points.

        Returns
        -------
        float
            Share, 0 to 1.
        """
        return float(self.volumes_ml[selected].sum() / self.volumes_ml.sum())


def sample_lesions(labels: Labels, count: int, scan: Scan) -> list[LesionPoints]:
    """Sample each lesion at up to 2500 points; small lesions are sampled at every pixel.

    Parameters
    ----------
    labels : ndarray of int, shape (slices, rows, columns)
        Lesions, numbered 1 to ``count``.
    count : int
        Number of lesions.
    scan : Scan
        The scan.

    Returns
    -------
    list of LesionPoints
        Points of each lesion.
    """
    pixels = components.find_labelled_pixels(labels)
    order = np.argsort(labels.ravel()[pixels], kind="stable")
    ends = np.cumsum(np.bincount(labels.ravel()[pixels], minlength=count + 1)[1:])
    weights = scan.planes.weights_mm
    weights = np.where(weights > 0, weights, NOMINAL_STEP_MM)
    lesions = []
    for start, stop in pairwise([0, *ends]):
        step = max(1, -(-(stop - start) // _MAX_POINTS))
        sampled = pixels[order[start:stop:step]]
        index = np.column_stack(np.unravel_index(sampled, scan.shape))
        volumes_ml = weights[index[:, 0]] * scan.planes.pixel_area_mm2 / 1000 * ((stop - start) / len(sampled))
        height_mm = float(weights[np.unique(index[:, 0])].sum())
        lesions.append(LesionPoints(scan.planes.to_lps_mm(index), volumes_ml, height_mm))
    return lesions


def merge_points(lesions: list[LesionPoints]) -> LesionPoints | None:
    """Merge the points of all lesions.

    Parameters
    ----------
    lesions : list of LesionPoints
        Points of each lesion.

    Returns
    -------
    LesionPoints or None
        Points of all lesions; None without a lesion.
    """
    if not lesions:
        return None
    points_mm = np.concatenate([lesion.points_mm for lesion in lesions])
    volumes_ml = np.concatenate([lesion.volumes_ml for lesion in lesions])
    return LesionPoints(points_mm, volumes_ml, max(lesion.height_mm for lesion in lesions))
