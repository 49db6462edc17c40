"""Every lesion as a cloud of places, few enough to ask each where it lies."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from strokeseg import components
from strokeseg.components import Labels
from strokeseg.scan import NOMINAL_STEP_MM, Floats, Scan

_MOST = 2500


@dataclass(frozen=True)
class Spread:
    """Places spread evenly over one lesion, or over all.

    Parameters
    ----------
    places_mm : (n, 3), LPS mm
    shares_ml : (n,), the volume that each stands for; nominal where the spacing is not known: then only ratios count
    height_mm : of the slices that the lesion is on, along their normal, nominal likewise
    """

    places_mm: Floats
    shares_ml: Floats
    height_mm: float

    @property
    def total_ml(self) -> float:
        """The lesion's volume."""
        return float(self.shares_ml.sum())

    @property
    def centre_mm(self) -> Floats:
        """(3,), LPS mm of its centre of mass."""
        return np.asarray(np.average(self.places_mm, axis=0, weights=self.shares_ml))

    def share(self, where: NDArray[np.bool_]) -> float:
        """The share, 0 to 1, of the lesion that is marked; ``where`` is (n,)."""
        return float(self.shares_ml[where].sum() / self.shares_ml.sum())


def spread(labels: Labels, count: int, scan: Scan) -> list[Spread]:
    """Spread places over every lesion, at most 2500 each; small lesions are taken pixel by pixel.

    Parameters
    ----------
    labels : (slices, rows, columns), 1 to ``count``
    """
    places = components.marked(labels)
    order = np.argsort(labels.ravel()[places], kind="stable")
    ends = np.cumsum(np.bincount(labels.ravel()[places], minlength=count + 1)[1:])
    weights = scan.planes.weights_mm
    weights = np.where(weights > 0, weights, NOMINAL_STEP_MM)
    found = []
    for start, stop in pairwise([0, *ends]):
        step = max(1, -(-(stop - start) // _MOST))
        kept = places[order[start:stop:step]]
        index = np.column_stack(np.unravel_index(kept, scan.shape))
        shares_ml = weights[index[:, 0]] * scan.planes.pixel_area_mm2 / 1000 * ((stop - start) / len(kept))
        height_mm = float(weights[np.unique(index[:, 0])].sum())
        found.append(Spread(scan.planes.to_lps_mm(index), shares_ml, height_mm))
    return found


def together(spreads: list[Spread]) -> Spread | None:
    """All lesions as one; None where there is none."""
    if not spreads:
        return None
    places_mm = np.concatenate([each.places_mm for each in spreads])
    shares_ml = np.concatenate([each.shares_ml for each in spreads])
    return Spread(places_mm, shares_ml, max(each.height_mm for each in spreads))
