"""Whether an image to test on was trained on: near-duplicates by a perceptual hash, then by correlation.

An image is brought to 64 x 64 pixels: what the brain window shows of the box around the head. Its hash is the dHash of
256 bits (is a pixel darker than its right neighbour; 16 x 16, after Krawetz 2013, which has 8 x 8); it is compared in
all eight ways to lie (four quarter turns, each also mirrored). The correlation is that of both 64 x 64 pictures less
their own blur (3 pixels), so that the skull, which all heads share, counts for little.

Two images are near-duplicates if at most 20 bits differ and the correlation is 0.75 or more, or at most 40 and 0.92.
Where the other's pixels are not at hand, at most 12 bits. Where the numbers come from (1,443 slices of 12 sources, and
six whole stacks):

- 751,000 pairs of slices of people from different hospitals: at least 24 bits differ, in one pair of 10,000 at most 35;
  median 79. Their largest correlation is 0.904. With the 64 bits of an 8 x 8 dHash as few as 1 differ.
- The last slices at the vertex are alike in everybody: between six whole stacks 14 to 20 bits, correlation up to 0.65.
- The same slice published in two sets (CT-ICH 086 in both of its sets; BHSD in `bhsd_mini`, `mbhseg25_mini` and
  `bhsd_slices`): mostly 0 to 9 bits (resampled up to 17), correlation 0.93 to 1.00.
- 275 slices against altered copies of themselves, bits that differ (median; 95 of 100 within): mirrored 0; 4, JPEG of
  quality 50 1; 5, noise of 4 HU 3; 9, half the pixels 2; 16, contrast up by a fifth 3; 17, a window of 80 read as one
  of 120 5; 23, or the other way round 5; 24, turned by 3 degrees 20; 33 (the one that is mostly missed).

It does not tell the next slice of the same person from that of another, of which it finds one in ten: only patients'
names do.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from strokeseg.errors import Leakage
from strokeseg.evaluation.pairs import Normal, Pair
from strokeseg.evaluation.split_file import SplitRow
from strokeseg.segmentation.preprocess import apply_window, crop_square, find_head_square, resize
from strokeseg.training import data

MAX_BITS_HASH_ONLY = 12
"""So many bits may differ where the hash alone decides."""
DUPLICATE_LIMITS = ((20, 0.75), (40, 0.92))
"""(bits that may differ, least correlation)."""

Floats32 = NDArray[np.float32]
Bools = NDArray[np.bool_]
Thumbnail = Floats32
"""(64, 64), 0..1: what the brain window shows of the box around the head."""

_ROUGH, _SIDE, _BITS = 256, 64, 16
_TISSUE, _TRIM, _BLUR = 0.2, 0.01, 3.0
_LEAST_CONTRAST = 0.05
_NAMED = 5


def make_thumbnail(hu: NDArray[np.int16]) -> Thumbnail:
    """Show the box around the head, through the brain window, with 64 x 64 pixels.

    The box holds all rows and columns of the largest piece of tissue but the outermost hundredth of its pixels at each
    side; unlike :func:`head_square` it lies the same when the picture is mirrored or scaled.

    Parameters
    ----------
    hu : ndarray of int16, shape (rows, columns)
        Hounsfield units or an estimate.
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
    """Return a thumbnail's dHash: (256,), whether each of 16 x 16 pixels is darker than its right neighbour."""
    small = resize(picture, (_BITS, _BITS + 1))
    return (small[:, 1:] > small[:, :-1]).ravel()


def dhash(picture: Thumbnail) -> str:
    """Return a thumbnail's dHash as 64 hex digits."""
    return np.packbits(dhash_bits(picture)).tobytes().hex()


