"""Augmentation of training slices: synthetic lesions and bone, geometry, and the intensity model of CT.

Intensities are Hounsfield units until the last step, the window. The geometry is a single resampling.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg.scan_options import BRAIN_WINDOW
from strokeseg.segmentation.preprocess import HeadSquare, apply_window, crop_square, find_head_square, resize
from strokeseg.training.sample import UNKNOWN, Sample

Floats32 = NDArray[np.float32]
Bytes = NDArray[np.uint8]

STORED_SIZE = 384
_LOW_HU, _HIGH_HU = -40.0, 120.0


@dataclass(frozen=True)
class StoredSlice:
    """A training slice in memory: the square around the head, 384 x 384, Hounsfield units as 8 bit.

    Attributes
    ----------
    source, patient : str
        As in :class:`strokeseg.training.sample.Sample`.
    code, mask : ndarray of uint8, shape (STORED_SIZE, STORED_SIZE)
        Coded Hounsfield units; 0 no blood, 1 blood, 2 unknown.
    boxed, labelled : bool
        As in :class:`strokeseg.training.sample.Sample`.
    below, above : ndarray of uint8, shape (STORED_SIZE, STORED_SIZE), optional
        Coded neighbouring slices.
    """

    source: str
    patient: str
    code: Bytes
    mask: Bytes
    boxed: bool
    labelled: bool = True
    below: Bytes | None = None
    above: Bytes | None = None

    @property
    def hu(self) -> Floats32:
        """Hounsfield units, clipped to -40..120, in steps of 0.63."""
        return _decode_hu(self.code)

    @property
    def hu_with_neighbours(self) -> Floats32:
        """Hounsfield units of the slice below, this slice and the slice above, shape (3, rows, columns).

        This slice takes the place of a missing neighbour.
        """
        codes = (self.code if code is None else code for code in (self.below, self.code, self.above))
        return np.stack([_decode_hu(code) for code in codes])


class SliceStore:
    """Crop slices to the square around the head and store them as 8 bit; shared neighbours are in memory once.

    Parameters
    ----------
    neighbours : bool, default: False
        Store the neighbours of a slice too.
    """

    def __init__(self, neighbours: bool = False) -> None:
        self.neighbours = neighbours
        self.recent: list[tuple[NDArray[np.int16], HeadSquare, Bytes]] = []

    def __call__(self, sample: Sample) -> StoredSlice:
        """Store one sample; see :func:`store_slice`."""
        square = sample.square or find_head_square(sample.hu[None])
        stored = _make_stored(sample, square, self._encode(sample.hu, square))
        if not self.neighbours:
            return stored
        below, above = (None if hu is None else self._encode(hu, square) for hu in (sample.below, sample.above))
        return replace(stored, below=below, above=above)

    def _encode(self, hu: NDArray[np.int16], square: HeadSquare) -> Bytes:
        for other, other_square, code in self.recent:
            if other is hu and other_square == square:
                return code
        code = _encode_hu(hu, square)
        self.recent = [*self.recent[-5:], (hu, square, code)]
        return code


def store_slice(sample: Sample) -> StoredSlice:
    """Crop a slice to the square around the head, as segmentation does, and store it as 8 bit.

    The square of a slice of a whole scan is that around the head in all its slices.
    """
    return SliceStore()(sample)


def _encode_hu(hu: NDArray[np.int16], square: HeadSquare) -> Bytes:
    head = resize(np.clip(crop_square(hu, square, -1024), _LOW_HU, _HIGH_HU), (STORED_SIZE, STORED_SIZE))
    return np.rint((head - _LOW_HU) / (_HIGH_HU - _LOW_HU) * 255).astype(np.uint8)


def _decode_hu(code: Bytes) -> Floats32:
    return code.astype(np.float32) * np.float32((_HIGH_HU - _LOW_HU) / 255) + np.float32(_LOW_HU)


def _make_stored(sample: Sample, square: HeadSquare, code: Bytes) -> StoredSlice:
    outline = crop_square(sample.mask, square, 0)
    blood = resize(outline == 1, code.shape) > 0.5
    unknown = resize(outline == UNKNOWN, code.shape) > 0.3
    mask = np.where(blood, 1, np.where(unknown, UNKNOWN, 0)).astype(np.uint8)
    return StoredSlice(sample.source, sample.patient, code, mask, sample.boxed, sample.labelled)


def mark_inner_skull(hu: Floats32) -> NDArray[np.bool_]:
    """Mark the inside of the skull; nothing if no skull is closed."""
    skull = ndimage.binary_closing(hu > 76, iterations=3)
    inside = ndimage.binary_fill_holes(skull) & ~skull
    labels, count = ndimage.label(ndimage.binary_opening(inside, iterations=2))
    if count == 0:
        return np.zeros(hu.shape, dtype=bool)
    largest = labels == np.bincount(labels.ravel())[1:].argmax() + 1
    return largest if largest.mean() > 0.08 else np.zeros(hu.shape, dtype=bool)


def paste_lesion(hu: Floats32, mask: Bytes, donor: StoredSlice, rng: np.random.Generator) -> tuple[Floats32, Bytes]:
    """Paste a lesion of another slice, shifted and possibly mirrored, where this slice has soft tissue."""
    shift = rng.integers(-25, 26, 2)
    blood = np.roll(np.flip(donor.mask == 1, 1) if (flip := rng.random() < 0.5) else donor.mask == 1, shift, (0, 1))
    donor_hu = np.roll(np.flip(donor.hu, 1) if flip else donor.hu, shift, (0, 1))
    tissue = ndimage.gaussian_filter(hu, 1.5)
    blood = blood & (tissue > 10) & (tissue < 70)
    if blood.sum() < 30:
        return hu, mask
    edge = ndimage.gaussian_filter(blood.astype(np.float32), 1.0)
    return hu * (1 - edge) + donor_hu * edge, np.where(blood, np.uint8(1), mask)


def add_crescent(hu: Floats32, mask: Bytes, rng: np.random.Generator, isodense: float = 0.0) -> tuple[Floats32, Bytes]:
    """Add a crescent (subdural) or a lens (extradural) of isodense to bright blood under the skull.

    Parameters
    ----------
    hu, mask : ndarray of float32, shape (rows, columns)
        Hounsfield units; 0 no blood, 1 blood, 2 unknown.
    rng : numpy.random.Generator
        Random numbers.
    isodense : float, default: 0.0
        Probability that it is thin (at most 9 pixels of 0.6 mm) and as dense as the cortex (36 to 50 HU).

    Returns
    -------
    hu : ndarray of float32, shape (rows, columns)
        The changed slice.
    mask : ndarray of uint8, shape (rows, columns)
        Its mask.
    """
    inside = mark_inner_skull(hu)
    if not inside.any():
        return hu, mask
    depth = ndimage.distance_transform_edt(inside)
    rows, columns = np.indices(hu.shape)
    middle_row, middle_column = np.argwhere(inside).mean(0)
    angle = np.arctan2(rows - middle_row, columns - middle_column)
    lens = rng.random() < 0.35
    half_angle = rng.uniform(0.2, 0.5) if lens else rng.uniform(0.4, 1.3)
    offset = np.abs((angle - rng.uniform(-np.pi, np.pi) + np.pi) % (2 * np.pi) - np.pi) / half_angle
    profile = np.clip(1 - offset**2, 0, 1) ** (0.8 if lens else 0.5)
    thin = bool(isodense) and rng.random() < isodense
    thickness = (rng.uniform(3, 9) if thin else rng.uniform(8, 26) if lens else rng.uniform(3, 16)) * profile
    wave = ndimage.gaussian_filter(rng.standard_normal(hu.shape), 12)
    blood = inside & (depth < thickness * (1 + 3 * wave))
    if blood.sum() < 40:
        return hu, mask
    density = rng.choice([rng.uniform(34, 45), rng.uniform(45, 58), rng.uniform(58, 72)])
    if thin:
        density = rng.uniform(36, 50)
    texture = rng.normal(0, rng.uniform(2, 5), hu.shape) + 60 * wave * rng.uniform(0, 1)
    edge = ndimage.gaussian_filter(blood.astype(np.float32), 0.8)
    out = hu * (1 - edge) + (density + ndimage.gaussian_filter(texture, 0.8) * 1.5) * edge
    return out.astype(np.float32), np.where(blood, np.uint8(1), mask)


def grow_bone(hu: Floats32, mask: Bytes, rng: np.random.Generator, vault: float = 0.0) -> tuple[Floats32, Bytes]:
    """Extend the skull inwards: by a thick cap, as near the vertex, or by ridges, as at the skull base.

    The training sets hold hardly any slice from there, and in the brain window a cap of bone looks like a large lesion.
    In the last slice below the vertex brain and bone share the thickness of the slice: brain is as bright as blood.

    Parameters
    ----------
    hu, mask : ndarray of float32, shape (rows, columns)
        Hounsfield units; 0 no blood, 1 blood, 2 unknown.
    rng : numpy.random.Generator
        Random numbers.
    vault : float, default: 0.0
        Probability that brain and bone share the thickness of the slice below a cap.

    Returns
    -------
    hu : ndarray of float32, shape (rows, columns)
        The changed slice.
    mask : ndarray of uint8, shape (rows, columns)
        Its mask.
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
            offset = np.abs((angle - rng.uniform(-np.pi, np.pi) + np.pi) % (2 * np.pi) - np.pi) / rng.uniform(0.08, 0.5)
            reach = np.maximum(reach, rng.uniform(10, 110) * np.clip(1 - offset**2, 0, 1))
    added = inside & (depth < reach * (1 + 4 * wave))
    edge = ndimage.gaussian_filter(added.astype(np.float32), rng.uniform(0.6, 3.0))
    if vault and cap and rng.random() < vault:
        share = rng.uniform(0.1, 0.7) * (1 + 4 * ndimage.gaussian_filter(rng.standard_normal(hu.shape), 10))
        edge = np.maximum(edge, np.clip(share, 0, 1) * inside)
        mask = np.where(inside, np.uint8(0), mask)
    out = hu * (1 - edge) + rng.uniform(95, _HIGH_HU) * edge
    return out.astype(np.float32), np.where(edge > 0.3, np.uint8(0), mask)


