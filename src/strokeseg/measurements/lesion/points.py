"""Every lesion as a cloud of places, few enough to ask each where it lies."""

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
    """Places spread evenly over one lesion, or over all.

    Parameters
    ----------
    places_mm : object
        (n, 3), LPS mm.
    shares_ml : object
        (n,), the volume that each stands for; nominal where the spacing is not known: then only ratios count.
    height_mm : float
        Of the slices that the lesion is on, along their normal, nominal likewise.
    """

    points_mm: Floats
    volumes_ml: Floats
    height_mm: float

    @property
    def total_ml(self) -> float:
        """The lesion's volume."""
        return float(self.volumes_ml.sum())

    @property
    def centre_mm(self) -> Floats:
        """(3,), LPS mm of its centre of mass."""
        return np.asarray(np.average(self.points_mm, axis=0, weights=self.volumes_ml))

    def volume_share(self, where: NDArray[np.bool_]) -> float:
        """The share, 0 to 1, of the lesion that is marked; ``where`` is (n,)."""
        return float(self.volumes_ml[where].sum() / self.volumes_ml.sum())


def sample_lesions(labels: Labels, count: int, scan: Scan) -> list[LesionPoints]:
    """Spread places over every lesion, at most 2500 each; small lesions are taken pixel by pixel.

    Parameters
    ----------
    labels : Labels
        (slices, rows, columns), 1 to ``count``.
    """
    places = components.find_labelled_pixels(labels)
    order = np.argsort(labels.ravel()[places], kind="stable")
    ends = np.cumsum(np.bincount(labels.ravel()[places], minlength=count + 1)[1:])
    weights = scan.planes.weights_mm
    weights = np.where(weights > 0, weights, NOMINAL_STEP_MM)
    found = []
    for start, stop in pairwise([0, *ends]):
        step = max(1, -(-(stop - start) // _MAX_POINTS))
        kept = places[order[start:stop:step]]
        index = np.column_stack(np.unravel_index(kept, scan.shape))
        shares_ml = weights[index[:, 0]] * scan.planes.pixel_area_mm2 / 1000 * ((stop - start) / len(kept))
        height_mm = float(weights[np.unique(index[:, 0])].sum())
        found.append(LesionPoints(scan.planes.to_lps_mm(index), shares_ml, height_mm))
    return found


def merge_points(spreads: list[LesionPoints]) -> LesionPoints | None:
    """All lesions as one; None where there is none."""
    if not spreads:
        return None
    places_mm = np.concatenate([each.points_mm for each in spreads])
    shares_ml = np.concatenate([each.volumes_ml for each in spreads])
    return LesionPoints(places_mm, shares_ml, max(each.height_mm for each in spreads))
