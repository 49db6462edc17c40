"""Analytic heads with known mid-sagittal plane and midline shift.

A head has its own frame, mm from its middle: x to its left, y to its back, z to its vertex. The mid-sagittal plane is
x = 0, and the inner surface of the skull meets it at y = -84 and y = 84. The head may be rotated as a whole. Its brain
may be displaced: the tissue of x = 0 is then at x = shift * displacement(y, z), which is the shift in the middle of the
septum and 0 at the skull. The code under test is used for the mapping of planes only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.spatial.transform import Rotation

from phantoms.shapes import compute_points_mm, make_planes
from strokeseg.scan import Planes, Scan

INNER_MM = np.array([66.0, 84.0, 78.0])
SEPTUM_MM = np.array([0.0, -14.0, 8.0])
_PUSH_MM = np.array([68.0, 60.0])
BRAIN, FLUID, BLOOD, BONE, SCALP = 35.0, 5.0, 70.0, 1000.0, 45.0


@dataclass(frozen=True)
class Ellipsoid:
    """An ellipsoid in the head's frame, mm; rotated about z by ``turn_deg``."""

    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    turn_deg: float = 0.0

    def depth_mm(self, places: np.ndarray) -> np.ndarray:
        """Return the approximate distance to the surface, positive inside."""
        offsets = places - np.asarray(self.centre)
        turn = np.radians(self.turn_deg)
        x = np.cos(turn) * offsets[..., 0] + np.sin(turn) * offsets[..., 1]
        y = -np.sin(turn) * offsets[..., 0] + np.cos(turn) * offsets[..., 1]
        q = np.stack([x, y, offsets[..., 2]], -1) / np.asarray(self.half)
        value = np.sqrt((q**2).sum(-1))
        slope = np.sqrt(((q / np.asarray(self.half)) ** 2).sum(-1)) / np.maximum(value, 1e-6)
        return (1 - value) / np.maximum(slope, 1e-6)


@dataclass(frozen=True)
class AnalyticHead:
    """A head.

    Attributes
    ----------
    shift_mm : float
        Displacement of the septum, positive to the head's left.
    septum_mm : float
        Thickness of the septum.
    narrow : tuple of float
        Factors of the widths of the right and the left half of the skull.
    falx : bool
        Add a falx (50 HU, 2.5 mm), with CSF (12 HU) beside it near the skull.
    ventricles : bool
        Add ventricles.
    opening : str or None
        "left" or "right": the side of a missing bone flap.
    lesions : tuple of Ellipsoid
        Lesions in the head's frame, not displaced.
    yaw_deg, roll_deg, pitch_deg : float
        Rotation about z, y and x, in this order.
    middle_mm : tuple of float
        LPS position of the head's middle.
    """

    shift_mm: float = 0.0
    septum_mm: float = 2.5
    narrow: tuple[float, float] = (1.0, 1.0)
    falx: bool = False
    ventricles: bool = True
    opening: str | None = None
    lesions: tuple[Ellipsoid, ...] = ()
    yaw_deg: float = 0.0
    roll_deg: float = 0.0
    pitch_deg: float = 0.0
    middle_mm: tuple[float, float, float] = (3.0, -7.0, 11.0)

    @property
    def turn(self) -> np.ndarray:
        """Rotation (3, 3) from the head's frame to LPS."""
        return Rotation.from_euler("ZYX", [self.yaw_deg, self.roll_deg, self.pitch_deg], degrees=True).as_matrix()

    @property
    def normal(self) -> np.ndarray:
        """Normal of the mid-sagittal plane, LPS, to the patient's left."""
        return self.turn @ np.array([1.0, 0.0, 0.0])

    def to_lps_mm(self, places: np.ndarray) -> np.ndarray:
        return np.asarray(places) @ self.turn.T + np.asarray(self.middle_mm)

    @property
    def septum_lps_mm(self) -> np.ndarray:
        return self.to_lps_mm(SEPTUM_MM + np.array([self.shift_mm, 0, 0]))

    def hu_at(self, lps_mm: np.ndarray) -> np.ndarray:
        """Return Hounsfield units at points (..., 3), LPS mm; surfaces are 1 mm wide."""
        places = (lps_mm - np.asarray(self.middle_mm)) @ self.turn
        hu = np.full(places.shape[:-1], -1000.0)
        near = (np.abs(places) < INNER_MM + 16).all(-1)
        hu[near] = self._hu_inside(places[near])
        return hu

    def _hu_inside(self, places: np.ndarray) -> np.ndarray:
        squeezed = places.copy()
        squeezed[:, 0] /= np.where(places[:, 0] < 0, *self.narrow)
        inner = Ellipsoid((0, 0, 0), tuple(INNER_MM)).depth_mm(squeezed)
        tissue = places.copy()
        tissue[:, 0] -= self.shift_mm * _push_at(places)
        hu = np.full(inner.shape, BRAIN)
        if self.falx:
            near = np.clip((22 - inner) / 4, 0, 1)
            hu += (12 - hu) * _share_inside(3.5 - np.abs(tissue[:, 0])) * near
            hu += (50 - hu) * _share_inside(1.25 - np.abs(tissue[:, 0])) * _share_inside(38 - inner)
        if self.ventricles:
            box = (np.abs(tissue - SEPTUM_MM - np.array([0, 18, -6])) < np.array([45, 50, 32])).all(-1)
            hu[box] += (FLUID - hu[box]) * _share_inside(_ventricle_depth_mm(tissue[box], self.septum_mm))
        for bleed in self.lesions:
            hu += (BLOOD - hu) * _share_inside(bleed.depth_mm(places))
        shell = _share_inside(-inner) * _share_inside(inner + 7)
        if self.opening:
            side = places[:, 0] if self.opening == "left" else -places[:, 0]
            shell[(side > 20) & (np.abs(places[:, 1] + 12) < 42) & (np.abs(places[:, 2] - 22) < 38)] = 0
        hu += (SCALP - hu) * _share_inside(-inner)
        hu += (BONE - hu) * shell
        return np.asarray(hu + (-1000 - hu) * _share_inside(-(inner + 13)))