def misread_window(hu: Floats32, rng: np.random.Generator) -> Floats32:
    """Read a picture of one common brain window (centre 40; width 80 or 120) as one of the other.

    A picture does not state its window, and one estimate in five is wrong: contrast increases or decreases by half.
    """
    true_width, read_width = (120.0, 80.0) if rng.random() < 0.5 else (80.0, 120.0)
    clipped = np.clip(hu - BRAIN_WINDOW[0], -true_width / 2, true_width / 2)
    return (clipped * (read_width / true_width) + BRAIN_WINDOW[0]).astype(np.float32)


def _sampling_points(size: int, boxed: bool, rng: np.random.Generator) -> Floats32:
    """Draw the (row, column) in the stored slice of every pixel of the output, (2, size, size)."""
    # Near the vertex a head fills half of the square around the whole head.
    scale = STORED_SIZE / size / (rng.uniform(0.5, 0.85) if rng.random() < 0.2 else rng.uniform(0.85, 1.2))
    stretch = rng.uniform(0.92, 1.08)
    angle = 0.0 if boxed else np.radians(rng.normal(0, 12))
    transform = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if rng.random() < 0.5:
        transform = transform @ np.diag([1, -1])
    if rng.random() < 0.12:
        transform = transform @ np.diag([-1, 1])
    if rng.random() < 0.06:
        transform = transform @ np.array([[0, 1], [1, 0]])
    transform = transform @ np.diag([scale * stretch, scale / stretch])
    grid = np.indices((size, size)).reshape(2, -1) - (size - 1) / 2
    centre = (STORED_SIZE - 1) / 2 + rng.uniform(-16, 16, 2)
    points = (transform @ grid + centre[:, None]).reshape(2, size, size)
    if not boxed and rng.random() < 0.3:
        coarse = rng.normal(0, rng.uniform(2, 7), (2, 6, 6))
        points = points + np.stack([resize(plane, (size, size)) for plane in coarse])
    return points.astype(np.float32)


