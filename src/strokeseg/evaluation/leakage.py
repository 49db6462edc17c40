"""Find test images that are also training images: near-duplicates by a perceptual hash, then by correlation.

An image is reduced to 64 x 64 pixels: the box around the head, through the brain window. Its hash is the dHash of 256
bits (whether a pixel is darker than its right neighbour; 16 x 16, after Krawetz 2013, which has 8 x 8). It is compared
in all eight orientations (four quarter turns, each also mirrored). The correlation is that of both 64 x 64 pictures
minus their own blur (3 pixels), so that the skull, which all heads share, counts for little.

Two images are near-duplicates if at most 20 bits differ and the correlation is 0.75 or more, or at most 40 bits and
0.92. If the pixels of the training image are not available, at most 12 bits may differ. The thresholds come from 1,443
slices of 12 sources and six whole stacks:

- In 751,000 pairs of slices of people from different hospitals at least 24 bits differ, in one pair of 10,000 at most
  35; median 79. Their largest correlation is 0.904. With the 64 bits of an 8 x 8 dHash as few as 1 bit differs.
- The last slices at the vertex are similar in everybody: between six whole stacks 14 to 20 bits, correlation up to
  0.65.
- The same slice published in two sets (CT-ICH 086 in both of its sets; BHSD in `bhsd_mini`, `mbhseg25_mini` and
  `bhsd_slices`): mostly 0 to 9 bits (resampled up to 17), correlation 0.93 to 1.00.
- 275 slices against altered copies of themselves, bits that differ (median; 95 of 100 within): mirrored 0; 4, JPEG of
  quality 50 1; 5, noise of 4 HU 3; 9, half the pixels 2; 16, contrast up by a fifth 3; 17, a window of 80 read as one
  of 120 5; 23, or the other way round 5; 24, turned by 3 degrees 20; 33 (the one that is mostly missed).

It does not detect the neighbouring slice of the same person, of which it finds one in ten: only patients' names do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from strokeseg.errors import Leakage
from strokeseg.evaluation.pairs import Normal, Pair
from strokeseg.evaluation.scans import ScanCase
from strokeseg.evaluation.split_file import SplitRow
from strokeseg.segmentation.preprocess import apply_window, crop_square, find_head_square, resize

MAX_BITS_HASH_ONLY = 12
"""Bits that may differ if the hash alone decides."""
DUPLICATE_LIMITS = ((20, 0.75), (40, 0.92))
"""Pairs of (bits that may differ, lowest correlation)."""

Floats32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Thumbnail = Floats32
"""Shape (64, 64), 0..1: the box around the head, through the brain window."""
SourceReader = Callable[[str], Iterable[tuple[str, NDArray[np.int16]]] | None]
"""Takes the name of a source, and returns its slices as (name, Hounsfield units), or None if they are not available."""

_ROUGH, _SIDE, _BITS = 256, 64, 16
_TISSUE, _TRIM, _BLUR = 0.2, 0.01, 3.0
_MIN_CONTRAST = 0.05
_NAMED = 5


def make_thumbnail(hu: NDArray[np.int16]) -> Thumbnail:
    """Reduce the box around the head, through the brain window, to 64 x 64 pixels.

    The box holds the largest component of tissue, without the outermost hundredth of its pixels at each side. Unlike
    :func:`strokeseg.segmentation.preprocess.find_head_square` it does not move when the picture is mirrored or scaled.

    Parameters
    ----------
    hu : ndarray of int16, shape (rows, columns)
        Hounsfield units or an estimate.

    Returns
    -------
    ndarray of float32, shape (64, 64)
        Grey levels, 0..1.
    """
    rough = resize(apply_window(crop_square(hu, find_head_square(hu[None]), -1024)), (_ROUGH, _ROUGH))
    labels, count = ndimage.label(rough > _TISSUE)
    tissue = labels == np.bincount(labels.ravel())[1:].argmax() + 1 if count else np.ones(rough.shape, dtype=bool)
    (top, bottom), (left, right) = (_trimmed_extent(tissue.sum(axis)) for axis in (1, 0))
    if min(bottom - top, right - left) < _ROUGH / 16:
        top, bottom, left, right = 0.0, float(_ROUGH), 0.0, float(_ROUGH)
    picture = Image.fromarray(rough)
    small = picture.resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box=(left, top, right, bottom))
    return np.asarray(small, dtype=np.float32)


def _trimmed_extent(profile: NDArray[np.int64]) -> tuple[float, float]:
    share = np.concatenate([[0.0], np.cumsum(profile)]) / profile.sum()
    low, high = np.interp([_TRIM, 1 - _TRIM], share, np.arange(len(share)))
    return float(low), float(high)


def dhash_bits(picture: Thumbnail) -> Bools:
    """Compute a thumbnail's dHash, (256,): whether each of 16 x 16 pixels is darker than its right neighbour."""
    small = resize(picture, (_BITS, _BITS + 1))
    return (small[:, 1:] > small[:, :-1]).ravel()


def dhash(picture: Thumbnail) -> str:
    """Compute a thumbnail's dHash as 64 hex digits."""
    return np.packbits(dhash_bits(picture)).tobytes().hex()


