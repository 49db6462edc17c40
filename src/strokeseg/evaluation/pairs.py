"""Find images, their masks and their patients in a folder.

There are three layouts: ``images/NAME.jpg`` with ``masks/NAME.png`` (the names of the two folders and the
extensions may differ), the same with NIfTI volumes, and one folder of NIfTI volumes in which ``NAME_mask.nii.gz`` (or
``_seg``, ``_label``) lies beside ``NAME.nii.gz``. A folder of images without blood needs no masks.
"""

from __future__ import annotations

import filecmp
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import TrainError
from strokeseg.evaluation.image_files import (
    PICTURE_ENDINGS,
    VOLUME_ENDINGS,
    Spacing,
    binarize,
    format_shape,
    get_stem,
    is_volume,
    read_mask_values,
    read_size,
    read_volume_spacing_mm,
)
from strokeseg.evaluation.patients import list_index_columns, patient_lookup

MASK_ENDING = re.compile(r"^(.+)_(mask|seg|label)$")

Bools = NDArray[np.bool_]


@dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Attributes
    ----------
    name : str
        The image's file name without extension.
    image, mask : Path
        The two files.
    patient : str
        The patient; pairs of one patient are always drawn together.
    ignore : int, optional
        Value of the mask for unknown pixels.
    labels : tuple of int, optional
        Values of the mask that are blood. By default the mask must be binary.
    picture_spacing_mm : tuple of float, optional
        (slice, row, column), mm, of a picture; a volume has its own.
    """

    name: str
    image: Path
    mask: Path
    patient: str
    ignore: int | None = None
    labels: tuple[int, ...] | None = None
    picture_spacing_mm: Spacing | None = None

    @property
    def is_volume(self) -> bool:
        """Whether the slices are those of one volume, so that lesions and surfaces extend over slices."""
        return is_volume(self.image)

    def read_spacing_mm(self) -> Spacing | None:
        """Read the spacing, slices along their normal.

        Returns
        -------
        tuple of float, optional
            (slice, row, column), mm; None if it is unknown.

        Raises
        ------
        TrainError
            `train`, if the volume cannot be read.
        """
        return read_volume_spacing_mm(self.image) if self.is_volume else self.picture_spacing_mm

    def read_truth(self) -> tuple[Bools, Bools]:
        """Read the mask.

        Returns
        -------
        truth : ndarray of bool, shape (slices, rows, columns)
            Annotated blood, in the order of a Scan. A picture has one slice.
        known : ndarray of bool, same shape
            Where the truth is known.

        Raises
        ------
        TrainError
            `train`, if the mask cannot be read, is not binary (without labels), or has another size than the image.
        """
        values, size = read_mask_values(self.mask), read_size(self.image)
        label = f"{self.mask.parent.name}/{self.mask.name}"
        if size != values.shape:
            raise TrainError(
                f"{label}: the mask has {format_shape(values.shape)} pixels, "
                f"its image {self.image.name} {format_shape(size)}",
                "Give masks on the pixels of their images; do not resample one without the other.",
            )
        truth, known = binarize(values, label, self.ignore, self.labels)
        return (truth, known) if values.ndim == 3 else (truth[None], known[None])


@dataclass(frozen=True)
class Normal:
    """An image without blood; it needs no mask.

    Attributes
    ----------
    name : str
        The image's file name without extension.
    image : Path
        The file.
    patient : str
        The patient.
    """

    name: str
    image: Path
    patient: str

    def read_truth(self) -> tuple[Bools, Bools]:
        """Return an empty mask, in the form of :meth:`Pair.read_truth`."""
        size = read_size(self.image)
        shape = size if len(size) == 3 else (1, *size)
        return np.zeros(shape, dtype=bool), np.ones(shape, dtype=bool)


def find_pairs(
    folder: str | Path,
    images: str = "images",
    masks: str = "masks",
    patient: str | None = None,
    ignore: int | None = None,
    labels: tuple[int, ...] | None = None,
    picture_spacing_mm: Spacing | None = None,
) -> list[Pair]:
    r"""Find the pairs of images and masks in a folder, sorted by name, each checked.

    Parameters
    ----------
    folder : str or Path
        Holds the folders of images and masks, and optionally an ``index.csv``; or NIfTI pairs.
    images, masks : str, default: "images"
        Names of the two folders.
    patient : str, optional
        A column of ``index.csv``, or a regular expression whose first group (or whole match) in the file's name is
        the patient, such as ``^(\d+)_``. Default: the column ``patient``; without it the name of a picture up to its
        last underscore (``077_20`` is of patient 077), or the whole name; each volume is a patient of its own.
    ignore : int, optional
        Value in the masks for unknown pixels (128 in some sets); they count neither way.
    labels : tuple of int, optional
        Values in the masks that are blood. By default the masks must be binary.
    picture_spacing_mm : tuple of float, optional
        (slice, row, column), mm, of all pictures.

    Returns
    -------
    list of Pair
        The pairs.

    Raises
    ------
    TrainError
        `train`, if the folder or a mask is missing, there is no pair, a patient is unknown, or a mask is not binary
        (0 and 255, or 0 and 1) or has another size than its image.
    """
    folder = Path(folder)
    if (folder / images).is_dir():
        matches = _match_two_folders(folder / images, folder / masks)
    else:
        matches = _match_one_folder(folder)
    if not matches:
        raise TrainError(
            f"{folder}: no image with a mask",
            f"Give a folder that holds {images}/ and {masks}/ with files of the same names, or NIfTI pairs.",
        )
    get_patient = patient_lookup(folder, patient)
    pairs = [
        Pair(name, image, mask, get_patient(image), ignore, labels, picture_spacing_mm) for name, image, mask in matches
    ]
    for pair in pairs:
        pair.read_truth()
    return pairs


def find_normals(
    folder: str | Path, patient: str | None = None, pairs: Sequence[Pair] = (), beside: str | Path | None = None
) -> list[Normal]:
    """Find images without blood in a folder, sorted by name.

    Parameters
    ----------
    folder : str or Path
        Holds pictures or NIfTI volumes, and optionally an ``index.csv``.
    patient : str, optional
        As in :func:`find_pairs`.
    pairs : sequence of Pair, default: ()
        Pairs with blood; none of their files may be a normal.
    beside : str or Path, optional
        Folder of the pairs. If only its ``index.csv`` has the column ``patient``, the normals go by their names.

    Returns
    -------
    list of Normal
        The images.

    Raises
    ------
    TrainError
        `train`, if the folder is missing or empty, a patient is unknown, or an image cannot be read, is one of the
        pairs, or is named like a mask.
    """
    folder = Path(folder)
    images = _list_by_stem(folder) if folder.is_dir() else {}
    if not images:
        raise TrainError(f"{folder}: no image in it", "Give a folder that holds pictures or NIfTI volumes.")
    if beside is not None and patient in list_index_columns(Path(beside)) and patient not in list_index_columns(folder):
        patient = None
    get_patient = patient_lookup(folder, patient)
    _refuse_files_of_pairs(images, pairs)
    for image in images.values():
        read_size(image)
    return [Normal(stem, image, get_patient(image)) for stem, image in images.items()]


def _refuse_files_of_pairs(images: dict[str, Path], pairs: Sequence[Pair]) -> None:
    """Refuse normals that are named like a mask or are equal to a file of the pairs."""
    known: dict[int, list[Path]] = {}
    for path in (path for pair in pairs for path in (pair.image, pair.mask)):
        known.setdefault(path.stat().st_size, []).append(path)
    for stem, image in images.items():
        if MASK_ENDING.match(stem):
            raise TrainError(f"{image.name}: a normal that is named like a mask", "Name a folder without masks.")
        for path in known.get(image.stat().st_size, []):
            if filecmp.cmp(path, image, shallow=False):
                raise TrainError(
                    f"{image.name}: a normal, and the same file as {path.parent.name}/{path.name} of the pairs",
                    "Name a folder of other images, without blood.",
                )


def _match_two_folders(images: Path, masks: Path) -> list[tuple[str, Path, Path]]:
    if not masks.is_dir():
        raise TrainError(f"{masks}: no such folder of masks", "Name the folder of masks with --masks.")
    image_files, mask_files = _list_by_stem(images), _list_by_stem(masks)
    missing = sorted(set(image_files) - set(mask_files))
    if missing:
        further = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise TrainError(
            f"{images.name}/{image_files[missing[0]].name} has no mask {masks.name}/{missing[0]}.*{further}",
            "Give every image a mask of the same name; an all-black one if there is no blood.",
        )
    return [(stem, image_files[stem], mask_files[stem]) for stem in sorted(image_files)]


def _match_one_folder(folder: Path) -> list[tuple[str, Path, Path]]:
    """Match NAME.nii.gz with NAME_mask.nii.gz in one folder."""
    if not folder.is_dir():
        raise TrainError(f"{folder}: no such folder", "Give a folder of image and mask pairs.")
    volumes = {stem: path for stem, path in _list_by_stem(folder).items() if is_volume(path)}
    masks = {match[1]: volumes[stem] for stem in volumes if (match := MASK_ENDING.match(stem))}
    images = {stem: path for stem, path in volumes.items() if not MASK_ENDING.match(stem)}
    missing = sorted(set(images) - set(masks))
    if missing:
        raise TrainError(f"{images[missing[0]].name} has no mask {missing[0]}_mask.nii.gz beside it")
    return [(stem, images[stem], masks[stem]) for stem in sorted(images)]


def _list_by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(PICTURE_ENDINGS + VOLUME_ENDINGS):
            continue
        if (stem := get_stem(path.name)) in files:
            raise TrainError(
                f"{folder.name}: {files[stem].name} and {path.name} have the same name", "Keep one of the two."
            )
        files[stem] = path
    return files
