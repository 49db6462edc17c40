"""Derive the atlas of `strokeseg.measurements` from the ICBM 152 template: ``python -m tools.derive_atlas``.

The template is the MNI ICBM 152 2009a nonlinear symmetric one (T1, grey and white matter at 1 mm) in the data files of
the package nilearn. Only these files are read. The template's notice, which must accompany every derived file, is in
`measurements/head/atlas.md`.

Fonov V et al. Unbiased nonlinear average age-appropriate brain templates from birth to adulthood. NeuroImage
2009;47:S102. Fonov V et al. Unbiased average age-appropriate atlases for pediatric studies. NeuroImage 2011;54:313-327.
"""

from __future__ import annotations

import io
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from strokeseg import atomic_write
from strokeseg.measurements.head import atlas

Mask = NDArray[np.bool_]
Maps = dict[str, NDArray[np.float32]]
Floats = NDArray[np.float64]

_FILE = "nilearn/datasets/data/mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_ORIGIN_MM = (-98, -134, -72)
_SHAPE = (197, 233, 189)
# The template's mask follows the gyri. The skull's inner surface, visible in CT, spans them at about this distance.
_SUBARACHNOID_MM = 3.0
_BRIDGED_MM = 10.0
# The third and the fourth ventricle widen less with age than the lateral ones, so their distances are stretched.
_STRETCH = {"lateral": 1.0, "third": 1.6, "fourth": 2.5}
# The horns are closed in the template's young heads, and open or filled with blood in others. Their axes, |x|, y, z in
# mm, were drawn on the template by hand.
_HORNS_MM = (((27, -50, 4), (24, -76, 4)), ((28, -44, 0), (33, -26, -13)), ((33, -26, -13), (30, -8, -20)))
_HORN_RADIUS_MM = 2.0


def read_template() -> Maps:
    """Read the template's T1, grey and white matter, averaged with their mirror images.

    Returns
    -------
    dict of str to ndarray of float32, shape (x, y, z)
        Values from 0 to 1 at 1 mm, x to the right, y to the front, z to the vertex; the first voxel is at
        (-98, -134, -72) mm.

    Raises
    ------
    FileNotFoundError
        If nilearn is not installed.
    ValueError
        If the installed template is another one.
    """
    try:
        package = distribution("nilearn")
    except PackageNotFoundError as missing:
        raise FileNotFoundError("the template is in nilearn: pip install --no-deps nilearn==0.14.1") from missing
    maps: Maps = {}
    for name in ("t1", "gm", "wm"):
        image: Any = nibabel.load(str(package.locate_file(_FILE.format(name))))
        if image.shape != _SHAPE or tuple(image.affine[:3, 3]) != _ORIGIN_MM:
            raise ValueError(f"{_FILE.format(name)} is another template: {image.shape} from {image.affine[:3, 3]}")
        values = np.asarray(image.dataobj).astype(np.float32) / np.float32(255)
        maps[name] = np.asarray((values + values[::-1]) / 2, dtype=np.float32)
    return maps


def segment_template(maps: Maps) -> dict[str, Mask]:
    """Segment the template.

    Parameters
    ----------
    maps : dict of str to ndarray of float32
        From :func:`read_template`.

    Returns
    -------
    dict of str to ndarray of bool, shape (x, y, z)
        Masks by name.
    """
    brain = maps["t1"] > 0.05
    below = _segment_infratentorial(maps, brain)
    fluid = ndimage.gaussian_filter(np.where(brain, np.clip(1 - maps["gm"] - maps["wm"], 0, 1), 0), 0.7) > 0.4
    masks = {"brain": brain, "infratentorial": below, "supratentorial": brain & ~below, **_segment_ventricles(fluid)}
    masks["brainstem"] = _segment_brainstem(below)
    masks["deep"] = _segment_deep(masks)
    return masks


