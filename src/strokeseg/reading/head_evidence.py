"""Evidence for a head on a slice: numbers that tell the inside of a skull from other rings, and a small model."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.reading.head_detection import EnclosedTissue, Rays, TissueThresholds

FEATURES = (
    "ring_share",
    "gap_count",
    "tissue_share",
    "circle_fill",
    "edge_bone_share",
    "area_share",
    "elongation",
    "ellipse_fill",
    "median_hu",
    "spread_hu",
    "tail_hu",
    "dark_share",
    "texture_hu",
    "flat_share",
    "centre_hu",
    "middle_hu",
    "rim_hu",
    "bone_thickness",
    "scalp_thickness",
    "roughness",
    "asymmetry",
    "other_tissue",
    "bone_area",
    "dark_outside",
    "largest_bone_share",
    "ring_bone_share",
    "thickness_spread",
    "ellipse_residual",
)
_BRAIN_HU = (-20.0, 110.0)


@dataclass(frozen=True)
class SliceEvidence:
    """What a slice shows of a head.

    Attributes
    ----------
    features : dict of str to float
        By the names of :data:`FEATURES`.
    probability : float
        Probability of the model that the slice shows the inside of a skull, 0 to 1.
    area_share : float
        Share of the picture inside the skull.
    radius_px : float
        Mean distance to the bone, pixels of the slice.
    """

    features: dict[str, float]
    probability: float
    area_share: float
    radius_px: float


def measure_slice_evidence(tissue: EnclosedTissue, thresholds: TissueThresholds) -> SliceEvidence:
    """Measure what a slice shows of a head.

    Parameters
    ----------
    tissue : EnclosedTissue
        The largest tissue inside bone on the slice.
    thresholds : TissueThresholds
        The thresholds it was found with.

    Returns
    -------
    SliceEvidence
        The features, and the probability of the model.
    """
    features = measure_features(tissue, thresholds)
    probability = _read_model().predict(features)
    return SliceEvidence(
        dict(zip(FEATURES, features.tolist(), strict=True)), probability, tissue.area_share, tissue.radius_px
    )


@dataclass(frozen=True)
class _Trees:
    """Boosted decision trees, each an array of nodes: a leaf has feature -1.

    Attributes
    ----------
    bias : float
        Log-odds before the first tree.
    feature, left, right : ndarray of int, shape (trees, nodes)
        Feature that a node compares, and its next nodes.
    threshold, value : ndarray of float, shape (trees, nodes)
        A feature up to the threshold leads left; log-odds that a leaf adds.
    depth : int
        Number of comparisons from the root to a leaf, at most.
    """

    bias: float
    feature: NDArray[np.intp]
    left: NDArray[np.intp]
    right: NDArray[np.intp]
    threshold: NDArray[np.float64]
    value: NDArray[np.float64]
    depth: int

    def predict(self, features: NDArray[np.float64]) -> float:
        """Return the probability for one slice."""
        trees, node = np.arange(len(self.feature)), np.zeros(len(self.feature), dtype=np.intp)
        for _ in range(self.depth):
            feature = self.feature[trees, node]
            goes_left = features[feature] <= self.threshold[trees, node]
            following = np.where(goes_left, self.left[trees, node], self.right[trees, node])
            node = np.where(feature < 0, node, following)
        log_odds = self.bias + float(self.value[trees, node].sum())
        return float(1 / (1 + np.exp(-log_odds)))


@cache
def _read_model() -> _Trees:
    """Read head_model.json, which `python -m benchmarks gate --fit` writes."""
    model = json.loads(resources.files(__package__).joinpath("head_model.json").read_text(encoding="utf-8"))
    if tuple(model["features"]) != FEATURES:
        raise ValueError("head_model.json has other features")
    nodes = max(len(tree["feature"]) for tree in model["trees"])

    def stack(name: str, padding: float) -> NDArray[np.float64]:
        return np.array([tree[name] + [padding] * (nodes - len(tree[name])) for tree in model["trees"]], dtype=float)

    feature, left, right = (stack(name, -1).astype(np.intp) for name in ("feature", "left", "right"))
    return _Trees(model["bias"], feature, left, right, stack("threshold", 0), stack("value", 0), model["depth"])


def measure_features(tissue: EnclosedTissue, thresholds: TissueThresholds) -> NDArray[np.float64]:
    """Measure the features of :data:`FEATURES`, lengths in parts of the radius of the ring of bone.

    Parameters
    ----------
    tissue : EnclosedTissue
        The largest tissue inside bone on the slice.
    thresholds : TissueThresholds
        The thresholds it was found with.

    Returns
    -------
    ndarray of float64, shape (features,)
        The features.
    """
    rays, coarse, inside = tissue.rays, np.clip(tissue.coarse, *_BRAIN_HU), tissue.inside
    values = np.clip(tissue.values, *_BRAIN_HU)
    low, lower, median, upper, high = np.percentile(values, (2, 10, 50, 90, 98))
    is_brain = (tissue.coarse > thresholds.air_below) & (tissue.coarse < thresholds.brain_below)
    is_bone = tissue.coarse > thresholds.bone_above
    area = values.size
    rows, columns = np.nonzero(inside)
    covariance = np.cov(np.stack([rows, columns])) if area > 2 else np.eye(2)
    small, large = np.sqrt(np.maximum(np.linalg.eigvalsh(covariance), 1e-3))
    pairs = inside[:, 1:] & inside[:, :-1]
    steps = np.abs(coarse[:, 1:] - coarse[:, :-1])[pairs]
    distances = rays.distances[rays.hits_bone].astype(float)
    radius = max(1.0, float(distances.mean())) if distances.size else 1.0
    thickness, thickness_spread, scalp = _measure_layers(rays, tissue.coarse > thresholds.air_below)
    both = rays.hits_bone & np.roll(rays.hits_bone, -1)
    jumps = np.abs(np.roll(rays.distances, -1) - rays.distances)[both]
    outside = ~inside & ~is_bone
    return np.array(
        [
            tissue.ring_share,
            tissue.gap_count,
            tissue.tissue_share,
            tissue.circle_fill,
            tissue.edge_bone_share,
            tissue.area_share,
            large / small,
            area / (4 * np.pi * small * large),
            median,
            upper - lower,
            high - low,
            float((values < 8).mean()),
            float(steps.mean()) if steps.size else 0.0,
            float((steps == 0).mean()) if steps.size else 1.0,
            *(_sample_rays(coarse, rays, fraction) for fraction in (0.3, 0.65, 0.92)),
            thickness / radius,
            scalp / radius,
            float(jumps.mean()) / radius if jumps.size else 1.0,
            _measure_asymmetry(rays, radius),
            np.count_nonzero(is_brain & ~inside) / area,
            np.count_nonzero(is_bone) / area,
            np.count_nonzero(outside & ~is_brain) / max(1, int(np.count_nonzero(outside))),
            *_measure_bone_parts(is_bone, rays),
            thickness_spread / radius,
            _measure_ellipse_residual(distances) / radius,
        ]
    )


def _sample_rays(coarse: NDArray[np.float32], rays: Rays, fraction: float) -> float:
    """Return the mean on the rays at a fraction of the distance to the bone."""
    indices = np.flatnonzero(rays.hits_bone)
    if not indices.size:
        return 0.0
    steps = (fraction * rays.distances[indices]).astype(int)
    return float(coarse[rays.rows[indices, steps], rays.columns[indices, steps]].mean())


def _measure_layers(rays: Rays, is_tissue: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Return the mean and the spread of the bone's thickness, and the mean thickness of tissue beyond it, in steps."""
    if not rays.hits_bone.any():
        return 0.0, 0.0, 0.0
    behind = np.logical_or.accumulate(rays.is_bone, axis=1)
    left_bone = np.logical_or.accumulate(behind & ~rays.is_bone, axis=1)
    tissue = is_tissue[rays.rows, rays.columns] & rays.in_picture & left_bone
    left_tissue = np.logical_or.accumulate(left_bone & ~tissue & ~rays.is_bone, axis=1)
    thickness = (behind & ~left_bone & rays.in_picture).sum(1)[rays.hits_bone]
    scalp = (tissue & ~left_tissue).sum(1)[rays.hits_bone]
    return float(thickness.mean()), float(thickness.std()), float(scalp.mean())


