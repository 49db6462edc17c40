"""One analytic head, turned, shifted and cut by any planes, with bleeds of known volume: what compare must find.

The head's own frame is LPS mm from the middle of its skull. A scan of it is made pixel by pixel from where the pixel
lies in the head; nothing here uses the code under test, but for the planes' own form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.spatial.transform import Rotation

from phantoms.shapes import compute_points_mm
from strokeseg.measurements import measure
from strokeseg.pipeline import Result
from strokeseg.result import ModelInfo, Timing
from strokeseg.scan import Planes, Scan

Ball = tuple[Sequence[float], float]

MODEL = ModelInfo(name="drawn", version="1", sha256="0" * 64, engine="none", precision="none", threshold=0.5)
BRAIN_MM = (66.0, 84.0, 80.0)
_BONE = [
    ((38, 10, -46), (28, 9, 9)),  # the petrous ridges
    ((-38, 10, -46), (28, 9, 9)),
    ((35, -38, -40), (30, 7, 8)),  # the wings of the sphenoid
    ((-35, -38, -40), (30, 7, 8)),
    ((0, -20, -40), (10, 10, 8)),
    ((0, -72, -30), (4, 16, 12)),  # the crest of the frontal bone
    ((0, 80, 0), (8, 8, 10)),  # the protuberance of the occiput
]


def ml(radius_mm: float) -> float:
    return 4 / 3 * np.pi * radius_mm**3 / 1000


def inside(places: np.ndarray, half: Sequence[float], centre: Sequence[float] = (0, 0, 0)) -> np.ndarray:
    return np.asarray((((places - np.asarray(centre, float)) / np.asarray(half, float)) ** 2).sum(-1) <= 1)


def egg(places: np.ndarray) -> np.ndarray:
    """Make an ellipsoid's frame of the head's: the skull is wider behind, and its vault lower than its base is deep."""
    x, y, z = np.moveaxis(places, -1, 0)
    return np.stack([x / (1 + 0.0013 * y), y, np.where(z > 0, z / 0.85, z)], axis=-1)


def head_hu(places: np.ndarray, size: Sequence[float], flap: bool) -> np.ndarray:
    """Compute HU at (..., 3) in the head's frame; ``size`` multiplies its width, length and height."""
    scaled = places / np.asarray(size)
    round_ = egg(scaled)
    hu = np.full(places.shape[:-1], -1000, dtype=np.float32)
    hu[inside(round_, (80, 98, 96))] = 30
    skull = inside(round_, (75, 93, 91))
    hu[skull] = 900
    hu[inside(round_, (68, 86, 84))] = 35
    for centre, half in _BONE:
        hu[inside(scaled, half, centre) & skull] = 900
    if flap:  # a piece of the vault was taken out on the left
        hu[skull & (scaled[..., 0] > 30) & (np.abs(scaled[..., 1]) < 45) & (scaled[..., 2] > 5) & (hu > 100)] = 35
    return hu


@dataclass(frozen=True)
class Head:
    """A head, how it lies, and its bleeds: balls of (centre in the head's frame, radius), mm."""

    bleeds: tuple[Ball, ...] = ()
    size: tuple[float, float, float] = (1.0, 1.0, 1.0)
    turn: tuple[float, float, float] = (0.0, 0.0, 0.0)
    """A rotation vector, degrees."""
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    flap: bool = False
    fields: dict[str, object] = field(default_factory=dict)

    @property
    def rotation(self) -> np.ndarray:
        return Rotation.from_rotvec(np.radians(self.turn)).as_matrix()

    def to_patient(self, places: np.ndarray) -> np.ndarray:
        return places @ self.rotation.T + np.asarray(self.shift)

    def simulate_scan(self, where: Planes, shape: tuple[int, int] = (192, 192), seed: int = 0) -> Result:
        """Scan it, with noise, and outline the bleeds as they are."""
        own = (compute_points_mm(where, shape) - np.asarray(self.shift)) @ self.rotation
        hu = head_hu(own, self.size, self.flap)
        mask = np.zeros(hu.shape, dtype=bool)
        for centre, radius in self.bleeds:
            mask |= inside(own, (radius,) * 3, centre)
        hu[mask] = 65
        hu += np.random.default_rng(seed).normal(0, 4, hu.shape).astype(np.float32)
        scan = Scan(np.rint(hu).astype(np.int16), where, **self.fields)
        return Result(scan, mask.astype(np.float16), mask, measure(scan, mask), MODEL, Timing())


def stack(
    places_mm: Sequence[float] = tuple(np.arange(-66.0, 96.0, 4.0)),
    pixel_mm: float = 1.1,
    tilt_deg: float = 0.0,
    shape: tuple[int, int] = (192, 192),
) -> Planes:
    """Slices at places along the table; under tilt the planes are oblique and the stack is sheared."""
    tilt = np.radians(tilt_deg)
    row, column = np.array([1.0, 0, 0]), np.array([0, np.cos(tilt), np.sin(tilt)])
    middles = np.outer(places_mm, [0, 0, 1.0])
    corner = (shape[1] - 1) / 2 * pixel_mm * row + (shape[0] - 1) / 2 * pixel_mm * column
    return Planes(middles - corner, row, column, (pixel_mm, pixel_mm), None)


def brain_places() -> np.ndarray:
    """Return places all over the brain, (n, 3) in the head's frame."""
    axis = np.arange(-80.0, 81.0, 16.0)
    grid = np.stack(np.meshgrid(axis, axis, axis), axis=-1).reshape(-1, 3)
    return grid[inside(egg(grid), BRAIN_MM)]
