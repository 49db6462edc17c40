"""Find images and their masks in a folder, and whose they are.

Three layouts are known: ``images/NAME.jpg`` with ``masks/NAME.png`` (the two folders may be called anything, the
extensions may differ), the same with NIfTI volumes, and one folder of NIfTI volumes in which ``NAME_mask.nii.gz`` (or
``_seg``, ``_label``) lies beside ``NAME.nii.gz``. A folder of images without blood needs no masks.
"""

from __future__ import annotations

import csv
import filecmp
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from strokeseg.errors import TrainError
from strokeseg.reading.pictures.picture_stack import PILLOW_FORMATS

PICTURE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
VOLUME_ENDINGS = (".nii.gz", ".nii")
_MASK_ENDING = re.compile(r"^(.+)_(mask|seg|label)$")

Bools = NDArray[np.bool_]
Spacing = tuple[float, float, float]


@dataclass(frozen=True)
class Pair:
    """An image and its mask.

    Parameters
    ----------
    name : str
        The image's file name without extension.
    patient : str
        Whose it is; pairs of one patient are never drawn apart.
    ignore : int, optional
        Value of the mask that means "not known".
    labels : tuple of int, optional
        Values of the mask that are blood, where it holds more than two; it must be binary where not given.
    picture_spacing_mm : Spacing, optional
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
        """Whether the slices are those of one volume, in which each has its neighbours."""
        return _is_volume(self.image)

    def read_spacing_mm(self) -> Spacing | None:
        """Return (slice, row, column), mm, or None where it is not known; slices are taken along their normal.

        Raises
        ------
        TrainError
            `train`, if the volume cannot be read.
        """
        return _read_volume_spacing_mm(self.image) if self.is_volume else self.picture_spacing_mm

    def read_truth(self) -> tuple[Bools, Bools]:
        """Read the mask.

        Returns
        -------
        tuple of (Bools, Bools)
            Truth, known : bool, (slices, rows, columns), in the order of a Scan; a picture has one slice.

        Raises
        ------
        TrainError
            `train`, if the mask cannot be read, is not binary (and no labels are given) or has another size than the
            image.
        """
        values, size = _read_mask_values(self.mask), _read_size(self.image)
        label = f"{self.mask.parent.name}/{self.mask.name}"
        if size != values.shape:
            raise TrainError(
                f"{label}: the mask has {_format_shape(values.shape)} pixels, its image {self.image.name} {_format_shape(size)}",
                "Give masks on the pixels of their images; do not resample the one without the other.",
            )
        known = np.ones(values.shape, dtype=bool) if self.ignore is None else values != self.ignore
        if self.labels is not None:
            truth = np.isin(values, self.labels) & known
        else:
            found = np.unique(values[known])
            if not (np.isin(found, (0, 255)).all() or np.isin(found, (0, 1)).all()):
                raise _not_binary(label, found)
            truth = (values > 0) & known
        return (truth, known) if values.ndim == 3 else (truth[None], known[None])


@dataclass(frozen=True)
class Normal:
    """An image without blood; it needs no mask.

    Parameters
    ----------
    name : str
        The image's file name without extension.
    patient : str
        Whose it is.
    """

    name: str
    image: Path
    patient: str

    def read_truth(self) -> tuple[Bools, Bools]:
        """Return the empty mask, as :meth:`Pair.truth` does."""
        size = _read_size(self.image)
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
        Holds the folders of images and masks, and perhaps an ``index.csv``; or NIfTI pairs directly.
    images, masks : str, default: "images"
        Names of the two folders.
    patient : str, optional
        A column of ``index.csv``, or a regular expression whose first group (or whole match) in the file's name is
        the patient, as ``^(\d+)_``. Where not given: the column ``patient``; else for pictures the name up to its
        last underscore (``077_20`` is of patient 077), or all of it where it has none; a volume is a patient of its
        own.
    ignore : int, optional
        Value in the masks that means "not known" (128 in some sets); those pixels count neither way.
    labels : tuple of int, optional
        Values in the masks that are blood, where they hold more than two.
    picture_spacing_mm : Spacing, optional
        (slice, row, column), mm, of all pictures.

    Raises
    ------
    TrainError
        `train`, if the folder or a mask is missing, nothing is found, a patient cannot be told, or a mask is not
        binary (0 and 255, or 0 and 1) or has another size than its image.
    """
    folder = Path(folder)
    found = (
        _match_one_folder(folder)
        if not (folder / images).is_dir()
        else _match_two_folders(folder / images, folder / masks)
    )
    if not found:
        raise TrainError(
            f"{folder}: no image with a mask",
            f"Give a folder that holds {images}/ and {masks}/ with files of the same names, or NIfTI pairs.",
        )
    whose = _patient_lookup(folder, patient)
    pairs = [Pair(name, image, mask, whose(image), ignore, labels, picture_spacing_mm) for name, image, mask in found]
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
        Holds pictures or NIfTI volumes, and perhaps an ``index.csv``.
    patient : str, optional
        As in :func:`find_pairs`.
    pairs : sequence of Pair, default: ()
        With blood, of which no file may be a normal.
    beside : str or Path, optional
        Folder of the pairs; a column that its ``index.csv`` alone has says nothing of the normals.

    Raises
    ------
    TrainError
        `train`, if the folder is missing, nothing is found, a patient cannot be told, an image cannot be read, is one
        of the pairs, or is named like a mask.
    """
    folder = Path(folder)
    images = _list_by_stem(folder) if folder.is_dir() else {}
    if not images:
        raise TrainError(f"{folder}: no image in it", "Give a folder that holds pictures or NIfTI volumes.")
    if beside is not None and patient in _index_columns(Path(beside)) and patient not in _index_columns(folder):
        patient = None
    whose = _patient_lookup(folder, patient)
    _refuse_files_of_pairs(images, pairs)
    for image in images.values():
        _read_size(image)
    return [Normal(stem, image, whose(image)) for stem, image in images.items()]


def _refuse_files_of_pairs(images: dict[str, Path], pairs: Sequence[Pair]) -> None:
    """Make sure that no image without blood is a mask by its name, or a file of the pairs by its bytes."""
    known: dict[int, list[Path]] = {}
    for path in (path for pair in pairs for path in (pair.image, pair.mask)):
        known.setdefault(path.stat().st_size, []).append(path)
    for stem, image in images.items():
        if _MASK_ENDING.match(stem):
            raise TrainError(f"{image.name}: a normal that is named like a mask", "Give images without masks.")
        for path in known.get(image.stat().st_size, []):
            if filecmp.cmp(path, image, shallow=False):
                raise TrainError(
                    f"{image.name}: a normal, and the same file as {path.parent.name}/{path.name} of the pairs",
                    "Give a folder of other images, which hold no blood.",
                )


def _match_two_folders(images: Path, masks: Path) -> list[tuple[str, Path, Path]]:
    if not masks.is_dir():
        raise TrainError(f"{masks}: no such folder of masks", "Name the folder of masks with --masks.")
    pictures, drawn = _list_by_stem(images), _list_by_stem(masks)
    missing = sorted(set(pictures) - set(drawn))
    if missing:
        further = f", and {len(missing) - 1} more" if len(missing) > 1 else ""
        raise TrainError(
            f"{images.name}/{pictures[missing[0]].name} has no mask {masks.name}/{missing[0]}.*{further}",
            "Give every image a mask of the same name; an all-black one where there is no blood.",
        )
    return [(stem, pictures[stem], drawn[stem]) for stem in sorted(pictures)]


def _match_one_folder(folder: Path) -> list[tuple[str, Path, Path]]:
    """Match NAME.nii.gz with NAME_mask.nii.gz in one folder."""
    if not folder.is_dir():
        raise TrainError(f"{folder}: no such folder", "Give a folder of image and mask pairs.")
    volumes = {stem: path for stem, path in _list_by_stem(folder).items() if _is_volume(path)}
    masks = {match[1]: volumes[stem] for stem in volumes if (match := _MASK_ENDING.match(stem))}
    images = {stem: path for stem, path in volumes.items() if not _MASK_ENDING.match(stem)}
    missing = sorted(set(images) - set(masks))
    if missing:
        raise TrainError(f"{images[missing[0]].name} has no mask {missing[0]}_mask.nii.gz beside it")
    return [(stem, images[stem], masks[stem]) for stem in sorted(images)]


def _list_by_stem(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.name.lower().endswith(PICTURE_ENDINGS + VOLUME_ENDINGS):
            continue
        if (stem := _stem(path.name)) in files:
            raise TrainError(
                f"{folder.name}: {files[stem].name} and {path.name} have the same name", "Keep one of the two."
            )
        files[stem] = path
    return files


def _stem(name: str) -> str:
    ending = next((end for end in VOLUME_ENDINGS + PICTURE_ENDINGS if name.lower().endswith(end)), "")
    return name[: len(name) - len(ending)]


def _is_volume(path: Path) -> bool:
    return path.name.lower().endswith(VOLUME_ENDINGS)


def _patient_lookup(folder: Path, patient: str | None) -> Callable[[Path], str]:
    """Choose how a patient is told from an image's path."""
    rows = _read_index(folder / "index.csv")
    columns = _index_columns(folder)
    column = patient or "patient"
    if column in columns:

        def by_column(image: Path) -> str:
            value = rows.get(_stem(image.name), {}).get(column)
            if not value:
                raise TrainError(f"index.csv says no {column} of {image.name}", "Give every image a row.")
            return value

        return by_column
    if patient is not None:
        return _expression_lookup(patient, columns)
    return lambda image: _stem(image.name) if _is_volume(image) else re.sub(r"(.)_[^_]*$", r"\1", _stem(image.name))