def unpack_dhashes(dhashes: Iterable[str]) -> Bools:
    """Convert hashes of 64 hex digits to bits, (hashes, 256)."""
    packed = [np.frombuffer(bytes.fromhex(digits), dtype=np.uint8) for digits in dhashes]
    return np.unpackbits(np.array(packed, dtype=np.uint8).reshape(-1, _BITS**2 // 8), axis=1).astype(bool)


def _orientations(picture: Thumbnail) -> list[Thumbnail]:
    """Return a picture in all eight orientations."""
    return [np.rot90(side, turns) for side in (picture, picture[:, ::-1]) for turns in range(4)]


def count_differing_bits(pictures: Sequence[Thumbnail], hashes: Bools) -> NDArray[np.int64]:
    """Count the bits by which pictures differ from hashes, in the orientation in which they differ least.

    Parameters
    ----------
    pictures : sequence of ndarray, each of shape (64, 64)
        Thumbnails.
    hashes : ndarray of bool, shape (hashes, 256)
        Bits of the hashes.

    Returns
    -------
    ndarray of int64, shape (pictures, hashes)
        Number of bits.
    """
    distances = np.full((len(pictures), len(hashes)), _BITS**2, dtype=np.int64)
    hash_bits = hashes.astype(np.float32)
    for index, picture in enumerate(pictures):
        picture_bits = np.array([dhash_bits(oriented) for oriented in _orientations(picture)], dtype=np.float32)
        common = picture_bits @ hash_bits.T
        distances[index] = np.rint(picture_bits.sum(1)[:, None] + hash_bits.sum(1) - 2 * common).min(0)
    return distances


def correlate(one: Thumbnail, other: Thumbnail) -> float:
    """Correlate two thumbnails minus their blur, in the orientation with the highest correlation: -1..1."""
    other_detail = _detail(other)
    return max(float(_detail(oriented) @ other_detail) for oriented in _orientations(one))


def _detail(picture: Thumbnail) -> Floats32:
    detail = (picture - ndimage.gaussian_filter(picture, _BLUR)).ravel()
    detail = detail - detail.mean()
    return np.asarray(detail / max(float(np.linalg.norm(detail)), 1e-6), dtype=np.float32)


def find_near_duplicates(
    pictures: Sequence[Thumbnail], hashes: Bools, read_thumbnail: Callable[[int], Thumbnail | None]
) -> list[tuple[int, int]]:
    """Find the pairs of picture and hash that are nearly the same image; pictures without contrast are left out.

    Parameters
    ----------
    pictures : sequence of ndarray, each of shape (64, 64)
        Thumbnails.
    hashes : ndarray of bool, shape (hashes, 256)
        Bits of the hashes.
    read_thumbnail : callable
        Returns the thumbnail of a hash by its index, or None if its pixels are not available; called for candidates
        only.

    Returns
    -------
    list of tuple of (int, int)
        Indices of picture and hash.
    """
    distances = count_differing_bits(pictures, hashes)
    duplicates = []
    for index, hash_index in np.argwhere(distances <= DUPLICATE_LIMITS[-1][0]).tolist():
        picture, distance = pictures[index], int(distances[index, hash_index])
        if picture.std() >= _MIN_CONTRAST and _is_near_duplicate(distance, picture, read_thumbnail(hash_index)):
            duplicates.append((index, hash_index))
    return duplicates


def _is_near_duplicate(distance: int, one: Thumbnail, other: Thumbnail | None) -> bool:
    if other is None:
        return distance <= MAX_BITS_HASH_ONLY
    min_correlation = next(limit for bits, limit in DUPLICATE_LIMITS if distance <= bits)
    return correlate(one, other) >= min_correlation


def check_leakage(
    images: Sequence[Pair | Normal | ScanCase],
    rows: Sequence[SplitRow],
    read_source: SourceReader | None = None,
    window: tuple[float, float] | None = None,
) -> None:
    """Refuse images that are, or nearly are, on the training side of a split.

    Parameters
    ----------
    images : sequence of Pair, Normal or ScanCase
        Test images and normals, or whole scans; every slice of a volume counts.
    rows : sequence of SplitRow
        The split.
    read_source : callable, optional
        Reads the slices of a source, to compare pixels if the hashes alone do not decide.
    window : tuple of (float, float), optional
        Centre and width of pictures. Estimated by default.

    Raises
    ------
    Leakage
        `leakage`; the message names the images.
    InputError
        As :func:`strokeseg.reading.read_one`.
    """
    from strokeseg.reading import read_one

    training = [row for row in rows if row.side == "train"]
    names, pictures = [], []
    for image in images:
        for plane in read_one(image.image, window=window).hu:
            names.append(image.name)
            pictures.append(make_thumbnail(plane))
    duplicates = find_near_duplicates(
        pictures, unpack_dhashes(row.dhash for row in training), _SplitThumbnails(training, read_source)
    )
    refuse_duplicates((names[index], f"{training[row].source} {training[row].name}") for index, row in duplicates)


def refuse_duplicates(duplicates: Iterable[tuple[str, str]]) -> None:
    """Raise Leakage if there are duplicates.

    Parameters
    ----------
    duplicates : iterable of tuple of (str, str)
        Pairs of a test image and a training image.

    Raises
    ------
    Leakage
        `leakage`; the message names each test image with one training image.
    """
    same = dict(sorted(duplicates, reverse=True))
    if same:
        shown = ", ".join(f"{image} as {same[image]}" for image in sorted(same)[:_NAMED])
        further = f" and {len(same) - _NAMED} more" if len(same) > _NAMED else ""
        raise Leakage(f"{len(same)} test images are also training images: {shown}{further}")


class _SplitThumbnails:
    """Thumbnails of a split's images; each source is read once, when its first thumbnail is needed."""

    def __init__(self, rows: Sequence[SplitRow], read_source: SourceReader | None) -> None:
        self.rows, self.read_source = rows, read_source
        self.thumbnails: dict[str, dict[str, Thumbnail]] = {}

    def __call__(self, index: int) -> Thumbnail | None:
        row = self.rows[index]
        if self.read_source is None:
            return None
        if row.source not in self.thumbnails:
            slices = self.read_source(row.source) or ()
            self.thumbnails[row.source] = {name: make_thumbnail(hu) for name, hu in slices}
        return self.thumbnails[row.source].get(row.name)