def _share_inside(depth_mm: np.ndarray) -> np.ndarray:
    return np.clip(0.5 + depth_mm, 0, 1)


def _push_at(places: np.ndarray) -> np.ndarray:
    """Return 1 at the middle of the septum, 0 from 68 mm in front and behind and 60 mm above and below."""
    off = ((places[..., 1:] - SEPTUM_MM[1:]) / _PUSH_MM) ** 2
    return np.asarray((np.clip(1 - off, 0, None) ** 2).prod(-1))


def _ventricle_depth_mm(tissue: np.ndarray, septum_mm: float) -> np.ndarray:
    """Return the depth in mm in frontal horns and bodies (divided by the septum), trigones and third ventricle."""
    y, z = SEPTUM_MM[1:]
    parts = []
    for side in (-1, 1):
        horn = Ellipsoid((side * 7.5, y, z), (8.0, 24.0, 10.0), turn_deg=side * 14.0).depth_mm(tissue)
        parts.append(np.minimum(horn, side * tissue[..., 0] - septum_mm / 2))
        parts.append(Ellipsoid((side * 27, 30, z - 4), (7.0, 18.0, 9.0), turn_deg=side * -20.0).depth_mm(tissue))
    parts.append(Ellipsoid((0, y + 16, z - 22), (2.5, 14.0, 9.0)).depth_mm(tissue))
    return np.max(parts, axis=0)


def make_scan(
    head: AnalyticHead,
    grid: Planes | None = None,
    shape: tuple[int, int] = (230, 200),
    noise_hu: float = 4.0,
    seed: int = 0,
) -> Scan:
    """Sample a head at every pixel's centre, and add noise."""
    grid = grid or make_axial_planes()
    hu = np.stack([head.hu_at(places) for places in compute_points_mm(grid, shape)])
    hu += np.random.default_rng(seed).normal(0, noise_hu, hu.shape) if noise_hu else 0
    return Scan(np.rint(hu).astype(np.int16), grid)


def make_axial_planes(
    step_mm: float | Sequence[float] = 5.0,
    *,
    reach_mm: tuple[float, float] = (-60.0, 95.0),
    pixel_mm: float = 1.0,
    tilt_deg: float = 0.0,
    row: Sequence[float] = (1, 0, 0),
    column: Sequence[float] = (0, 1, 0),
    shape: tuple[int, int] = (230, 200),
) -> Planes:
    """Make slices around the middle of a head, over ``reach_mm``; ``step_mm`` may list every step."""
    if isinstance(step_mm, float):
        places = np.arange(reach_mm[0], reach_mm[1], step_mm)
    else:
        places = reach_mm[0] + np.concatenate([[0], np.cumsum(step_mm)])
    along, down = np.asarray(row, float), np.asarray(column, float)
    normal = np.cross(along, down)
    if normal[2] < 0:
        places = -places[::-1]
    corner = np.asarray(AnalyticHead().middle_mm) - pixel_mm * ((shape[0] - 1) / 2 * down + (shape[1] - 1) / 2 * along)
    return make_planes(places, (pixel_mm, pixel_mm), tilt_deg=tilt_deg, row=row, column=column, origin=corner)