def _expression_lookup(patient: str, columns: list[str]) -> Callable[[Path], str]:
    try:
        expression = re.compile(patient)
    except re.error as error:
        raise TrainError(f"patient {patient!r} is neither a column of index.csv nor an expression: {error}") from None

    def by_expression(image: Path) -> str:
        match = expression.search(_stem(image.name))
        if match is None:
            known = f"; index.csv has the columns {', '.join(columns)}" if columns else ""
            raise TrainError(
                f"patient {patient!r} is no column of index.csv and does not match {image.name}{known}",
                "Name a column, or give an expression whose first group is the patient.",
            )
        return str(match[1] if match.groups() else match[0])

    return by_expression


def _read_index(path: Path) -> dict[str, dict[str, str]]:
    """Read index.csv by its column id (or file): stem of the image to row."""
    if not path.is_file():
        return {}
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            rows = list(csv.DictReader(stream))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainError(f"{path}: no readable table: {error}", "Save it as CSV in UTF-8.") from None
    key = next((name for name in ("id", "file", "image") if rows and name in rows[0]), None)
    return {_stem(Path(row[key] or "").name): row for row in rows} if key else {}


def _index_columns(folder: Path) -> list[str]:
    return list(next(iter(_read_index(folder / "index.csv").values()), {}))


