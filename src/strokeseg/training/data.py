"""The built-in training sets: each source yields slices in Hounsfield units, with masks or boxes, and patients.

Orientation is as the set gives it. A user's own sets: :mod:`strokeseg.training.own_datasets`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from strokeseg.errors import TrainError
from strokeseg.training import whole_scans
from strokeseg.training.sample import TEST_PATIENTS, UNKNOWN, Sample
from strokeseg.training.source_files import (
    find_picture,
    mark_bright_inside,
    mark_inside_skull,
    read_boxes,
    read_hu,
    read_index,
    read_mask,
)


@dataclass(frozen=True)
class Source:
    """A data set: its folder, its reader, its licence, and a description.

    ``holds_tests`` is True for a set that holds the test patients as published: they are left out and counted. In any
    other set a test patient is refused. ``whole`` is True for a set of whole scans.
    """

    folder: str
    read: Callable[[Path], Iterator[Sample]]
    licence: str
    about: str
    holds_tests: bool = False
    whole: bool = False


def _pairs(source: str, low: float, high: float, patient: str) -> Callable[[Path], Iterator[Sample]]:
    def read(folder: Path) -> Iterator[Sample]:
        for row in read_index(folder):
            path = find_picture(folder / "images", row["id"])
            hu = read_hu(path, low, high)
            mask = read_mask(find_picture(folder / "masks", row["id"]), hu.shape)
            if source == "bhsd_slices":
                mask[mark_bright_inside(hu, mask)] = UNKNOWN
            yield Sample(source, row["id"], f"{patient}:{row['patient']}", hu, mask)

    return read


def _clipped_hu(source: str) -> Callable[[Path], Iterator[Sample]]:
    def read(folder: Path) -> Iterator[Sample]:
        for row in read_index(folder):
            hu = read_hu(folder / "images_hu0_255" / row["file"], 0, 255)
            mask = read_mask(folder / "masks_binary" / row["file"], hu.shape)
            yield Sample(source, row["file"], f"rsna:{source}:{row['volume']}", hu, mask)

    return read


def _head_ct(folder: Path) -> Iterator[Sample]:
    for row in read_index(folder):
        group = f"headct:{row['neardup_group']}"
        if row["has_mask"] == "1":
            hu = read_hu(find_picture(folder / "images_227", row["id"]), -20, 100)
            yield Sample(
                "head_ct", row["id"], group, hu, read_mask(find_picture(folder / "masks_227", row["id"]), hu.shape)
            )


def _head_ct_normal(folder: Path) -> Iterator[Sample]:
    for row in read_index(folder):
        if row["label_hemorrhage"] == "0":
            hu = read_hu(find_picture(folder / "images_unmasked", row["id"]), -20, 100)
            yield Sample(
                "head_ct_normal", row["id"], f"headct:{row['neardup_group']}", hu, np.zeros(hu.shape, np.uint8)
            )


def _head_ct_bleeds(folder: Path) -> Iterator[Sample]:
    for row in read_index(folder):
        if row["label_hemorrhage"] == "1" and row["has_mask"] == "0":
            hu = read_hu(find_picture(folder / "images_unmasked", row["id"]), -20, 100)
            unknown = np.full(hu.shape, UNKNOWN, np.uint8)
            yield Sample("head_ct_bleeds", row["id"], f"headct:{row['neardup_group']}", hu, unknown, labelled=False)


def list_normal_pictures(root: Path) -> list[tuple[Path, str]]:
    """List the pictures of Head CT without blood, each with its patient; none if the set is missing."""
    folder = root / "head_ct_hemorrhage"
    return [
        (find_picture(folder / "images_unmasked", row["id"]), f"headct:{row['neardup_group']}")
        for row in (read_index(folder) if folder.is_dir() else [])
        if row["label_hemorrhage"] == "0"
    ]


def _cpaisd(folder: Path) -> Iterator[Sample]:
    for path in sorted((folder / "images_hu0_255").glob("*.png")):
        hu = read_hu(path, 0, 255)
        yield Sample("cpaisd", path.stem, f"cpaisd:{path.stem}", hu, np.zeros(hu.shape, np.uint8))


def _boxes(folder: Path) -> Iterator[Sample]:
    for row in read_index(folder):
        path = folder / "images" / row["file"]
        hu = read_hu(path, -20, 100)
        mask = read_boxes(folder / "labels_yolo" / (path.stem + ".txt"), hu.shape)
        yield Sample("ctich_boxes", row["file"], f"ctich:{row['patient_inferred']}", hu, mask, boxed=True)


def _subdural_boxes(folder: Path) -> Iterator[Sample]:
    """Read boxes that grew when their pictures were rotated: the parts on scalp and skull are removed.

    Blood without a box is common in this set, so bright components inside the skull and outside of boxes are unknown.
    """
    for row in read_index(folder):
        hu = read_hu(find_picture(folder / "images", row["id"]), 0, 80)
        boxes = read_boxes(folder / "boxes" / f"{row['id']}.txt", hu.shape)
        inside = mark_inside_skull(ndimage.gaussian_filter(hu.astype(np.float32), 1.2))
        mask = boxes * inside if (boxes * inside).any() else boxes
        mask[mark_bright_inside(hu, boxes, limit_hu=46, margin=1)] = UNKNOWN
        patient = row["rsna_patient"] or row["rsna_scan"] or row["id"]
        yield Sample("rsna_sdh_boxes", row["id"], f"rsna:sdh:{patient}", hu, mask, boxed=True)


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
    "ctich": Source(
        "ctich", whole_scans.read_ctich, "CC BY 4.0", "CT-ICH, whole patients, masks", holds_tests=True, whole=True
    ),
    "phe_sich_whole": Source(
        "phe_sich", whole_scans.read_phe_sich, "non-commercial", "PHE-SICH, whole patients, derived masks", whole=True
    ),
    "rsna_sdh_boxes": Source(
        "rsna_sdh_boxes", _subdural_boxes, RSNA_LICENCE, "subdural boxes; other bright components are unknown"
    ),
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
