"""A head CT made from the ICBM 152 template, posed and stretched; its anatomy is known in the template's frame.

Grey and white matter and CSF have their usual Hounsfield units; a skull of 1000 HU and a scalp surround them. The
template's frame is mm, x to the left (it is symmetric), y to the front, z to the vertex, from the anterior commissure.
The atlas under test is derived from the same template, but is registered to a head of another pose and size.
Anatomical locations are published coordinates (MNI space), independent of the atlas.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from phantoms.shapes import compute_points_mm
from strokeseg.scan import Planes, Scan
from tools.derive_atlas import read_template

ORIGIN_MM = np.array([-98.0, -134.0, -72.0])
_PAD = 24


@cache
def make_volume() -> np.ndarray:
    """Make the volume, float32 (x, y, z), HU at 1 mm; 24 mm larger than the template on every side but the bottom."""
    maps = {name: np.pad(values, ((_PAD, _PAD), (_PAD, _PAD), (0, _PAD))) for name, values in read_template().items()}
    brain = maps["t1"] > 0.05
    # The head spans the parts of the brain, and the skull base is bone; distances at 2 mm, for speed.
    out = 2 * ndimage.distance_transform_edt(~brain[::2, ::2, ::2])
    head = np.where(out <= 30, 2 * ndimage.distance_transform_edt(out <= 30) - 20, -1)
    out, head = (
        each.repeat(2, 0).repeat(2, 1).repeat(2, 2)[tuple(slice(0, n) for n in brain.shape)] for each in (out, head)
    )
    fluid = 1 - maps["gm"] - maps["wm"]
    hu = 38 * maps["gm"] + 30 * maps["wm"] + 6 * fluid
    hu = np.where(brain | (out <= 3), hu, np.where(head > 4, 1000, np.where(head > 0, 40, -1000)))
    return ndimage.gaussian_filter(hu, 0.6).astype(np.float32)


@dataclass(frozen=True)
class TemplateHead:
    """Pose of the template in the patient's space.

    Attributes
    ----------
    scales : head / template along x, y, z
    yaw_deg, roll_deg, pitch_deg : rotation
    middle_mm : LPS position of the template's origin
    blood : (centre, half lengths) of ellipsoids in the template's frame, x to the LEFT
    fill : "left" | "right" | "both" | None, whose lateral ventricle is filled with blood
    """

    scales: tuple[float, float, float] = (1.0, 1.0, 1.0)
    yaw_deg: float = 0.0
    roll_deg: float = 0.0
    pitch_deg: float = 0.0
    middle_mm: tuple[float, float, float] = (4.0, -11.0, 23.0)

    @property
    def turn(self) -> np.ndarray:
        return Rotation.from_euler("ZYX", [self.yaw_deg, self.roll_deg, self.pitch_deg], degrees=True).as_matrix()

    def to_lps_mm(self, places: np.ndarray) -> np.ndarray:
        """Map points of the template, (..., 3), to LPS mm."""
        stretched = np.asarray(places) * self.scales * (1, -1, 1)
        return np.asarray(stretched @ self.turn.T + self.middle_mm)

    def to_template_mm(self, lps_mm: np.ndarray) -> np.ndarray:
        return np.asarray(((lps_mm - self.middle_mm) @ self.turn) * (1, -1, 1) / self.scales)

    def make_scan(self, grid: Planes, shape: tuple[int, int], noise_hu: float = 3.0) -> Scan:
        """Sample the head at every pixel's centre."""
        hu = np.empty((len(grid.positions_mm), *shape), np.int16)
        noise = np.random.default_rng(0)
        for index, places in enumerate(compute_points_mm(grid, shape)):
            at = self.to_template_mm(places) - ORIGIN_MM + (_PAD, _PAD, 0)
            plane = ndimage.map_coordinates(make_volume(), np.moveaxis(at, -1, 0), order=1, mode="constant", cval=-1000)
            hu[index] = np.rint(plane + noise.normal(0, noise_hu, shape))
        return Scan(hu, grid)

    def mark_ball(
        self, grid: Planes, shape: tuple[int, int], centre: Sequence[float], radius_mm: float | Sequence[float]
    ) -> np.ndarray:
        """Mark an ellipsoid given in the template's frame, bool (slices, rows, columns)."""
        offsets = (self.to_template_mm(compute_points_mm(grid, shape)) - np.asarray(centre)) / np.asarray(radius_mm)
        return np.asarray((offsets**2).sum(-1) <= 1)


def make_planes(
    places_mm: Sequence[float],
    shape: tuple[int, int],
    pixel_mm: float = 1.0,
    *,
    tilt_deg: float = 0.0,
    row: Sequence[float] = (1, 0, 0),
    column: Sequence[float] = (0, 1, 0),
    middle_mm: Sequence[float] = (4, 5, 23),
) -> Planes:
    """Make slices at positions along the normal, from the head's middle."""
    along, down = np.asarray(row, float), np.asarray(column, float)
    normal = np.cross(along, down)
    places = np.asarray(places_mm, float)
    corner = np.asarray(middle_mm) - pixel_mm * ((shape[0] - 1) / 2 * down + (shape[1] - 1) / 2 * along)
    positions = corner + places[:, None] * (normal + np.tan(np.radians(tilt_deg)) * down)
    return Planes(
        positions, along, down, (pixel_mm, pixel_mm), float(abs(places[1] - places[0])) if len(places) > 1 else 5.0
    )