def _read_mask_values(mask: Path) -> NDArray[Any]:
    """Read a mask's values: (rows, columns) of a picture, (slices, rows, columns) of a volume."""
    label = f"{mask.parent.name}/{mask.name}"
    if _is_volume(mask):
        return _read_volume(mask)
    try:
        with Image.open(mask, formats=PILLOW_FORMATS) as image:
            values = np.asarray(image)
    except (OSError, UnidentifiedImageError):
        raise TrainError(f"{label}: no readable picture") from None
    if values.ndim == 3:
        if (values[..., :3] != values[..., :1]).any():
            raise TrainError(f"{label}: the mask is coloured", "Give masks in grey: 0, and 255 (or 1) for blood.")
        values = values[..., 0]
    return values.astype(np.uint8) if values.dtype == bool else values


def _read_volume(path: Path) -> NDArray[Any]:
    """Read a NIfTI volume as (slices, rows, columns) with a Scan's directions: to the head, the back, the left."""
    import nibabel

    image = _load_nifti(path)
    try:
        values = np.asanyarray(image.dataobj)
        values = values.reshape(_three_axes(values.shape))
    except (OSError, EOFError, ValueError):
        raise TrainError(f"{path.parent.name}/{path.name}: no whole single NIfTI volume") from None
    to_ras = nibabel.orientations.apply_orientation(values, nibabel.io_orientation(image.affine))
    return np.transpose(to_ras, (2, 1, 0))[:, ::-1, ::-1]


def _load_nifti(path: Path) -> Any:
    import nibabel

    try:
        return nibabel.load(path)
    except (OSError, EOFError, ValueError, nibabel.filebasedimages.ImageFileError):
        raise TrainError(f"{path.parent.name}/{path.name}: no readable NIfTI") from None


def _three_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (*shape[:3], 1)[:3]


def _read_size(image: Path) -> tuple[int, ...]:
    """Return an image's size from its header: (rows, columns) of a picture, (slices, rows, columns) of a volume."""
    if _is_volume(image):
        import nibabel

        volume = _load_nifti(image)
        turned = nibabel.io_orientation(volume.affine)[:, 0].argsort()
        lengths = _three_axes(volume.shape)
        return tuple(int(lengths[axis]) for axis in turned[::-1])
    try:
        with Image.open(image, formats=PILLOW_FORMATS) as picture:
            return picture.height, picture.width
    except (OSError, UnidentifiedImageError):
        raise TrainError(f"{image.parent.name}/{image.name}: no readable picture") from None


def _read_volume_spacing_mm(volume: Path) -> Spacing:
    """Return a volume's (slice, row, column), mm; slices along their normal, so that the three give a voxel's volume."""
    import nibabel

    image = _load_nifti(volume)
    unit_mm = {"meter": 1000.0, "micron": 0.001}.get(image.header.get_xyzt_units()[0], 1.0)
    affine = np.asarray(image.affine, dtype=np.float64)[:3, :3] * unit_mm
    column, row, _ = affine.T[nibabel.io_orientation(image.affine)[:, 0].argsort()]
    row_mm, column_mm = float(np.linalg.norm(row)), float(np.linalg.norm(column))
    return float(abs(np.linalg.det(affine)) / (row_mm * column_mm)), row_mm, column_mm


def _not_binary(label: str, found: NDArray[Any]) -> TrainError:
    odd = [f"{value:g}" for value in found if value not in (0, 255)]
    shown = ", ".join(odd[:3]) + (" ..." if len(odd) > 3 else "")
    if "128" in odd:
        remedy = "If 128 marks pixels that are not known, say so: ignore 128."
    elif len(odd) > 3:
        remedy = "Save masks without loss (PNG, not JPEG), as 0 and 255."
    else:
        remedy = "Give masks of 0 and 255 (or 0 and 1); join several kinds of blood into one."
    return TrainError(f"{label}: the mask is not binary, it holds {shown} besides 0 and 255", remedy)


def _format_shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(length) for length in shape)