def compute_distances(masks: dict[str, Mask]) -> dict[str, Floats]:
    """Compute the signed distances of the atlas.

    Parameters
    ----------
    masks : dict of str to ndarray of bool
        Masks of the half from x = 0 on; in a symmetric head the nearest point is on the same side.

    Returns
    -------
    dict of str to ndarray of float
        Distances in mm, negative inside, by name.
    """
    far = ndimage.distance_transform_edt(~masks["brain"])
    inside = ndimage.distance_transform_edt(far <= _BRIDGED_MM) > _BRIDGED_MM - _SUBARACHNOID_MM
    ventricle = np.min([_signed_distance_mm(masks[name]) * stretch for name, stretch in _STRETCH.items()], axis=0)
    # The tentorium is half-way between the two, also where fluid or bone is between them.
    distances = [ndimage.distance_transform_edt(~masks[name]) for name in ("infratentorial", "supratentorial")]
    return {
        "inside": _signed_distance_mm(inside),
        "ventricle": ventricle,
        "infratentorial": distances[0] - distances[1],
        "brainstem": _signed_distance_mm(masks["brainstem"]),
        "deep": _signed_distance_mm(masks["deep"]),
    }


def derive_atlas() -> dict[str, NDArray[np.int8]]:
    """Derive the atlas: int8 maps of half the head, x from the mid-sagittal plane."""
    step = int(atlas.STEP_MM)
    start = [(first - origin) % step for first, origin in zip(atlas.ORIGIN_MM, _ORIGIN_MM, strict=True)]
    maps = {}
    half = {name: mask[-_ORIGIN_MM[0] :] for name, mask in segment_template(read_template()).items()}
    for name, distance in compute_distances(half).items():
        coarse = distance[::step, start[1] :: step, start[2] :: step]
        maps[name] = np.rint(np.clip(coarse, -atlas.MAX_DISTANCE_MM, atlas.MAX_DISTANCE_MM) / atlas.UNIT_MM).astype(
            np.int8
        )
    return maps


def main() -> int:
    """Write `measurements/head/atlas.npz`."""
    path = Path(atlas.__file__).with_name("atlas.npz")
    content = io.BytesIO()
    maps: dict[str, Any] = {**derive_atlas()}
    np.savez_compressed(content, **maps)
    atomic_write.write_file(path, content.getvalue(), "Run the command in a writable clone.")
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")
    return 0


def _make_grid() -> tuple[NDArray[np.int64], ...]:
    """Return |x|, y, z of every voxel in mm, to be broadcast."""
    x, y, z = np.meshgrid(
        *(np.arange(n) + o for n, o in zip(_SHAPE, _ORIGIN_MM, strict=True)), indexing="ij", sparse=True
    )
    return np.abs(x), y, z


def _mark_ellipsoids(*centres_and_halves: tuple[tuple[int, int, int], tuple[int, int, int]]) -> Mask:
    """Mark ellipsoids on both sides; centres and half axes as (|x|, y, z) in mm."""
    mask = np.zeros(_SHAPE, dtype=bool)
    for centre, half in centres_and_halves:
        mask |= sum(((a - c) / h) ** 2 for a, c, h in zip(_make_grid(), centre, half, strict=True)) <= 1
    return mask


def _mark_box(x: tuple[int, int], y: tuple[int, int], z: tuple[int, int]) -> Mask:
    """Mark boxes on both sides; ranges of |x|, y, z in mm, ends included."""
    return np.logical_and.reduce(
        np.broadcast_arrays(*((a >= low) & (a <= high) for a, (low, high) in zip(_make_grid(), (x, y, z), strict=True)))
    )


def _segment_infratentorial(maps: Maps, brain: Mask) -> Mask:
    """Segment what is below the tentorium: a watershed along the gap in the tissue, from markers on both sides."""
    _, y, z = _make_grid()
    marks = np.zeros(_SHAPE, dtype=np.int8)
    marks[np.broadcast_to(z > 12, _SHAPE)] = 1
    marks[
        _mark_ellipsoids(
            ((45, 0, -25), (15, 20, 8)),
            ((35, -30, -14), (14, 22, 3)),
            ((0, 40, -5), (40, 25, 15)),
            ((20, -90, 0), (15, 10, 8)),
            ((0, -10, 3), (25, 15, 8)),
        )
    ] = 1
    marks[
        _mark_ellipsoids(
            ((25, -65, -42), (22, 15, 14)),
            ((0, -62, -30), (8, 10, 10)),
            ((0, -28, -35), (14, 8, 12)),
            ((0, -26, -16), (9, 6, 5)),
            ((0, -40, -55), (6, 6, 12)),
        )
        | np.broadcast_to((z < -48) & (y < -25), _SHAPE)
    ] = 2
    marks[~brain] = 0
    gap = 1 - ndimage.gaussian_filter(maps["gm"] + maps["wm"], 1)
    below = watershed(gap, marks, mask=brain) == 2  # type: ignore[no-untyped-call]
    # There is no gap between the peduncles and the internal capsule.
    return np.asarray(below & ~_mark_box((18, 98), (-42, 40), (-18, 40)) & ~_mark_box((0, 98), (-30, 40), (-6, 40)))