def unpack_dhashes(dhashes: Iterable[str]) -> Bools:
    """Give hashes of 64 hex digits as (hashes, 256) bits."""
    packed = [np.frombuffer(bytes.fromhex(digits), dtype=np.uint8) for digits in dhashes]
    return np.unpackbits(np.array(packed, dtype=np.uint8).reshape(-1, _BITS**2 // 8), axis=1).astype(bool)


def _orientations(picture: Thumbnail) -> list[Thumbnail]:
    """Return all eight ways in which a picture can lie."""
    return [np.rot90(side, turns) for side in (picture, picture[:, ::-1]) for turns in range(4)]


def count_differing_bits(pictures: Sequence[Thumbnail], hashes: Bools) -> NDArray[np.int64]:
    """Count the bits by which pictures, in the way in which it is least, differ from hashes.

    Parameters
    ----------
    pictures : sequence of Thumbnail
        Thumbnails.
    hashes : Bools
        (hashes, 256).

    Returns
    -------
    ndarray of int64
        (pictures, hashes).
    """
    apart = np.full((len(pictures), len(hashes)), _BITS**2, dtype=np.int64)
    theirs = hashes.astype(np.float32)
    for index, picture in enumerate(pictures):
        mine = np.array([dhash_bits(way) for way in _orientations(picture)], dtype=np.float32)
        common = mine @ theirs.T
        apart[index] = np.rint(mine.sum(1)[:, None] + theirs.sum(1) - 2 * common).min(0)
    return apart


def correlate(one: Thumbnail, other: Thumbnail) -> float:
    """Correlate two thumbnails less their blur, in the way in which it is most: -1..1."""
    theirs = _detail(other)
    return max(float(_detail(way) @ theirs) for way in _orientations(one))


def _detail(picture: Thumbnail) -> Floats32:
    detail = (picture - ndimage.gaussian_filter(picture, _BLUR)).ravel()
    detail = detail - detail.mean()
    return np.asarray(detail / max(float(np.linalg.norm(detail)), 1e-6), dtype=np.float32)


def find_near_duplicates(
    pictures: Sequence[Thumbnail], hashes: Bools, theirs: Callable[[int], Thumbnail | None]
) -> list[tuple[int, int]]:
    """Find the pairs (picture, hash) that are nearly the same image; a picture without contrast is none.

    Parameters
    ----------
    pictures : sequence of Thumbnail
        Thumbnails.
    hashes : Bools
        (hashes, 256).
    theirs : callable
        Gives the thumbnail of a hash by its index, or None where its pixels are not at hand; asked for candidates
        only.
    """
    apart = count_differing_bits(pictures, hashes)
    found = []
    for mine, other in np.argwhere(apart <= DUPLICATE_LIMITS[-1][0]).tolist():
        if pictures[mine].std() >= _LEAST_CONTRAST and _is_near_duplicate(
            int(apart[mine, other]), pictures[mine], theirs(other)
        ):
            found.append((mine, other))
    return found


def _is_near_duplicate(apart: int, one: Thumbnail, other: Thumbnail | None) -> bool:
    if other is None:
        return apart <= MAX_BITS_HASH_ONLY
    least = next(limit for most, limit in DUPLICATE_LIMITS if apart <= most)
    return correlate(one, other) >= least


def check_leakage(
    images: Sequence[Pair | Normal],
    rows: Sequence[SplitRow],
    root: Path | None = None,
    window: tuple[float, float] | None = None,
) -> None:
    """Make sure that no image is, or nearly is, on the training side of a split.

    Parameters
    ----------
    images : sequence of Pair or Normal
        To test on, normals too; every slice of a volume counts.
    rows : sequence of SplitRow
        Of the split.
    root : Path, optional
        Folder of the data sets, to compare pixels where the hashes alone leave a doubt.
    window : tuple of (float, float), optional
        (centre, width) of pictures; estimated where not given.

    Raises
    ------
    Leakage
        `leakage`; the sentence names the images.
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
    found = find_near_duplicates(
        pictures, unpack_dhashes(row.dhash for row in training), _SplitThumbnails(training, root)
    )
    refuse_duplicates((names[mine], f"{training[other].source} {training[other].name}") for mine, other in found)


def refuse_duplicates(found: Iterable[tuple[str, str]]) -> None:
    """Raise Leakage that names each image with one of those that it is the same as; nothing where there are none.

    Parameters
    ----------
    found : iterable of tuple of (str, str)
        Pairs of (image, image that was trained on).
    """
    same = dict(sorted(found, reverse=True))
    if same:
        shown = ", ".join(f"{image} as {same[image]}" for image in sorted(same)[:_NAMED])
        further = f" and {len(same) - _NAMED} more" if len(same) > _NAMED else ""
        raise Leakage(f"{len(same)} images are also among those trained on: {shown}{further}")


class _SplitThumbnails:
    """Reads the thumbnails of a split's images, each source once, when first asked for one of it."""

    def __init__(self, rows: Sequence[SplitRow], root: Path | None) -> None:
        self.rows, self.root = rows, root
        self.sources: dict[str, dict[str, Thumbnail]] = {}

    def __call__(self, index: int) -> Thumbnail | None:
        row = self.rows[index]
        if self.root is None or row.source not in data.SOURCES:
            return None
        if row.source not in self.sources:
            self.sources[row.source] = {s.name: make_thumbnail(s.hu) for s in data.stream(self.root, row.source)}
        return self.sources[row.source].get(row.name)
