"""Change head scans to show what few public scans show: large bleeds, craniotomies, metal, other poses and sizes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.scan import Scan

Plane = NDArray[np.float32]

_BRAIN_HU = (5.0, 60.0)
_BONE_HU = 100.0


def make_variants(scan: Scan) -> dict[str, Scan]:
    """Make variants of a whole head scan.

    Parameters
    ----------
    scan : Scan
        A head in Hounsfield units.

    Returns
    -------
    dict of str to Scan
        The variants by name, at half the resolution in the slices.
    """
    rng = np.random.default_rng(0)
    hu = scan.hu[:, ::2, ::2].astype(np.float32)
    rows, columns = scan.planes.pixel_spacing_mm
    base = replace(scan.planes, pixel_spacing_mm=(2 * rows, 2 * columns))

    def build(values: NDArray[np.float32], scale: float = 1.0, first: int = 0) -> Scan:
        planes = replace(
            base,
            positions_mm=base.positions_mm[first:] * scale,
            pixel_spacing_mm=(base.pixel_spacing_mm[0] * scale, base.pixel_spacing_mm[1] * scale),
        )
        return Scan(np.rint(values).clip(-32000, 32000).astype(np.int16), planes)

    def change(name: str) -> NDArray[np.float32]:
        angle, centre = float(rng.uniform(0, 2 * np.pi)), _find_centre(hu)
        return np.stack([CHANGES[name](plane, np.random.default_rng(1), angle, centre) for plane in hu])

    count = len(hu)
    air = np.full((count, *hu.shape[1:]), hu.min(), np.float32)
    return {
        "half resolution": build(hu),
        "half vertex": build(hu[count // 2 :], first=count // 2),
        "infant": build(change("opening"), 0.6),
        "newborn": build(change("opening"), 0.5),
        **{name: build(change(name)) for name in CHANGES},
        "prone": build(hu[:, ::-1]),
        "decubitus": build(np.rot90(hu, 1, (1, 2)).copy()) if hu.shape[1] == hu.shape[2] else build(hu[:, ::-1]),
        "rolled by 30 degrees": build(_rotate(hu, 30, (1, 2))),
        "tilted by 20 degrees": build(_rotate(hu, 20, (0, 1))),
        "wide field": build(np.concatenate([np.concatenate([hu, air], 2), np.concatenate([air, air], 2)], 1)),
    }


def _rotate(hu: NDArray[np.float32], angle_deg: float, axes: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(ndimage.rotate(hu, angle_deg, axes, reshape=False, order=1, cval=float(hu.min())))


def _find_centre(hu: NDArray[np.float32]) -> tuple[float, float]:
    rows, columns = np.nonzero((hu > _BONE_HU).any(0))
    return float(rows.mean()), float(columns.mean())


def _make_polar(plane: Plane, centre: tuple[float, float]) -> tuple[Plane, Plane]:
    """Return the distance from the centre and the angle of each pixel."""
    rows, columns = np.mgrid[: plane.shape[0], : plane.shape[1]].astype(np.float32)
    return np.hypot(rows - centre[0], columns - centre[1]), np.arctan2(rows - centre[0], columns - centre[1])


def _remove_bone(plane: Plane, rng: np.random.Generator, angle: float, centre: tuple[float, float]) -> Plane:
    """Replace the bone of a third of the skull with soft tissue, as after a craniectomy or at an open fontanelle."""
    _, angles = _make_polar(plane, centre)
    apart = np.abs((angles - angle + np.pi) % (2 * np.pi) - np.pi)
    return np.where((apart < 0.5) & (plane > _BRAIN_HU[1]), np.float32(35), plane)


def _add_bleed(plane: Plane, rng: np.random.Generator, angle: float, centre: tuple[float, float]) -> Plane:
    """Fill most of a hemisphere with blood."""
    _, angles = _make_polar(plane, centre)
    blood = (np.cos(angles - angle) > 0.1) & (plane > _BRAIN_HU[0]) & (plane < _BRAIN_HU[1])
    return np.where(blood, np.float32(0.3) * plane + np.float32(55), plane)


def _add_metal(plane: Plane, rng: np.random.Generator, angle: float, centre: tuple[float, float]) -> Plane:
    at = (centre[0] + 0.15 * plane.shape[0] * np.sin(angle), centre[1] + 0.15 * plane.shape[1] * np.cos(angle))
    distance, angles = _make_polar(plane, at)
    streaks = 120 * np.cos(18 * angles) * np.exp(-distance / (0.1 * plane.shape[0])) * (plane > -300)
    return np.where(distance < 0.012 * plane.shape[0], np.float32(3000), plane + streaks).astype(np.float32)


def _add_contrast(plane: Plane, rng: np.random.Generator, angle: float, centre: tuple[float, float]) -> Plane:
    changed = plane.copy()
    rows, columns = np.nonzero((plane > _BRAIN_HU[0]) & (plane < _BRAIN_HU[1]))
    for index in rng.integers(0, max(1, rows.size), 12 if rows.size else 0):
        distance, _ = _make_polar(plane, (float(rows[index]), float(columns[index])))
        changed[distance < 0.006 * plane.shape[0]] = 240
    return changed


def _add_noise(plane: Plane, rng: np.random.Generator, angle: float, centre: tuple[float, float]) -> Plane:
    return plane + rng.normal(0, 25, plane.shape).astype(np.float32)


CHANGES = {
    "craniotomy": _remove_bone,
    "opening": _remove_bone,
    "bleed of half a hemisphere": _add_bleed,
    "metal": _add_metal,
    "contrast medium": _add_contrast,
    "noise": _add_noise,
}
"""Changes of one slice, by name."""


def augment(rng: np.random.Generator, hu: NDArray[np.generic]) -> Plane:
    """Apply several random changes to a slice of a head.

    Parameters
    ----------
    rng : numpy.random.Generator
        Source of the changes.
    hu : ndarray, shape (rows, columns)
        The slice, Hounsfield units.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        The changed slice, of another size.
    """
    plane = hu.astype(np.float32)
    lowest = float(plane.min())
    if (plane > _BONE_HU).any():
        centre = _find_centre(plane[None])
        for name, share in zip(CHANGES, (0.15, 0.05, 0.2, 0.12, 0.12, 0.2), strict=True):
            if rng.random() < share:
                plane = CHANGES[name](plane, rng, float(rng.uniform(0, 2 * np.pi)), centre)
    if rng.random() < 0.7:
        angle = float(rng.uniform(-25, 25)) + (90 * int(rng.integers(4)) if rng.random() < 0.5 else 0)
        plane = ndimage.rotate(plane, angle, reshape=False, order=1, cval=lowest)
    plane = plane[:: int(rng.choice([1, 1, -1])), :: int(rng.choice([1, -1]))]
    form = rng.random()
    if form < 0.25:
        plane = np.pad(plane, int(rng.uniform(0.05, 0.5) * len(plane)), constant_values=lowest)
    elif form < 0.35 and (plane > _BONE_HU).any():
        rows, columns = np.nonzero(plane > _BONE_HU)
        cut = [slice(max(0, int(each.min()) - 3), int(each.max()) + 4) for each in (rows, columns)]
        plane = plane[cut[0], cut[1]]
    if rng.random() < 0.25:
        factor = max(float(rng.uniform(0.3, 0.8)), 80 / min(plane.shape))
        plane = ndimage.zoom(plane, (factor, factor * float(rng.uniform(0.85, 1.15))), order=1)
    if rng.random() < 0.3:
        plane = ndimage.gaussian_filter(plane, float(rng.uniform(0.3, 1.5)))
    if rng.random() < 0.3:
        plane = plane + float(rng.uniform(-6, 6))
    return np.ascontiguousarray(plane, dtype=np.float32)
