"""The head at about 2 mm, looked at once for all that is measured on it as a whole."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from strokeseg.imaging import brain_mask, downsample
from strokeseg.imaging.brain_mask import TissueSamples
from strokeseg.scan import Floats, Scan

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class CoarseHead:
    """A scan's head at about 2 mm in its planes and 2.5 mm or more along them; arrays are (slices, rows, columns).

    Parameters
    ----------
    scan : Scan
        The scan itself.
    samples : TissueSamples
        Shares of soft tissue and bone (:func:`strokeseg.imaging.brain_mask.sample_tissue`); it tells which pixels a
        sample is made of.
    brain : ndarray of bool
        Bool, what the skull encloses (:func:`strokeseg.imaging.brain_mask.segment_brain`), without the spinal canal.
    hu : ndarray of float32
        Float32, mean HU of each sample.
    blood : ndarray of float32
        Float32, the share of each sample that the mask outlines.
    """

    scan: Scan
    samples: TissueSamples
    brain: Mask
    hu: NDArray[np.float32]
    blood: NDArray[np.float32]

    @property
    def slices(self) -> NDArray[np.intp]:
        """(samples' slices,), the index of the scan's slice that each is taken from."""
        step = self.samples.slice_step
        return np.arange(step // 2, self.scan.shape[0], step)

    def sample_positions_mm(self) -> Floats:
        """Return (slices, rows, columns, 3), the LPS mm of every sample's centre."""
        planes, step = self.scan.planes, self.samples.pixel_step
        row_mm, column_mm = planes.pixel_spacing_mm
        rows, columns = (np.arange(count) * step + (step - 1) / 2 for count in self.hu.shape[1:])
        down = (rows * row_mm)[:, None, None] * planes.column_cosine
        along = (columns * column_mm)[None, :, None] * planes.row_cosine
        return planes.positions_mm[self.slices][:, None, None] + (down + along)[None]

    def to_sample_indices(self, places_mm: Floats) -> Floats:
        """Return (3, ...), the fractional (slice, row, column) among the samples of places (..., 3), LPS mm.

        Beyond the first and the last slice, the index is that slice's.
        """
        planes, step = self.scan.planes, self.samples.pixel_step
        origins = planes.positions_mm[self.slices]
        heights = origins @ planes.normal
        at = np.interp(places_mm @ planes.normal, heights, np.arange(heights.size, dtype=np.float64))
        low = np.minimum(at.astype(np.intp), max(heights.size - 2, 0))
        high, part = np.minimum(low + 1, heights.size - 1), (at - low)[..., None]
        apart = places_mm - ((1 - part) * origins[low] + part * origins[high])
        row_mm, column_mm = planes.pixel_spacing_mm
        rows = (apart @ planes.column_cosine / row_mm - (step - 1) / 2) / step
        columns = (apart @ planes.row_cosine / column_mm - (step - 1) / 2) / step
        return np.stack([at, rows, columns])


def sample_head(scan: Scan, blood: Mask) -> CoarseHead | None:
    """Look at a scan's head.

    Parameters
    ----------
    blood : ndarray of bool, shape (slices, rows, columns)
        What is bright there is blood, not bone.

    Returns
    -------
    CoarseHead or None
        None where no brain is found.
    """
    samples = brain_mask.sample_tissue(scan, blood)
    found = brain_mask.segment_brain(samples, scan.planes, stem_mm=0)
    if not found.any():
        return None
    picked = slice(samples.slice_step // 2, None, samples.slice_step)
    return CoarseHead(
        scan,
        samples,
        found,
        downsample.downsample_mean(scan.hu[picked], samples.pixel_step),
        downsample.downsample_mean(blood[picked], samples.pixel_step, np.uint16),
    )
