"""What a training slice goes through: a bleed put in, geometry, and the intensity model of CT.

Intensities are Hounsfield units until the last step, the window. Geometry is one resampling.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.segmentation.preprocess import BRAIN_WINDOW, apply_window, crop_square, find_head_square, resize
from strokeseg.training.data import UNKNOWN, Sample

Floats32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]

STORED_SIZE = 384
_LOW_HU, _HIGH_HU = -40.0, 120.0


@dataclass(frozen=True)
class StoredSlice:
    """A training slice as it waits in memory: the square around the head, 384 x 384, Hounsfield units as 8 bit."""

    source: str
    patient: str
    code: Bytes
    mask: Bytes
    boxed: bool
    labelled: bool = True

    @property
    def hu(self) -> Floats32:
        """Hounsfield units, clipped to -40..120, in steps of 0.63."""
        return self.code.astype(np.float32) * np.float32((_HIGH_HU - _LOW_HU) / 255) + np.float32(_LOW_HU)


def store_slice(sample: Sample) -> StoredSlice:
    """Cut the head out of a slice, as inference does, and keep it small."""
    square = find_head_square(sample.hu[None])
    hu = resize(np.clip(crop_square(sample.hu, square, -1024), _LOW_HU, _HIGH_HU), (STORED_SIZE, STORED_SIZE))
    code = np.rint((hu - _LOW_HU) / (_HIGH_HU - _LOW_HU) * 255).astype(np.uint8)
    outline = crop_square(sample.mask, square, 0)
    blood = resize(outline == 1, code.shape) > 0.5
    unknown = resize(outline == UNKNOWN, code.shape) > 0.3
    mask = np.where(blood, 1, np.where(unknown, UNKNOWN, 0)).astype(np.uint8)
    return StoredSlice(sample.source, sample.patient, code, mask, sample.boxed, sample.labelled)


def mark_inner_skull(hu: Floats32) -> NDArray[np.bool_]:
    """Mark the inside of the skull, where one closes; nothing where none does."""
    skull = ndimage.binary_closing(hu > 76, iterations=3)
    inside = ndimage.binary_fill_holes(skull) & ~skull
    labels, count = ndimage.label(ndimage.binary_opening(inside, iterations=2))
    if count == 0:
        return np.zeros(hu.shape, dtype=bool)
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return largest if largest.mean() > 0.08 else np.zeros(hu.shape, dtype=bool)


def paste_lesion(hu: Floats32, mask: Bytes, donor: StoredSlice, rng: np.random.Generator) -> tuple[Floats32, Bytes]:
    """Carry another slice's real bleed to the same place of this one, where soft tissue lies there."""
    shift = rng.integers(-25, 26, 2)
    blood = np.roll(np.flip(donor.mask == 1, 1) if (flip := rng.random() < 0.5) else donor.mask == 1, shift, (0, 1))
    theirs = np.roll(np.flip(donor.hu, 1) if flip else donor.hu, shift, (0, 1))
    tissue = ndimage.gaussian_filter(hu, 1.5)
    blood = blood & (tissue > 10) & (tissue < 70)
    if blood.sum() < 30:
        return hu, mask
    edge = ndimage.gaussian_filter(blood.astype(np.float32), 1.0)
    return hu * (1 - edge) + theirs * edge, np.where(blood, np.uint8(1), mask)