def _measure_bone_parts(is_bone: NDArray[np.bool_], rays: Rays) -> tuple[float, float]:
    """Return the share of the bone in its largest component, and the share of the rays that hit that component."""
    labels, count = ndimage.label(is_bone, np.ones((3, 3)))
    if not count or not rays.hits_bone.any():
        return 0.0, 0.0
    sizes = np.bincount(labels.ravel())[1:]
    indices = np.flatnonzero(rays.hits_bone)
    steps = rays.distances[indices]
    hit = labels[rays.rows[indices, steps], rays.columns[indices, steps]]
    return float(sizes.max() / sizes.sum()), float((hit == 1 + sizes.argmax()).mean())


def _measure_ellipse_residual(distances: NDArray[np.float64]) -> float:
    """Return the standard deviation of the distances to the bone from a smooth oval (three harmonics)."""
    if distances.size < 8:
        return 0.0
    spectrum = np.fft.rfft(distances)
    spectrum[:4] = 0
    return float(np.fft.irfft(spectrum, distances.size).std())


def _measure_asymmetry(rays: Rays, radius: float) -> float:
    """Return the mean difference of the distances to the bone on both sides of the best axis, in radii."""
    count = len(rays.distances)
    distances = np.where(rays.hits_bone, rays.distances, 0).astype(float)
    mirrored = distances[(np.arange(count)[:, None] - np.arange(count)) % count]
    weights = rays.hits_bone & rays.hits_bone[(np.arange(count)[:, None] - np.arange(count)) % count]
    differences = (np.abs(mirrored - distances) * weights).sum(1) / np.maximum(1, weights.sum(1))
    enough = weights.sum(1) >= count // 3
    return float(differences[enough].min()) / radius if enough.any() else 1.0
