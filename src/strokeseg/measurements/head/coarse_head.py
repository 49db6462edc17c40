"""The head sampled at about 2 mm, once for all measurements of the head as a whole."""

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
    """The head of a scan, sampled at about 2 mm in the planes and at 2.5 mm or more between them.

    Attributes
    ----------
    scan : Scan
        The scan.
    samples : TissueSamples
        Shares of soft tissue and bone (:func:`strokeseg.imaging.brain_mask.sample_tissue`), and the size of a sample.
    brain : ndarray of bool, shape (slices, rows, columns)
        The interior of the skull (:func:`strokeseg.imaging.brain_mask.segment_brain`), without the spinal canal.
    hu : ndarray of float32, shape (slices, rows, columns)
        Mean Hounsfield units of each sample.
    blood : ndarray of float32, shape (slices, rows, columns)
        Share of each sample that the mask covers.
    """

    scan: Scan
    samples: TissueSamples
    brain: Mask
    hu: NDArray[np.float32]
    blood: NDArray[np.float32]

    @property
    def slices(self) -> NDArray[np.intp]:
        """Index of the scan's slice that each slice of samples represents, shape (slices,)."""
        step = self.samples.slice_step
        return np.arange(step // 2, self.scan.shape[0], step)

    def sample_positions_mm(self) -> Floats:
        """Compute the centre of each sample.

        Returns
        -------
        ndarray of float, shape (slices, rows, columns, 3)
            Points, LPS mm.
        """
        planes, step = self.scan.planes, self.samples.pixel_step
        row_mm, column_mm = planes.pixel_spacing_mm
        rows, columns = (np.arange(count) * step + (step - 1) / 2 for count in self.hu.shape[1:])
        down = (rows * row_mm)[:, None, None] * planes.column_cosine
        along = (columns * column_mm)[None, :, None] * planes.row_cosine
        return planes.positions_mm[self.slices][:, None, None] + (down + along)[None]

    def to_sample_indices(self, points_mm: Floats) -> Floats:
        """Map points to fractional indices of the samples; beyond an end slice, the index of that slice is used.

        Parameters
        ----------
        points_mm : ndarray of float, shape (..., 3)
            Points, LPS mm.

        Returns
        -------
        ndarray of float, shape (3, ...)
            Indices (slice, row, column).
        """
        planes, step = self.scan.planes, self.samples.pixel_step
        origins = planes.positions_mm[self.slices]
        heights = origins @ planes.normal
        slices = np.interp(points_mm @ planes.normal, heights, np.arange(heights.size, dtype=np.float64))
        low = np.minimum(slices.astype(np.intp), max(heights.size - 2, 0))
        high, fraction = np.minimum(low + 1, heights.size - 1), (slices - low)[..., None]
        offsets = points_mm - ((1 - fraction) * origins[low] + fraction * origins[high])
        row_mm, column_mm = planes.pixel_spacing_mm
        rows = (offsets @ planes.column_cosine / row_mm - (step - 1) / 2) / step
        columns = (offsets @ planes.row_cosine / column_mm - (step - 1) / 2) / step
        return np.stack([slices, rows, columns])


def sample_head(scan: Scan, blood: Mask) -> CoarseHead | None:
    """Sample the head of a scan.

    Parameters
    ----------
    scan : Scan
        The scan.
    blood : ndarray of bool, shape (slices, rows, columns)
        Mask of the hemorrhage; bright pixels in it are blood, not bone.

    Returns
    -------
    CoarseHead or None
        The head; None if no brain is detected.
    """
    samples = brain_mask.sample_tissue(scan, blood)
    brain = brain_mask.segment_brain(samples, scan.planes, stem_mm=0)
    if not brain.any():
        return None
    sampled = slice(samples.slice_step // 2, None, samples.slice_step)
    return CoarseHead(
        scan,
        samples,
        brain,
        downsample.downsample_mean(scan.hu[sampled], samples.pixel_step),
        downsample.downsample_mean(blood[sampled], samples.pixel_step, np.uint16),
    )
