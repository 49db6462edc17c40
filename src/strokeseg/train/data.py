"""The training sets as adapters: each yields slices in Hounsfield units (or an estimate), masks or boxes, patients.

A mask is uint8: 0 no blood, 1 blood, 2 unknown (left out of the loss). A slice with boxes has mask 1 inside its boxes
and ``boxed`` True. Orientation is as the set gives it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from strokeseg.errors import TrainError

UNKNOWN = 2


@dataclass(frozen=True)
class Sample:
    """One slice for training.

    Parameters
    ----------
    hu : int16, (rows, columns)
    mask : uint8, (rows, columns); 0 no blood, 1 blood (or inside a box), 2 unknown
    patient : unique over all sources that may share patients
    """

    source: str
    name: str
    patient: str
    hu: NDArray[np.int16]
    mask: NDArray[np.uint8]
    boxed: bool = False

    @property
    def positive(self) -> bool:
        """Whether the slice holds blood."""
        return bool((self.mask == 1).any())


@dataclass(frozen=True)
class Source:
    """A data set: its folder, its reader, its licence, the windows that its pictures were made with."""

    folder: str
    read: Callable[[Path], Iterator[Sample]]
    licence: str
    about: str


def _grey(path: Path) -> NDArray[np.float32]:
    with Image.open(path) as image:
        return np.asarray(image.convert("L"), dtype=np.float32)


def _hu(path: Path, low: float, high: float) -> NDArray[np.int16]:
    return np.rint(_grey(path) / 255 * (high - low) + low).astype(np.int16)


def _mask(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    values = _grey(path)
    if values.shape != shape:
        raise TrainError(f"{path.name}: mask of {values.shape} on an image of {shape}")
    return np.where(values > 191, 1, np.where(values > 64, UNKNOWN, 0)).astype(np.uint8)


def _index(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def _first(folder: Path, stem: str) -> Path:
    for end in (".png", ".jpg"):
        if (folder / (stem + end)).exists():
            return folder / (stem + end)
    raise TrainError(f"{folder.name}/{stem}: no .png or .jpg of that name")


def bright_inside(hu: NDArray[np.int16], mask: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Mark bright regions inside the skull beside the mask: in a set with gaps in its labels they may be blood."""
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
                mask[bright_inside(hu, mask)] = UNKNOWN
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


RSNA = "RSNA 2019 challenge pictures: non-commercial research"
SOURCES: dict[str, Source] = {
    "bhsd_mini": Source("bhsd_mini", _clipped_hu("bhsd_mini"), RSNA, "BHSD, voxel masks, Hounsfield units"),
    "mbhseg25_mini": Source("mbhseg25_mini", _clipped_hu("mbhseg25_mini"), RSNA, "MBH-Seg 2025, voxel masks"),
    "bhsd_slices": Source("bhsd_slices", _pairs("bhsd_slices", 0, 80, "rsna:bhsd"), RSNA, "BHSD, recovered slices"),
    "rsna_hemseg": Source("rsna_hemseg", _pairs("rsna_hemseg", 0, 80, "rsna:hemseg"), RSNA, "HemSeg-500 masks"),
    "ctich_train": Source("ctich_train", _pairs("ctich_train", -20, 100, "ctich"), "CC BY 4.0", "CT-ICH, masks"),
    "ctich_boxes": Source("ctich_boxes", _boxes, "CC BY 4.0", "CT-ICH, boxes"),
    "phe_sich": Source("phe_sich_clots", _pairs("phe_sich", 0, 80, "phe"), "non-commercial", "PHE-SICH, derived masks"),
    "head_ct": Source("head_ct_hemorrhage", _head_ct, "unverified, not shipped", "Kaggle Head CT, masks"),
    "head_ct_normal": Source(
        "head_ct_hemorrhage", _head_ct_normal, "unverified, not shipped", "Kaggle Head CT, normals"
    ),
    "cpaisd": Source("cpaisd_ischemic_mini", _cpaisd, "CC BY 4.0", "ischemic strokes without blood"),
}

TEST_PATIENTS = frozenset(
    f"ctich:{number:03d}" for number in (49, 50, 51, 52, 66, 71, 73, 75, 76, 77, 78, 79, 80, 81, 87, 91, 92, 94)
)
"""CT-ICH patients that no training may hold."""


def load(root: Path, source: str, limit: int | None = None) -> list[Sample]:
    """Read one source.

    Raises
    ------
    TrainError
        if the source is unknown, its folder is missing, a mask does not fit, or a test patient is in it
    """
    if source not in SOURCES:
        raise TrainError(f"data.sources: {source!r} is not one of {', '.join(SOURCES)}")
    folder = root / SOURCES[source].folder
    if not folder.is_dir():
        raise TrainError(f"data.root: no folder {SOURCES[source].folder} in it for the source {source!r}")
    samples = list(SOURCES[source].read(folder))
    held_out = sorted({sample.patient for sample in samples} & TEST_PATIENTS)
    if held_out:
        raise TrainError(f"{source}: holds the test patients {', '.join(held_out)}")
    if limit is not None and len(samples) > limit:
        samples = [samples[i] for i in np.linspace(0, len(samples) - 1, limit).astype(int)]
    return samples