def _segment_ventricles(fluid: Mask) -> dict[str, Mask]:
    """Segment the ventricles in the fluid; the adjacent cisterns are excluded by their location."""
    lateral = fluid & _mark_box((0, 42), (-80, 38), (-4, 34))
    lateral &= (
        ~_mark_box((0, 14), (-80, -23), (-4, 9))
        & ~_mark_box((0, 12), (-80, -51), (-4, 34))
        & ~_mark_box((0, 3), (-80, 38), (-4, 3))
    )
    marks = _mark_ellipsoids(((8, 15, 8), (6, 8, 8)), ((26, -46, 6), (6, 10, 6)), ((14, -20, 20), (8, 15, 5)))
    numbers, count = ndimage.label(lateral)
    is_marked = np.bincount(numbers[marks & lateral], minlength=count + 1) > 50
    is_marked[0] = False
    # The choroid plexus is inside the ventricle, but is not fluid.
    lateral = ndimage.binary_closing(is_marked[numbers], iterations=3)
    third = ndimage.binary_opening(fluid & _mark_box((0, 6), (-29, 4), (-10, 9)))
    fourth = ndimage.binary_opening(fluid & _mark_box((0, 16), (-54, -32), (-46, -20)))
    numbers, count = ndimage.label(fourth)
    fourth = numbers == np.bincount(numbers.ravel())[1:].argmax() + 1
    horns = np.logical_or.reduce([_mark_tube(*map(np.array, ends)) for ends in _HORNS_MM])
    return {"lateral": lateral | horns, "third": third, "fourth": fourth}


def _mark_tube(start: NDArray[np.int64], end: NDArray[np.int64]) -> Mask:
    """Mark tubes around a line on both sides, (|x|, y, z) in mm."""
    along = end - start
    offsets = [a - s for a, s in zip(_make_grid(), start, strict=True)]
    share = np.clip(sum(a * d for a, d in zip(offsets, along, strict=True)) / (along @ along), 0, 1)
    squared_distance = sum((a - share * d) ** 2 for a, d in zip(offsets, along, strict=True))
    return np.asarray(squared_distance <= _HORN_RADIUS_MM**2)


def _segment_brainstem(below: Mask) -> Mask:
    """Segment the brainstem, bounded by the floor of the fourth ventricle and 16 mm from the midline."""
    x, y, z = _make_grid()
    back = np.interp(z, (-72, -60, -45, -35, -20, -5), (-58, -52, -42, -36, -36, -38))
    half = np.interp(z, (-72, -48, -40), (11, 11, 16))
    return np.asarray(below & (y > back) & (x < half))


def _segment_deep(masks: dict[str, Mask]) -> Mask:
    """Segment basal ganglia, thalamus, the capsules between them, and the periventricular white matter.

    The nuclei are ellipsoids drawn on the template by hand.
    """
    nuclei = _mark_ellipsoids(
        ((24, 2, 1), (9, 21, 12)),  # putamen, pallidum
        ((13, 14, 8), (7, 13, 13)),  # caudate, head
        ((17, -2, 20), (6, 20, 7)),  # caudate, body
        ((12, -19, 6), (13, 17, 11)),  # thalamus
    )
    joined = ndimage.distance_transform_edt(ndimage.distance_transform_edt(~nuclei) <= 12) > 12
    walls = ndimage.distance_transform_edt(~(masks["lateral"] | masks["third"])) <= 5
    near = joined | (walls & _mark_box((0, 34), (-45, 40), (-8, 40)))
    return np.asarray(near & masks["supratentorial"])


def _signed_distance_mm(mask: Mask) -> Floats:
    out = ndimage.distance_transform_edt(~mask) - ndimage.distance_transform_edt(mask)
    # Half a voxel: the border is between the centres of two voxels.
    return np.asarray(out - 0.5 * np.sign(out))


if __name__ == "__main__":
    sys.exit(main())
