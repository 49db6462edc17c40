"""Find from the anatomy whether a stack of pictures runs from the skull base to the vertex or the other way."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.imaging import downsample
from strokeseg.reading.head_detection import TissueThresholds

_COARSE_PX = 128
_END_SHARE = 0.15
_OPENING_STEPS = 2
_MIN_SLICES = 5
_MIN_HEAD_SHARE = 0.05

SURE_AT = 0.95
"""Probability from which a stack is turned, or left, without doubt."""

EVIDENCE = {
    "air": ("centre of the air inside the head (sinuses, mastoid, airway)", -3.62),
    "brain": ("centre of the tissue that bone encloses", 5.93),
    "head": ("centre of the area of the head", -3.05),
    "head_at_ends": ("area of the head: last slices minus first", -8.9),
    "bone_at_ends": ("share of bone in the head: last slices minus first", 4.46),
    "air_at_ends": ("share of air in the head: last slices minus first", -0.67),
    "brain_at_ends": ("share of enclosed tissue in the head: last slices minus first", 6.59),
}
"""Name: meaning and weight. Centres run from -1 (first slice) to 1 (last slice). All change their sign when the stack
is reversed, and so does their weighted sum, the log odds that the first slice is the lowest. The weights are a logistic
regression without intercept over whole and partial stacks of CT-ICH and PHE-SICH, written by
``python -m tools.fit_slice_order``."""


@dataclass(frozen=True)
class SliceOrder:
    """In which direction a stack runs, by its anatomy.

    Attributes
    ----------
    lowest_first : float
        Probability that the first slice is the lowest, 0 to 1; 0.5 if the stack does not show it.
    evidence : dict of str to float
        Values of :data:`EVIDENCE`; empty if the stack does not show a direction.
    """

    lowest_first: float
    evidence: dict[str, float]

    @property
    def sure(self) -> float:
        """Probability of the more likely direction, at most 0.99."""
        return min(0.99, max(self.lowest_first, 1 - self.lowest_first))

    @property
    def is_lowest_first(self) -> bool:
        """Whether the first slice is surely the lowest."""
        return self.lowest_first >= SURE_AT

    @property
    def is_highest_first(self) -> bool:
        """Whether the first slice is surely the highest."""
        return self.lowest_first <= 1 - SURE_AT


def estimate_order(stack: NDArray[np.generic], window: tuple[float, float] | None) -> SliceOrder:
    """Estimate the direction of a stack.

    Parameters
    ----------
    stack : ndarray, shape (slices, rows, columns)
        Hounsfield units, of pictures those of their window.
    window : tuple of (float, float) or None
        (centre, width) of the pictures, HU; None for Hounsfield units.

    Returns
    -------
    SliceOrder
        Undecided below five slices.
    """
    if len(stack) < _MIN_SLICES:
        return SliceOrder(0.5, {})
    areas = measure_areas(stack, window)
    if not areas[:, 0].any():
        return SliceOrder(0.5, {})
    evidence = dict(zip(EVIDENCE, collect_evidence(areas).tolist(), strict=True))
    log_odds = sum(weight * evidence[name] for name, (_, weight) in EVIDENCE.items())
    return SliceOrder(1 / (1 + exp(-min(max(log_odds, -50.0), 50.0))), evidence)


def measure_areas(stack: NDArray[np.generic], window: tuple[float, float] | None) -> NDArray[np.float64]:
    """Measure head, enclosed tissue, air inside the head, and bone on every slice.

    Parameters
    ----------
    stack : ndarray, shape (slices, rows, columns)
        Hounsfield units.
    window : tuple of (float, float) or None
        (centre, width) of pictures, HU.

    Returns
    -------
    ndarray of float64, shape (slices, 4)
        Areas as shares of the largest head; 0 without a head.
    """
    thresholds = TissueThresholds.for_window(*window) if window else TissueThresholds.for_hounsfield()
    step = max(1, min(stack.shape[1:]) // _COARSE_PX)
    areas = np.array([_measure_slice(plane, thresholds, step) for plane in stack], dtype=np.float64)
    return areas / max(1.0, float(areas[:, 0].max()))


def collect_evidence(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Compute the values of :data:`EVIDENCE` from the areas of the slices.

    Parameters
    ----------
    areas : ndarray of float64, shape (slices, 4)
        From :func:`measure_areas`.

    Returns
    -------
    ndarray of float64, shape (7,)
        In the order of :data:`EVIDENCE`.
    """
    place = np.linspace(-1, 1, len(areas))
    head, brain, air, _ = areas.T
    end = max(1, round(_END_SHARE * len(areas)))
    of_head = areas[:, [3, 2, 1]] / np.maximum(head, _MIN_HEAD_SHARE)[:, None]
    centres = [place @ values / max(float(values.sum()), 1e-6) for values in (air, brain, head)]
    rises = np.column_stack([head, of_head])
    return np.array([*centres, *(rises[-end:].mean(0) - rises[:end].mean(0))])


def _measure_slice(plane: NDArray[np.generic], thresholds: TissueThresholds, step: int) -> tuple[int, int, int, int]:
    """Return the areas of head, enclosed tissue, air inside and bone, in coarse pixels."""
    # Air is raised so that it does not lower its neighbours' mean.
    raised = np.maximum(plane.astype(np.float32), np.float32(thresholds.air_below - 50))
    coarse = downsample.downsample_mean(raised, step, np.float32)
    solid = _keep_largest(ndimage.binary_opening(coarse > thresholds.air_below))
    head = ndimage.binary_fill_holes(solid)
    bone = (coarse > thresholds.bone_above) & head
    enclosed = np.ones_like(bone)
    for axis in (0, 1):
        enclosed &= np.logical_or.accumulate(bone, axis=axis)
        enclosed &= np.flip(np.logical_or.accumulate(np.flip(bone, axis), axis=axis), axis)
    tissue = enclosed & (coarse > thresholds.air_below) & (coarse < thresholds.brain_below)
    brain = _keep_largest(ndimage.binary_opening(tissue, iterations=_OPENING_STEPS))
    air = head & ~solid & (coarse <= thresholds.air_below)
    return int(head.sum()), int(brain.sum()), int(air.sum()), int(bone.sum())


def _keep_largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(mask)
    return mask if count < 2 else np.asarray(labels == 1 + np.bincount(labels.ravel())[1:].argmax())
