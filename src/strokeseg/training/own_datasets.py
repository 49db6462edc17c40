"""Data sets of the user, declared in the configuration: four layouts, one reader each.

Volumes are read by :func:`strokeseg.reading.read_one` and give one sample for each slice, lowest first, face up, the
patient's left on the right, in Hounsfield units. Pictures are grey levels through a window. Slices without a head are
left out.
"""

from __future__ import annotations

import csv
import json
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator

from strokeseg.errors import InputError, NotHead, TrainError
from strokeseg.evaluation.image_files import PICTURE_ENDINGS, VOLUME_ENDINGS
from strokeseg.evaluation.pairs import Pair, find_pairs
from strokeseg.reading import read_one
from strokeseg.training.data import SOURCES, Source
from strokeseg.training.sample import UNKNOWN, Sample

_log = logging.getLogger(__name__)
_TISSUE_HU, _MIN_TISSUE_SHARE = 10, 0.02
_BHSD_LABELS = (1, 2, 3, 4, 5)


class OwnDataset(BaseModel):
    """A data set of the user: a table [data.own.NAME]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["physionet-ctich", "bhsd", "nnunet", "pairs"] = Field(description="the layout")
    folder: str = Field(description="relative to data.root")
    window: tuple[float, float] | None = Field(
        default=None, description="(centre, width) of pictures; estimated if not given"
    )
    labels: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="mask values that are blood; needed if there are more than two values"
    )
    patient: str | None = Field(
        default=None,
        description="regular expression whose first group in a file's name is the patient, or a column of index.csv",
    )
    licence: str = "not stated"

    @field_validator("window")
    @classmethod
    def _is_window(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not (all(map(isfinite, value)) and value[1] > 0):
            raise ValueError(f"a window is [centre, width] with a width above 0, not {list(value)}")
        return value

    @field_validator("patient")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value


def make_sources(own: Mapping[str, OwnDataset]) -> dict[str, Source]:
    """Make sources from the declared data sets.

    Raises
    ------
    TrainError
        `train`, if a name is that of a built-in source, or has other characters than letters, digits, _ and -.
    """
    sources = {}
    for name, dataset in own.items():
        if name in SOURCES or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise TrainError(f"data.own.{name}: a built-in source's name, or not a plain word", "Choose another name.")
        read = _make_reader(name, dataset)
        holds_tests = dataset.kind == "physionet-ctich"
        sources[name] = Source(dataset.folder, read, dataset.licence, f"own, {dataset.kind}", holds_tests)
    return sources


def _make_reader(name: str, dataset: OwnDataset) -> Callable[[Path], Iterator[Sample]]:
    find = {
        "physionet-ctich": _find_physionet_pairs,
        "bhsd": _find_bhsd_pairs,
        "nnunet": _find_nnunet_pairs,
        "pairs": _find_folder_pairs,
    }[dataset.kind]

    def read(folder: Path) -> Iterator[Sample]:
        pairs = find(folder, dataset)
        if not pairs:
            raise TrainError(
                f"data.own.{name}: {folder.name} holds no image with a mask",
                f"Name a folder with the layout {dataset.kind}.",
            )
        prefix = {"physionet-ctich": "ctich", "bhsd": "rsna"}.get(dataset.kind, name)
        diagnoses = _read_diagnoses(folder) if dataset.kind == "physionet-ctich" else {}
        for pair in pairs:
            yield from _read_slices(name, prefix, pair, dataset.window, diagnoses)

    return read


def _find_physionet_pairs(folder: Path, dataset: OwnDataset) -> list[Pair]:
    """Find the pairs of PhysioNet's CT-ICH (Hssayeni et al., Data 2020, 5:14): ct_scans/049.nii, masks/049.nii."""
    if dataset.patient is not None:
        raise TrainError("data.own: patient cannot be set for physionet-ctich, whose test patients go by file names")
    pairs = _find_two_folder_pairs(folder / "ct_scans", folder / "masks", dataset, patient=r"^(\d+)$")
    # The test patients are named by three digits, whatever the names of the files.
    return [replace(pair, patient=f"{int(pair.patient):03d}") for pair in pairs]


def _find_bhsd_pairs(folder: Path, dataset: OwnDataset) -> list[Pair]:
    """Find the pairs of BHSD's label_192 (Wu et al., MLMI 2023): images/, ground truths/, five classes of blood."""
    dataset = dataset if dataset.labels else dataset.model_copy(update={"labels": _BHSD_LABELS})
    patient = r"^(ID_[0-9a-f]+|[^.]+)"
    return _find_two_folder_pairs(folder / "images", folder / "ground truths", dataset, patient=patient)


def _find_folder_pairs(folder: Path, dataset: OwnDataset) -> list[Pair]:
    return find_pairs(folder, patient=dataset.patient, labels=dataset.labels)


def _find_two_folder_pairs(images: Path, masks: Path, dataset: OwnDataset, patient: str) -> list[Pair]:
    if not images.is_dir() or not masks.is_dir():
        missing = masks if images.is_dir() else images
        raise TrainError(f"{missing.parent.name}: no folder {missing.name}", f"The layout is {dataset.kind}.")
    return find_pairs(images.parent, images.name, masks.name, dataset.patient or patient, labels=dataset.labels)