def transform_geometry(
    hu: Floats32, mask: Bytes, size: int, boxed: bool, rng: np.random.Generator
) -> tuple[Floats32, Bytes]:
    """Rotate, flip, scale and warp a slice; boxes are only flipped, scaled and shifted, so that they stay boxes.

    Parameters
    ----------
    hu : ndarray of float32, shape (rows, columns) or (slices, rows, columns)
        Hounsfield units; several slices are transformed in the same way.
    mask : ndarray of uint8, shape (rows, columns)
        0 no blood, 1 blood, 2 unknown.
    size : int
        Rows and columns of the output.
    boxed : bool
        The mask holds boxes.
    rng : numpy.random.Generator
        Random numbers.

    Returns
    -------
    hu : ndarray of float32, shape (size, size) or (slices, size, size)
        The transformed slice or slices.
    mask : ndarray of uint8, shape (size, size)
        The mask of the slice.
    """
    points = _sampling_points(size, boxed, rng)
    planes = hu.reshape(-1, *hu.shape[-2:])
    resampled = np.stack([ndimage.map_coordinates(plane, points, order=1, cval=_LOW_HU) for plane in planes])
    resampled = resampled.reshape(*hu.shape[:-2], size, size)
    return resampled, ndimage.map_coordinates(mask, points, order=0, cval=0)