def add_crescent(hu: Floats32, mask: Bytes, rng: np.random.Generator, isodense: float = 0.0) -> tuple[Floats32, Bytes]:
    """Lay a crescent (subdural) or a lens (extradural) of isodense to bright blood under the skull.

    Parameters
    ----------
    hu, mask : ndarray of float32, shape (rows, columns)
        Hounsfield units, and 0 no blood, 1 blood, 2 unknown.
    isodense : float, default: 0.0
        The share that is made thin (at most 9 pixels of 0.6 mm) and of the cortex's density (36 to 50 HU).
    """
    inside = mark_inner_skull(hu)
    if not inside.any():
        return hu, mask
    depth = ndimage.distance_transform_edt(inside)
    rows, columns = np.indices(hu.shape)
    middle_row, middle_column = np.argwhere(inside).mean(0)
    angle = np.arctan2(rows - middle_row, columns - middle_column)
    lens = rng.random() < 0.35
    half = rng.uniform(0.2, 0.5) if lens else rng.uniform(0.4, 1.3)
    away = np.abs((angle - rng.uniform(-np.pi, np.pi) + np.pi) % (2 * np.pi) - np.pi) / half
    profile = np.clip(1 - away**2, 0, 1) ** (0.8 if lens else 0.5)
    thin = bool(isodense) and rng.random() < isodense
    thick = (rng.uniform(3, 9) if thin else rng.uniform(8, 26) if lens else rng.uniform(3, 16)) * profile
    wave = ndimage.gaussian_filter(rng.standard_normal(hu.shape), 12)
    blood = inside & (depth < thick * (1 + 3 * wave))
    if blood.sum() < 40:
        return hu, mask
    grey = rng.choice([rng.uniform(34, 45), rng.uniform(45, 58), rng.uniform(58, 72)])
    if thin:
        grey = rng.uniform(36, 50)
    texture = rng.normal(0, rng.uniform(2, 5), hu.shape) + 60 * wave * rng.uniform(0, 1)
    edge = ndimage.gaussian_filter(blood.astype(np.float32), 0.8)
    out = hu * (1 - edge) + (grey + ndimage.gaussian_filter(texture, 0.8) * 1.5) * edge
    return out.astype(np.float32), np.where(blood, np.uint8(1), mask)


def grow_bone(hu: Floats32, mask: Bytes, rng: np.random.Generator, vault: float = 0.0) -> tuple[Floats32, Bytes]:
    """Let the skull grow inwards: a thick cap as near the vertex, or ridges as at the skull's base.

    The training sets hold hardly a slice from there, and in the brain window a cap of bone looks like a large bleed. On
    the last slice below the vertex brain and bone share the slice's thickness: brain is then as bright as blood.

    Parameters
    ----------
    hu, mask : ndarray of float32, shape (rows, columns)
        Hounsfield units, and 0 no blood, 1 blood, 2 unknown.
    vault : float, default: 0.0
        Of the caps, the share below which brain and bone share the slice's thickness.
    """
    inside = mark_inner_skull(hu)
    if not inside.any():
        return hu, mask
    depth = ndimage.distance_transform_edt(inside)
    wave = ndimage.gaussian_filter(rng.standard_normal(hu.shape), 14)
    cap = rng.random() < 0.5
    if cap:
        reach = np.full(hu.shape, rng.uniform(3, 60))
    else:
        rows, columns = np.indices(hu.shape)
        middle_row, middle_column = np.argwhere(inside).mean(0)
        angle = np.arctan2(rows - middle_row, columns - middle_column)
        reach = np.zeros(hu.shape)
        for _ in range(rng.integers(1, 6)):
            away = np.abs((angle - rng.uniform(-np.pi, np.pi) + np.pi) % (2 * np.pi) - np.pi) / rng.uniform(0.08, 0.5)
            reach = np.maximum(reach, rng.uniform(10, 110) * np.clip(1 - away**2, 0, 1))
    grown = inside & (depth < reach * (1 + 4 * wave))
    edge = ndimage.gaussian_filter(grown.astype(np.float32), rng.uniform(0.6, 3.0))
    if vault and cap and rng.random() < vault:
        share = rng.uniform(0.1, 0.7) * (1 + 4 * ndimage.gaussian_filter(rng.standard_normal(hu.shape), 10))
        edge = np.maximum(edge, np.clip(share, 0, 1) * inside)
        mask = np.where(inside, np.uint8(0), mask)
    out = hu * (1 - edge) + rng.uniform(95, _HIGH_HU) * edge
    return out.astype(np.float32), np.where(edge > 0.3, np.uint8(0), mask)


