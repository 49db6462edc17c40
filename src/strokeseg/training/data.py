"""The built-in training sets: each source yields slices in Hounsfield units, with masks or boxes, and patients.

A mask is uint8: 0 no blood, 1 blood, 2 unknown (left out of the loss). A slice with boxes has mask 1 inside its boxes
and ``boxed`` True; one that is known to hold blood, but not where, has mask 2 all over and ``labelled`` False.
Orientation is as the set gives it. A user's own sets: :mod:`strokeseg.training.own_datasets`.
"""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from strokeseg.errors import TrainError
from strokeseg.reading.pictures.picture_file import PILLOW_FORMATS

UNKNOWN = 2


@dataclass(frozen=True)
class Sample:
    """A slice for training.

    Attributes
    ----------
    source, name : str
        The data set, and the slice's name in it.
    hu : ndarray of int16, shape (rows, columns)
        Hounsfield units.
    mask : ndarray of uint8, shape (rows, columns)
        0 no blood, 1 blood (or inside a box), 2 unknown.
    patient : str
        The patient; unique over all sources that may share patients.
    boxed : bool, default: False
        The mask holds boxes around the blood, not outlines.
    labelled : bool, default: True
        False where only the picture as a whole is known to hold blood; the mask is then 2 all over.
    """

    source: str
    name: str
    patient: str
    hu: NDArray[np.int16]
    mask: NDArray[np.uint8]
    boxed: bool = False
    labelled: bool = True

    @property
    def positive(self) -> bool:
        """Whether the slice holds blood, outlined or not."""
        return not self.labelled or bool((self.mask == 1).any())


@dataclass(frozen=True)
class Source:
    """A data set: its folder, its reader, its licence, and a description.

    ``holds_tests`` is True for a set that holds the test patients as published: they are left out and counted. In any
    other set a test patient is refused.
    """

    folder: str
    read: Callable[[Path], Iterator[Sample]]
    licence: str
    about: str
    holds_tests: bool = False


def _grey(path: Path) -> NDArray[np.float32]:
    try:
        with Image.open(path, formats=PILLOW_FORMATS) as image:
            return np.asarray(image.convert("L"), dtype=np.float32)
    except OSError:
        raise TrainError(f"{path.parent.name}/{path.name}: no readable picture", "Get the file again.") from None


def _hu(path: Path, low: float, high: float) -> NDArray[np.int16]:
    return np.rint(_grey(path) / 255 * (high - low) + low).astype(np.int16)