def _find_nnunet_pairs(folder: Path, dataset: OwnDataset) -> list[Pair]:
    """Find the pairs of nnU-Net's raw layout, version 1 or 2: imagesTr/CASE_0000.END, labelsTr/CASE.END."""
    labels, ignore = _read_nnunet_labels(folder, dataset.labels)
    patient_pattern = re.compile(dataset.patient) if dataset.patient else None
    pairs = []
    for mask in sorted((folder / "labelsTr").glob("*")):
        ending = next((end for end in VOLUME_ENDINGS + PICTURE_ENDINGS if mask.name.lower().endswith(end)), None)
        if ending is None or mask.name.startswith("."):
            continue
        case = mask.name[: -len(ending)]
        image = folder / "imagesTr" / f"{case}_0000{mask.name[-len(ending) :]}"
        if not image.is_file():
            raise TrainError(
                f"{folder.name}: labelsTr/{mask.name} has no imagesTr/{image.name}", "Every case needs both."
            )
        # A picture is named after its patient up to the last _, as in evaluation.pairs; a volume is a patient.
        patient = case if ending in VOLUME_ENDINGS else re.sub(r"(.)_[^_]*$", r"\1", case)
        if patient_pattern is not None:
            match = patient_pattern.search(case)
            if match is None:
                raise TrainError(f"{folder.name}: patient {dataset.patient!r} does not match the case {case}")
            patient = match[1] if match.groups() else match[0]
        pairs.append(Pair(case, image, mask, patient, ignore, labels))
    return pairs


def _read_nnunet_labels(folder: Path, selected: tuple[int, ...] | None) -> tuple[tuple[int, ...], int | None]:
    """Read from dataset.json which mask values are blood and which one marks unknown pixels.

    Version 1 writes {"1": "blood"}, version 2 {"blood": 1} or, for regions, {"blood": [1, 2]}.
    """
    try:
        content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        entries = content["labels"].items()
        labels: dict[str, list[int]] = {}
        for key, value in entries:
            name, values = (value, [key]) if isinstance(value, str) and key.isdigit() else (key, value)
            labels[name] = [int(one) for one in (values if isinstance(values, list) else [values])]
    except FileNotFoundError:
        raise TrainError(f"{folder.name}: no dataset.json", "Name nnU-Net's raw folder, DatasetNNN_NAME.") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise TrainError(
            f"{folder.name}/dataset.json: no labels in it", "See nnU-Net's documentation of the format."
        ) from None
    ignore = labels.pop("ignore", [None])[0]
    blood = {name: values for name, values in labels.items() if values != [0]}
    values_of_blood = sorted({value for values in blood.values() for value in values if value})
    if selected is not None:
        if unknown := sorted(set(selected) - set(values_of_blood)):
            raise TrainError(f"{folder.name}: dataset.json has no label {unknown[0]}, only {values_of_blood}")
        return selected, ignore
    if len(blood) != 1:
        raise TrainError(
            f"{folder.name}: dataset.json has the labels {', '.join(blood) or 'background only'}",
            "Set labels = [...] to the values that are blood.",
        )
    return tuple(values_of_blood), ignore


def _read_diagnoses(folder: Path) -> dict[tuple[int, int], bool]:
    """Read CT-ICH's diagnoses: whether a slice, (patient, number from 1 in the file's order), holds blood."""
    path = folder / "hemorrhage_diagnosis_raw_ct.csv"
    if not path.is_file():
        raise TrainError(f"{folder.name}: no {path.name}", "Get the complete data set from PhysioNet.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as stream:
            return {
                (int(row["PatientNumber"]), int(row["SliceNumber"])): row["No_Hemorrhage"].strip() == "0"
                for row in csv.DictReader(stream)
            }
    except (KeyError, ValueError, UnicodeDecodeError):
        raise TrainError(f"{folder.name}/{path.name}: not the table of CT-ICH", "Get the file again.") from None


def _read_slices(
    name: str,
    prefix: str,
    pair: Pair,
    window: tuple[float, float] | None,
    diagnoses: Mapping[tuple[int, int], bool],
) -> Iterator[Sample]:
    """Yield the slices of an image that show a head; a slice diagnosed with blood but without outline is unlabelled."""
    try:
        hu = read_one(pair.image, window=window).hu
    except NotHead:
        _log.warning("%s: %s shows no head and is left out", name, pair.name)
        return
    except InputError as error:
        raise TrainError(f"data.own.{name}: {error.message}", error.remedy) from None
    truth, known = pair.read_truth()
    ascending = _slices_ascend(pair) if pair.image.name.lower().endswith(VOLUME_ENDINGS) else True
    for index, (plane, blood) in enumerate(zip(hu, truth, strict=True)):
        number = index + 1 if ascending else len(hu) - index
        if not blood.any() and not holds_head(plane):
            continue
        mask = np.where(blood, 1, np.where(known[index], 0, UNKNOWN)).astype(np.uint8)
        labelled = bool(blood.any()) or not (diagnoses and diagnoses.get((int(pair.patient), number)))
        if not labelled:
            mask[:] = UNKNOWN
        label = pair.name if len(hu) == 1 else f"{pair.name}_{number:03d}"
        yield Sample(name, label, f"{prefix}:{pair.patient}", plane, mask, labelled=labelled)


def holds_head(plane: NDArray[np.int16]) -> bool:
    """Return whether a slice, (rows, columns) in HU, shows a head: more than 2 % of the pixels above 10 HU."""
    return bool((plane[::2, ::2] > _TISSUE_HU).mean() > _MIN_TISSUE_SHARE)


def _slices_ascend(pair: Pair) -> bool:
    """Check that image and mask have the same orientation, and return whether the slices of the file ascend."""
    import nibabel

    image, mask = (nibabel.io_orientation(_read_affine(path)) for path in (pair.image, pair.mask))
    if (image != mask).any():
        raise TrainError(
            f"{pair.mask.parent.name}/{pair.mask.name}: stored in another orientation than its image",
            "Save the mask with its image's affine.",
        )
    return bool(image[image[:, 0] == 2][0, 1] > 0)


def _read_affine(path: Path) -> Any:
    import nibabel

    image: Any = nibabel.load(path)
    return image.affine