def misread_window(hu: Floats32, rng: np.random.Generator) -> Floats32:
    """Read a picture of one common brain window (centre 40; width 80 or 120) as one of the other.

    A picture does not say its window, and an estimate is wrong for one in five: contrast grows or shrinks by half.
    """
    made, read = (120.0, 80.0) if rng.random() < 0.5 else (80.0, 120.0)
    seen = np.clip(hu - BRAIN_WINDOW[0], -made / 2, made / 2)
    return (seen * (read / made) + BRAIN_WINDOW[0]).astype(np.float32)


def _sampling_points(size: int, boxed: bool, rng: np.random.Generator) -> Floats32:
    """Make the (2, size, size) map from the output's pixels to the stored slice's (row, column)."""
    # Near the vertex a head fills half of the square that holds all of it.
    scale = STORED_SIZE / size / (rng.uniform(0.5, 0.85) if rng.random() < 0.2 else rng.uniform(0.85, 1.2))
    stretch = rng.uniform(0.92, 1.08)
    angle = 0.0 if boxed else np.radians(rng.normal(0, 12))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.random() < 0.5:
        turn = turn @ np.diag([1, -1])
    if rng.random() < 0.12:
        turn = turn @ np.diag([-1, 1])
    if rng.random() < 0.06:
        turn = turn @ np.array([[0, 1], [1, 0]])
    turn = turn @ np.diag([scale * stretch, scale / stretch])
    grid = np.indices((size, size)).reshape(2, -1) - (size - 1) / 2
    centre = (STORED_SIZE - 1) / 2 + rng.uniform(-16, 16, 2)
    places = (turn @ grid + centre[:, None]).reshape(2, size, size)
    if not boxed and rng.random() < 0.3:
        coarse = rng.normal(0, rng.uniform(2, 7), (2, 6, 6))
        places = places + np.stack([resize(plane, (size, size)) for plane in coarse])
    return places.astype(np.float32)


def transform_geometry(
    hu: Floats32, mask: Bytes, size: int, boxed: bool, rng: np.random.Generator
) -> tuple[Floats32, Bytes]:
    """Turn, flip, scale and bend; boxes are only flipped, scaled and shifted, so that they stay boxes."""
    places = _sampling_points(size, boxed, rng)
    moved = ndimage.map_coordinates(hu, places, order=1, cval=_LOW_HU)
    return moved, ndimage.map_coordinates(mask, places, order=0, cval=0)


def vary_intensity(hu: Floats32, rng: np.random.Generator) -> Floats32:
    """Vary what scanners and exports vary: resolution, kernel, noise, window, contrast curve; gives 0..1."""
    if rng.random() < 0.15:
        hu = misread_window(hu, rng)
    if rng.random() < 0.25:
        small = int(hu.shape[0] * rng.uniform(0.4, 0.85))
        hu = resize(resize(hu, (small, small)), hu.shape)
    if rng.random() < 0.3:
        blurred = ndimage.gaussian_filter(hu, rng.uniform(0.4, 1.1))
        hu = blurred if rng.random() < 0.6 else hu + rng.uniform(0.3, 0.9) * (hu - blurred)
    if rng.random() < 0.5:
        noise = ndimage.gaussian_filter(rng.standard_normal(hu.shape), sigma := rng.uniform(0.0, 1.0))
        hu = hu + noise * rng.uniform(0.5, 5) * (1 + 2 * sigma)
    centre = BRAIN_WINDOW[0] + rng.normal(0, 2.5) if rng.random() < 0.8 else BRAIN_WINDOW[0]
    width = BRAIN_WINDOW[1] * np.exp(rng.normal(0.03, 0.16)) if rng.random() < 0.8 else BRAIN_WINDOW[1]
    seen = apply_window(hu, (centre, width))
    if rng.random() < 0.3:
        seen = seen ** np.exp(rng.normal(0, 0.15))
    return seen.astype(np.float32)