def _mask(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    values = _grey(path)
    if values.shape != shape:
        raise TrainError(f"{path.name}: mask of {values.shape} on an image of {shape}")
    return np.where(values > 191, 1, np.where(values > 64, UNKNOWN, 0)).astype(np.uint8)


def _index(folder: Path) -> list[dict[str, str]]:
    try:
        with (folder / "index.csv").open(newline="", encoding="utf-8") as stream:
            return list(csv.DictReader(stream))
    except FileNotFoundError:
        raise TrainError(f"{folder.name}: no index.csv in it", "Get the whole data set, or leave it out.") from None


def _first(folder: Path, stem: str) -> Path:
    for end in (".png", ".jpg"):
        if (folder / (stem + end)).exists():
            return folder / (stem + end)
    raise TrainError(f"{folder.name}/{stem}: no .png or .jpg of that name")


def mark_bright_inside(hu: NDArray[np.int16], mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark bright components inside the skull outside of the mask: in an incomplete set they may be blood."""
    smooth = ndimage.gaussian_filter(hu.astype(np.float32), 1.2)
    skull = ndimage.binary_closing(smooth > 76, iterations=3)
    inside = ndimage.binary_erosion(ndimage.binary_fill_holes(skull) & ~skull, iterations=4)
    bright = (smooth > 50) & inside & ~ndimage.binary_dilation(mask == 1, iterations=3)
    labels, _ = ndimage.label(bright)
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes > 20)[labels])


def _pairs(source: str, low: float, high: float, patient: str) -> Callable[[Path], Iterator[Sample]]:
    def read(folder: Path) -> Iterator[Sample]:
        for row in _index(folder):
            path = _first(folder / "images", row["id"])
            hu = _hu(path, low, high)
            mask = _mask(_first(folder / "masks", row["id"]), hu.shape)
            if source == "bhsd_slices":
                mask[mark_bright_inside(hu, mask)] = UNKNOWN
            yield Sample(source, row["id"], f"{patient}:{row['patient']}", hu, mask)

    return read


def _clipped_hu(source: str) -> Callable[[Path], Iterator[Sample]]:
    def read(folder: Path) -> Iterator[Sample]:
        for row in _index(folder):
            hu = _hu(folder / "images_hu0_255" / row["file"], 0, 255)
            mask = _mask(folder / "masks_binary" / row["file"], hu.shape)
            yield Sample(source, row["file"], f"rsna:{source}:{row['volume']}", hu, mask)

    return read


def _head_ct(folder: Path) -> Iterator[Sample]:
    for row in _index(folder):
        group = f"headct:{row['neardup_group']}"
        if row["has_mask"] == "1":
            hu = _hu(_first(folder / "images_227", row["id"]), -20, 100)
            yield Sample("head_ct", row["id"], group, hu, _mask(_first(folder / "masks_227", row["id"]), hu.shape))


def _head_ct_normal(folder: Path) -> Iterator[Sample]:
    for row in _index(folder):
        if row["label_hemorrhage"] == "0":
            hu = _hu(_first(folder / "images_unmasked", row["id"]), -20, 100)
            yield Sample(
                "head_ct_normal", row["id"], f"headct:{row['neardup_group']}", hu, np.zeros(hu.shape, np.uint8)
            )


def _head_ct_bleeds(folder: Path) -> Iterator[Sample]:
    for row in _index(folder):
        if row["label_hemorrhage"] == "1" and row["has_mask"] == "0":
            hu = _hu(_first(folder / "images_unmasked", row["id"]), -20, 100)
            unknown = np.full(hu.shape, UNKNOWN, np.uint8)
            yield Sample("head_ct_bleeds", row["id"], f"headct:{row['neardup_group']}", hu, unknown, labelled=False)


def list_normal_pictures(root: Path) -> list[tuple[Path, str]]:
    """List the pictures of Head CT without blood, each with its patient; none if the set is missing."""
    folder = root / "head_ct_hemorrhage"
    return [
        (_first(folder / "images_unmasked", row["id"]), f"headct:{row['neardup_group']}")
        for row in (_index(folder) if folder.is_dir() else [])
        if row["label_hemorrhage"] == "0"
    ]


def _cpaisd(folder: Path) -> Iterator[Sample]:
    for path in sorted((folder / "images_hu0_255").glob("*.png")):
        hu = _hu(path, 0, 255)
        yield Sample("cpaisd", path.stem, f"cpaisd:{path.stem}", hu, np.zeros(hu.shape, np.uint8))


def _boxes(folder: Path) -> Iterator[Sample]:
    for row in _index(folder):
        path = folder / "images" / row["file"]
        hu = _hu(path, -20, 100)
        mask = np.zeros(hu.shape, np.uint8)
        for line in (folder / "labels_yolo" / (path.stem + ".txt")).read_text().splitlines():
            _, x, y, width, height = (float(part) for part in line.split()[:5])
            rows, columns = hu.shape
            top, bottom = round((y - height / 2) * rows), round((y + height / 2) * rows)
            left, right = round((x - width / 2) * columns), round((x + width / 2) * columns)
            mask[max(top, 0) : bottom, max(left, 0) : right] = 1
        yield Sample("ctich_boxes", row["file"], f"ctich:{row['patient_inferred']}", hu, mask, boxed=True)


RSNA_LICENCE = "RSNA 2019 challenge pictures: non-commercial research"
SOURCES: dict[str, Source] = {
    "bhsd_mini": Source("bhsd_mini", _clipped_hu("bhsd_mini"), RSNA_LICENCE, "BHSD, voxel masks, Hounsfield units"),
    "mbhseg25_mini": Source("mbhseg25_mini", _clipped_hu("mbhseg25_mini"), RSNA_LICENCE, "MBH-Seg 2025, voxel masks"),
    "bhsd_slices": Source(
        "bhsd_slices", _pairs("bhsd_slices", 0, 80, "rsna:bhsd"), RSNA_LICENCE, "BHSD, recovered slices"
    ),
    "rsna_hemseg": Source("rsna_hemseg", _pairs("rsna_hemseg", 0, 80, "rsna:hemseg"), RSNA_LICENCE, "HemSeg-500 masks"),
    "ctich_train": Source("ctich_train", _pairs("ctich_train", -20, 100, "ctich"), "CC BY 4.0", "CT-ICH, masks"),
    "ctich_boxes": Source("ctich_boxes", _boxes, "CC BY 4.0", "CT-ICH, boxes"),
    "phe_sich": Source("phe_sich_clots", _pairs("phe_sich", 0, 80, "phe"), "non-commercial", "PHE-SICH, derived masks"),
    "head_ct": Source("head_ct_hemorrhage", _head_ct, "unverified, not shipped", "Kaggle Head CT, masks"),
    "head_ct_normal": Source(
        "head_ct_hemorrhage", _head_ct_normal, "unverified, not shipped", "Kaggle Head CT, normals"
    ),
    "head_ct_bleeds": Source(
        "head_ct_hemorrhage", _head_ct_bleeds, "unverified, not shipped", "Kaggle Head CT, hemorrhage without masks"
    ),
    "cpaisd": Source("cpaisd_ischemic_mini", _cpaisd, "CC BY 4.0", "ischemic strokes without blood"),
}

TEST_PATIENTS = frozenset(
    f"ctich:{number:03d}" for number in (49, 50, 51, 52, 66, 71, 73, 75, 76, 77, 78, 79, 80, 81, 87, 91, 92, 94)
)
"""CT-ICH patients who must not be trained on."""


_log = logging.getLogger(__name__)


def stream(
    root: Path, source: str, limit: int | None = None, own: Mapping[str, Source] | None = None
) -> Iterator[Sample]:
    """Read a source slice by slice, so that a set of volumes need not fit into memory.

    Parameters
    ----------
    root : Path
        Folder of the data sets.
    source : str
        A key of :data:`SOURCES` or of ``own``.
    limit : int, optional
        Maximum number of slices, evenly selected from all.
    own : mapping of str to Source, optional
        Further sources.

    Yields
    ------
    Sample
        The slices.

    Raises
    ------
    TrainError
        `train`, if the source is unknown, its folder is missing, a file is broken, a mask does not fit, or a set
        holds a test patient that should not.
    """
    known = {**SOURCES, **(own or {})}
    if source not in known:
        raise TrainError(
            f"data.sources: {source!r} is not one of {', '.join(known)}", f"Declare it as [data.own.{source}]."
        )
    folder = root / known[source].folder
    if not folder.is_dir():
        raise TrainError(f"the data folder has no folder {known[source].folder!r} for the source {source!r}")
    samples = _drop_test_patients(source, known[source].read(folder), known[source].holds_tests)
    if limit is None:
        yield from samples
        return
    whole = list(samples)
    chosen = range(len(whole)) if len(whole) <= limit else np.linspace(0, len(whole) - 1, limit).astype(int)
    yield from (whole[index] for index in chosen)


def _drop_test_patients(source: str, samples: Iterator[Sample], holds_tests: bool) -> Iterator[Sample]:
    left_out: dict[str, int] = {}
    for sample in samples:
        if sample.patient not in TEST_PATIENTS:
            yield sample
        else:
            left_out[sample.patient] = left_out.get(sample.patient, 0) + 1
    if left_out and not holds_tests:
        raise TrainError(
            f"{source}: holds the test patients {', '.join(sorted(left_out))}", "Take them out of the folder."
        )
    if left_out:
        _log.warning("%s: %d slices of %d test patients were left out", source, sum(left_out.values()), len(left_out))


def load(root: Path, source: str, limit: int | None = None, own: Mapping[str, Source] | None = None) -> list[Sample]:
    """Read a whole source; see :func:`stream`."""
    return list(stream(root, source, limit, own))
