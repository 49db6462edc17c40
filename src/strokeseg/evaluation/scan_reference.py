"""Read the annotation of a whole scan onto the pixels of the scan as it was read: in its order of slices."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from strokeseg.errors import TrainError
from strokeseg.evaluation.image_files import (
    PICTURE_ENDINGS,
    binarize,
    format_shape,
    get_stem,
    load_nifti,
    read_affine_mm,
    read_mask_values,
    three_axes,
)
from strokeseg.evaluation.scan_row import Reference
from strokeseg.reading import input_file
from strokeseg.reading.pictures.picture_stack import ENDINGS, natural_sort_key
from strokeseg.scan import Scan

_MAX_OFFSET = 0.25
"""Largest distance between the centres of a pixel of the scan and of the mask, pixels of the mask."""
_STRIDE = 4


def make_empty_reference(scan: Scan) -> Reference:
    """Return the annotation of a scan without blood."""
    return Reference(np.zeros(scan.shape, dtype=bool), np.ones(scan.shape, dtype=bool))


def read_volume_mask(scan: Scan, mask: Path, ignore: int | None = None) -> Reference:
    """Read a NIfTI mask of a scan with positions: a DICOM series or a volume.

    Parameters
    ----------
    scan : Scan
        The scan.
    mask : Path
        The mask, in any orientation.
    ignore : int, optional
        Value for unknown pixels.

    Returns
    -------
    Reference
        The annotation.

    Raises
    ------
    TrainError
        `train`, if the mask cannot be read, is not binary, or is not on the pixels of the scan; or the scan consists of
        pictures, which have no positions.
    """
    label = f"{mask.parent.name}/{mask.name}"
    if scan.kind in ("pictures", "array"):
        raise TrainError(f"{label}: a volume as mask of pictures", "Give pictures of the same names as masks.")
    image = load_nifti(mask)
    try:
        values = np.asanyarray(image.dataobj)
        values = values.reshape(three_axes(values.shape))
    except (OSError, EOFError, ValueError):
        raise TrainError(f"{label}: not a complete single NIfTI volume") from None
    to_voxels = np.asarray(np.linalg.inv(read_affine_mm(image)), dtype=np.float64)
    sampled = np.zeros(scan.shape, values.dtype)
    for index in range(len(sampled)):
        sampled[index] = _sample_plane(values, _find_voxels(scan, index, to_voxels), label)
    return Reference(*binarize(sampled, label, ignore))


def _find_voxels(scan: Scan, index: int, to_voxels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the voxels of the mask at the pixels of a slice, (3, rows, columns), not rounded."""
    rows, columns = scan.shape[1:]
    corners = scan.planes.to_lps_mm([[index, 0, 0], [index, 1, 0], [index, 0, 1]]) * (-1, -1, 1)  # RAS
    origin, below, beside = (corners @ to_voxels[:3, :3].T) + to_voxels[:3, 3]
    return (
        origin[:, None, None]
        + (below - origin)[:, None, None] * np.arange(rows)[:, None]
        + (beside - origin)[:, None, None] * np.arange(columns)
    )


def _sample_plane(values: NDArray[Any], voxels: NDArray[np.float64], label: str) -> NDArray[Any]:
    nearest = np.rint(voxels)
    limits = np.array(values.shape)[:, None, None]
    if np.abs(voxels - nearest).max() > _MAX_OFFSET or (nearest < 0).any() or (nearest >= limits).any():
        raise TrainError(
            f"{label}: the mask is not on the pixels of its scan",
            "Give masks on the pixels of their scans; do not resample one without the other.",
        )
    return values[tuple(nearest.astype(np.intp))]


def read_picture_masks(scan: Scan, path: Path, masks: Path, ignore: int | None = None) -> Reference:
    """Read the masks of a stack of pictures; a picture without a mask of its name has no blood.

    Parameters
    ----------
    scan : Scan
        The scan.
    path : Path
        Its pictures: a folder, or a single picture.
    masks : Path
        Folder of the masks.
    ignore : int, optional
        Value for unknown pixels.

    Returns
    -------
    Reference
        The annotation.

    Raises
    ------
    TrainError
        `train`, if a mask cannot be used or belongs to no picture, or the slices cannot be matched with the pictures.
    """
    names = [get_stem(picture.name) for picture in list_pictures_in_order(path, scan)]
    files = {
        get_stem(file.name): file
        for file in sorted(masks.iterdir())
        if file.name.lower().endswith(PICTURE_ENDINGS) and not file.name.startswith(".")
    }
    if missing := sorted(set(files) - set(names)):
        raise TrainError(f"{masks.name}/{files[missing[0]].name}: {path.name} has no picture of that name")
    truth, known = np.zeros(scan.shape, dtype=bool), np.ones(scan.shape, dtype=bool)
    for index, name in enumerate(names):
        if name in files:
            label, values = f"{masks.name}/{files[name].name}", read_mask_values(files[name])
            if values.shape != scan.shape[1:]:
                raise TrainError(
                    f"{label}: the mask has {format_shape(values.shape)} pixels, its picture "
                    f"{format_shape(scan.shape[1:])}",
                    "Give masks on the pixels of their pictures.",
                )
            truth[index], known[index] = binarize(values, label, ignore)
    return Reference(truth, known)


def list_pictures_in_order(path: Path, scan: Scan) -> list[Path]:
    """List the pictures of a stack in the order of the slices of the scan that was read from them.

    The reader stacks pictures by their names, the first as the lowest, but may turn a stack. The pixels of the first
    and the last picture tell which way it runs.

    Parameters
    ----------
    path : Path
        Folder of the pictures, or a single picture.
    scan : Scan
        The scan.

    Returns
    -------
    list of Path
        A picture for each slice.

    Raises
    ------
    TrainError
        `train`, if there are more or fewer pictures than slices, or they are not files of a folder.
    """
    files = [path]
    if path.is_dir():
        listed = [file for file in input_file.list_folder(path) if file.name.lower().endswith(ENDINGS)]
        files = [path / file.name for file in sorted(listed, key=lambda file: natural_sort_key(file.name))]
    if scan.kind != "pictures" or len(files) != len(scan.hu) or not files[0].name.lower().endswith(ENDINGS):
        raise TrainError(
            f"{path.name}: {len(scan.hu)} slices were read, and there are {len(files)} pictures to match with masks",
            "Give each scan as a folder of pictures, one for each slice.",
        )
    first, last = (_read_coarse(files[index], scan) for index in (0, -1))
    lowest, highest = (scan.hu[index, ::_STRIDE, ::_STRIDE] for index in (0, -1))
    is_turned = _correlate([(first, highest), (last, lowest)]) > _correlate([(first, lowest), (last, highest)])
    return files[::-1] if is_turned else files


def _read_coarse(picture: Path, scan: Scan) -> NDArray[np.float64]:
    with Image.open(picture) as image:
        grey = np.asarray(image.convert("L") if image.mode not in ("I", "I;16", "F") else image, dtype=np.float64)
    if grey.shape != scan.shape[1:]:
        raise TrainError(f"{picture.name}: {format_shape(grey.shape)} pixels, {format_shape(scan.shape[1:])} were read")
    return grey[::_STRIDE, ::_STRIDE]


def _correlate(pairs: Iterable[tuple[NDArray[Any], NDArray[Any]]]) -> float:
    """Return the sum of the correlations of pairs; 0 for one with a plane of a single value."""
    return sum(
        float(np.corrcoef(one.ravel(), other.ravel())[0, 1]) if one.std() > 0 and other.std() > 0 else 0.0
        for one, other in pairs
    )
