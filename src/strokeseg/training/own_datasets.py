"""A user's own data sets, declared in the configuration: four layouts, one reader each.

Volumes are read by :func:`strokeseg.reading.read_one` and give one sample a slice, lowest first, face up, the patient's
left on the right, Hounsfield units. Pictures are grey levels through a window. Slices without a head are left out.
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
from strokeseg.evaluation.pairs import PICTURE_ENDINGS, VOLUME_ENDINGS, Pair, find_pairs
from strokeseg.reading import read_one
from strokeseg.training.data import SOURCES, UNKNOWN, Sample, Source

_log = logging.getLogger(__name__)
_TISSUE_HU, _MIN_TISSUE_SHARE = 10, 0.02
_BHSD_LABELS = (1, 2, 3, 4, 5)


class OwnDataset(BaseModel):
    """One data set of the user's own: a table [data.own.NAME]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["physionet-ctich", "bhsd", "nnunet", "pairs"] = Field(description="the layout")
    folder: str = Field(description="relative to data.root")
    window: tuple[float, float] | None = Field(
        default=None, description="(centre, width) of pictures; estimated if not given"
    )
    labels: tuple[int, ...] | None = Field(
        default=None, min_length=1, description="mask values that are blood; needed where there are more than two"
    )
    patient: str | None = Field(
        default=None,
        description="expression whose first group in a file's name is the patient, or a column of index.csv",
    )
    licence: str = "not stated"

    @field_validator("window")
    @classmethod
    def _is_window(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not (all(map(isfinite, value)) and value[1] > 0):
            raise ValueError(f"a window is [centre, width], the width above 0, and not {list(value)}")
        return value

    @field_validator("patient")
    @classmethod
    def _is_expression(cls, value: str | None) -> str | None:
        try:
            re.compile(value or "")
        except re.error as error:
            raise ValueError(f"no regular expression: {error}") from None
        return value


def make_sources(own: Mapping[str, OwnDataset]) -> dict[str, Source]:
    """Make sources of the declared sets.

    Raises
    ------
    TrainError
        `train`, if a name is a built-in source's, or no plain word.
    """
    made = {}
    for name, table in own.items():
        if name in SOURCES or not re.fullmatch(r"[A-Za-z0-9_-]+", name):
            raise TrainError(f"data.own.{name}: a built-in source's name, or no plain word", "Choose another name.")
        read = _make_reader(name, table)
        made[name] = Source(table.folder, read, table.licence, f"own, {table.kind}", table.kind == "physionet-ctich")
    return made


def _make_reader(name: str, table: OwnDataset) -> Callable[[Path], Iterator[Sample]]:
    find = {
        "physionet-ctich": _find_physionet_pairs,
        "bhsd": _find_bhsd_pairs,
        "nnunet": _find_nnunet_pairs,
        "pairs": _find_folder_pairs,
    }[table.kind]

    def read(folder: Path) -> Iterator[Sample]:
        pairs = find(folder, table)
        if not pairs:
            raise TrainError(
                f"data.own.{name}: {folder.name} holds no image with a mask",
                f"Give a folder in the layout {table.kind}.",
            )
        prefix = {"physionet-ctich": "ctich", "bhsd": "rsna"}.get(table.kind, name)
        diagnosed = _read_diagnoses(folder) if table.kind == "physionet-ctich" else {}
        for pair in pairs:
            yield from _read_slices(name, prefix, pair, table.window, diagnosed)

    return read


def _find_physionet_pairs(folder: Path, table: OwnDataset) -> list[Pair]:
    """CT-ICH as PhysioNet gives it (Hssayeni et al., Data 2020, 5:14): ct_scans/049.nii and masks/049.nii."""
    if table.patient is not None:
        raise TrainError("data.own: patient is not for physionet-ctich: the test patients go by the files' names")
    pairs = _find_two_folder_pairs(folder / "ct_scans", folder / "masks", table, patient=r"^(\d+)$")
    # The test patients go by three digits, however the files are named.
    return [replace(pair, patient=f"{int(pair.patient):03d}") for pair in pairs]


def _find_bhsd_pairs(folder: Path, table: OwnDataset) -> list[Pair]:
    """BHSD's label_192 (Wu et al., MLMI 2023): images/ and ground truths/, five kinds of blood as 1 to 5."""
    table = table if table.labels else table.model_copy(update={"labels": _BHSD_LABELS})
    return _find_two_folder_pairs(folder / "images", folder / "ground truths", table, patient=r"^(ID_[0-9a-f]+|[^.]+)")


def _find_folder_pairs(folder: Path, table: OwnDataset) -> list[Pair]:
    return find_pairs(folder, patient=table.patient, labels=table.labels)


def _find_two_folder_pairs(images: Path, masks: Path, table: OwnDataset, patient: str) -> list[Pair]:
    if not images.is_dir() or not masks.is_dir():
        missing = masks if images.is_dir() else images
        raise TrainError(f"{missing.parent.name}: no folder {missing.name}", f"Give the layout {table.kind}.")
    return find_pairs(images.parent, images.name, masks.name, table.patient or patient, labels=table.labels)


def _find_nnunet_pairs(folder: Path, table: OwnDataset) -> list[Pair]:
    """nnU-Net's raw layout, version 1 or 2: imagesTr/CASE_0000.END, labelsTr/CASE.END, dataset.json."""
    labels, ignore = _read_nnunet_labels(folder, table.labels)
    whose = re.compile(table.patient) if table.patient else None
    pairs = []
    for mask in sorted((folder / "labelsTr").glob("*")):
        ending = next((end for end in VOLUME_ENDINGS + PICTURE_ENDINGS if mask.name.lower().endswith(end)), None)
        if ending is None or mask.name.startswith("."):
            continue
        case = mask.name[: -len(ending)]
        image = folder / "imagesTr" / f"{case}_0000{mask.name[-len(ending) :]}"
        if not image.is_file():
            raise TrainError(
                f"{folder.name}: labelsTr/{mask.name} has no imagesTr/{image.name}", "Give every case both."
            )
        # A slice as a picture is named after its patient up to the last _, as in evaluate.pairs; a volume is a patient.
        patient = case if ending in VOLUME_ENDINGS else re.sub(r"(.)_[^_]*$", r"\1", case)
        if whose is not None:
            match = whose.search(case)
            if match is None:
                raise TrainError(f"{folder.name}: patient {table.patient!r} does not match the case {case}")
            patient = match[1] if match.groups() else match[0]
        pairs.append(Pair(case, image, mask, patient, ignore, labels))
    return pairs


def _read_nnunet_labels(folder: Path, chosen: tuple[int, ...] | None) -> tuple[tuple[int, ...], int | None]:
    """Read which mask values are blood and which means "not known" from dataset.json.

    Version 1 writes {"1": "blood"}, version 2 {"blood": 1} or, for regions, {"blood": [1, 2]}.
    """
    try:
        content = json.loads((folder / "dataset.json").read_text(encoding="utf-8"))
        entries = content["labels"].items()
        named: dict[str, list[int]] = {}
        for key, value in entries:
            name, values = (value, [key]) if isinstance(value, str) and key.isdigit() else (key, value)
            named[name] = [int(one) for one in (values if isinstance(values, list) else [values])]
    except FileNotFoundError:
        raise TrainError(f"{folder.name}: no dataset.json", "Give nnU-Net's raw folder, as DatasetNNN_NAME.") from None
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        raise TrainError(f"{folder.name}/dataset.json: says no labels", "See nnU-Net's page of its format.") from None
    ignore = named.pop("ignore", [None])[0]
    blood = {name: values for name, values in named.items() if values != [0]}
    stated = sorted({value for values in blood.values() for value in values if value})
    if chosen is not None:
        if unknown := sorted(set(chosen) - set(stated)):
            raise TrainError(f"{folder.name}: dataset.json knows no label {unknown[0]}, it has {stated}")
        return chosen, ignore
    if len(blood) != 1:
        raise TrainError(
            f"{folder.name}: dataset.json has the labels {', '.join(blood) or 'background alone'}",
            "Say with labels = [...] which values are blood.",
        )
    return tuple(stated), ignore


def _read_diagnoses(folder: Path) -> dict[tuple[int, int], bool]:
    """Read CT-ICH's diagnosis of every slice: (patient, slice from 1 in the file's order) to whether it holds blood."""
    path = folder / "hemorrhage_diagnosis_raw_ct.csv"
    if not path.is_file():
        raise TrainError(f"{folder.name}: no {path.name}", "Get the whole data set from PhysioNet.")
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
    diagnosed: Mapping[tuple[int, int], bool],
) -> Iterator[Sample]:
    """Return the slices of one image that show a head; a slice with a diagnosis of blood and no outline is unlabelled."""
    try:
        hu = read_one(pair.image, window=window).hu
    except NotHead:
        _log.warning("%s: %s shows no head and was left out", name, pair.name)
        return
    except InputError as error:
        raise TrainError(f"data.own.{name}: {error.message}", error.remedy) from None
    truth, known = pair.read_truth()
    upwards = _slices_ascend(pair) if pair.image.name.lower().endswith(VOLUME_ENDINGS) else True
    for index, (plane, blood) in enumerate(zip(hu, truth, strict=True)):
        number = index + 1 if upwards else len(hu) - index
        if not blood.any() and not holds_head(plane):
            continue
        mask = np.where(blood, 1, np.where(known[index], 0, UNKNOWN)).astype(np.uint8)
        labelled = bool(blood.any()) or not (diagnosed and diagnosed.get((int(pair.patient), number)))
        if not labelled:
            mask[:] = UNKNOWN
        label = pair.name if len(hu) == 1 else f"{pair.name}_{number:03d}"
        yield Sample(name, label, f"{prefix}:{pair.patient}", plane, mask, labelled=labelled)


def holds_head(plane: NDArray[np.int16]) -> bool:
    """Return whether a slice, (rows, columns) in HU, shows tissue of a head's size: above 10 HU on 2 % of the pixels."""
    return bool((plane[::2, ::2] > _TISSUE_HU).mean() > _MIN_TISSUE_SHARE)


def _slices_ascend(pair: Pair) -> bool:
    """Check that image and mask are stored in the same directions, and tell whether the file's slices go upwards."""
    import nibabel

    image, mask = (nibabel.io_orientation(_read_affine(path)) for path in (pair.image, pair.mask))
    if (image != mask).any():
        raise TrainError(
            f"{pair.mask.parent.name}/{pair.mask.name}: stored in other directions than its image",
            "Save the mask with its image's affine.",
        )
    return bool(image[image[:, 0] == 2][0, 1] > 0)


def _read_affine(path: Path) -> Any:
    import nibabel

    image: Any = nibabel.load(path)
    return image.affine