def vary_intensities(hu: Floats32, rng: np.random.Generator) -> Floats32:
    """Vary slices of one scan, (slices, rows, columns), all in the same way; only their noise differs."""
    parameter_seed, noise_seed = rng.integers(2**32, size=2)
    noise_rng = np.random.default_rng(noise_seed)
    return np.stack([vary_intensity(plane, np.random.default_rng(parameter_seed), noise_rng) for plane in hu])


def vary_intensity(hu: Floats32, rng: np.random.Generator, noise_rng: np.random.Generator | None = None) -> Floats32:
    """Vary resolution, kernel, noise, window and contrast curve, as scanners and exports do, and map to 0..1.

    Parameters
    ----------
    hu : ndarray of float32, shape (rows, columns)
        Hounsfield units.
    rng : numpy.random.Generator
        Random numbers.
    noise_rng : numpy.random.Generator, optional
        Random numbers of the noise. Default: those of ``rng``.

    Returns
    -------
    ndarray of float32, shape (rows, columns)
        Grey levels, 0..1.
    """
    if rng.random() < 0.15:
        hu = misread_window(hu, rng)
    if rng.random() < 0.25:
        small = int(hu.shape[0] * rng.uniform(0.4, 0.85))
        hu = resize(resize(hu, (small, small)), hu.shape)
    if rng.random() < 0.3:
        blurred = ndimage.gaussian_filter(hu, rng.uniform(0.4, 1.1))
        hu = blurred if rng.random() < 0.6 else hu + rng.uniform(0.3, 0.9) * (hu - blurred)
    if rng.random() < 0.5:
        white = (noise_rng or rng).standard_normal(hu.shape)
        noise = ndimage.gaussian_filter(white, sigma := rng.uniform(0.0, 1.0))
        hu = hu + noise * rng.uniform(0.5, 5) * (1 + 2 * sigma)
    centre = BRAIN_WINDOW[0] + rng.normal(0, 2.5) if rng.random() < 0.8 else BRAIN_WINDOW[0]
    width = BRAIN_WINDOW[1] * np.exp(rng.normal(0.03, 0.16)) if rng.random() < 0.8 else BRAIN_WINDOW[1]
    windowed = apply_window(hu, (centre, width))
    if rng.random() < 0.3:
        windowed = windowed ** np.exp(rng.normal(0, 0.15))
    return windowed.astype(np.float32)
