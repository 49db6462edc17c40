"""The built-in sources of whole scans: every slice of a patient, with its neighbouring slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from strokeseg.errors import TrainError
from strokeseg.segmentation.preprocess import find_head_square
from strokeseg.training.sample import TEST_PATIENTS, UNKNOWN, Sample
from strokeseg.training.source_files import find_picture, mark_bright_inside, read_hu, read_index, read_mask

Slices = dict[int, NDArray[np.int16]]
"""The slices of a patient by their numbers; the next number is the slice above."""
Masks = dict[int, NDArray[np.uint8]]


def read_ctich(folder: Path) -> Iterator[Sample]:
    """Read the patients of CT-ICH who may be trained on; the pictures of test patients are not opened.

    Parameters
    ----------
    folder : Path
        The folder of the set.

    Yields
    ------
    Sample
        The slices; one without a mask has no blood.

    Raises
    ------
    TrainError
        `train`, if `index.csv` and the masks differ, or a file is missing or damaged.
    """
    rows = [
        row for row in read_index(folder) if row["role"] == "train" and f"ctich:{row['patient']}" not in TEST_PATIENTS
    ]
    for patient, patient_rows in _group_by_patient(rows).items():
        slices: Slices = {}
        masks: Masks = {}
        for row in patient_rows:
            number = int(row["slice"])
            slices[number] = read_hu(folder / patient / f"{number:02d}.jpg", -20, 100)
            path = folder / "masks" / patient / f"{number:02d}.png"
            if (int(row["mask_px"]) > 0) != path.exists():
                raise TrainError(
                    f"ctich: {patient} slice {number}: index.csv and masks differ", "Get the whole data set."
                )
            shape = slices[number].shape
            masks[number] = read_mask(path, shape) if path.exists() else np.zeros(shape, np.uint8)
        yield from _make_samples("ctich", ("ctich", patient), slices, masks)


def read_phe_sich(folder: Path) -> Iterator[Sample]:
    """Read whole patients of PHE-SICH-CT-IDS; the masks are those of ``phe_sich_clots`` beside the folder.

    Parameters
    ----------
    folder : Path
        The folder of the set.

    Yields
    ------
    Sample
        The slices with a mask. A slice without one is a negative only if neither it nor an adjacent slice has a mask
        or labelled edema; bright components in it are unknown, because ventricular blood has no outline. All other
        slices serve as neighbours only.

    Raises
    ------
    TrainError
        `train`, if a file is missing or damaged.
    """
    clots = folder.parent / "phe_sich_clots"
    outlines = {(row["patient"], int(row["slice"])): row["id"] for row in read_index(clots)}
    for patient, rows in _group_by_patient(read_index(folder)).items():
        slices = {int(row["slice"]): read_hu(folder / patient / f"{int(row['slice']):02d}.jpg", 0, 80) for row in rows}
        edema = {int(row["slice"]) for row in rows if int(row["edema_px_512"]) > 0}
        labelled = edema | {number for number in slices if (patient, number) in outlines}
        masks: Masks = {}
        for number, hu in slices.items():
            if (patient, number) in outlines:
                path = find_picture(clots / "masks", outlines[patient, number])
                masks[number] = read_mask(path, hu.shape, resample=True)
            elif not labelled & {number - 1, number, number + 1}:
                masks[number] = np.zeros(hu.shape, np.uint8)
                masks[number][mark_bright_inside(hu, masks[number], limit_hu=47, margin=2)] = UNKNOWN
        yield from _make_samples("phe_sich_whole", ("phe", patient), slices, masks)


def _group_by_patient(rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    patients: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        patients.setdefault(row["patient"], []).append(row)
    return patients


def _make_samples(
    source: str, patient: tuple[str, str], slices: Slices, masks: Mapping[int, NDArray[np.uint8]]
) -> Iterator[Sample]:
    """Make samples of the slices that have a mask; ``patient`` is the prefix of the name, and the number in the set."""
    prefix, number = patient
    square = find_head_square(np.stack(list(slices.values())))
    for index, mask in masks.items():
        yield Sample(
            source,
            f"{number}_{index:02d}",
            f"{prefix}:{number}",
            slices[index],
            mask,
            below=slices.get(index - 1),
            above=slices.get(index + 1),
            square=square,
        )
