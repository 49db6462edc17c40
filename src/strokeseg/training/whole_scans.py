"""The built-in sources of whole scans: every slice of a patient, with its neighbouring slices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    for patient, patient_rows in group_by_patient(rows).items():
        slices: Slices = {}
        masks: Masks = {}
        for row in patient_rows:
            number = int(row["slice"])
            slices[number] = read_hu(folder / patient / f"{number:02d}.jpg", -20, 100)
            path = folder / "masks" / patient / f"{number:02d}.png"
            check_ctich_mask(row, path)
            shape = slices[number].shape
            masks[number] = read_mask(path, shape) if path.exists() else np.zeros(shape, np.uint8)
        yield from _make_samples("ctich", ("ctich", patient), slices, masks)


def check_ctich_mask(row: Mapping[str, str], path: Path) -> None:
    """Raise TrainError if a slice of CT-ICH has a mask and no row says so, or the reverse: a mask may be missing."""
    if (int(row["mask_px"]) > 0) != path.exists():
        raise TrainError(
            f"ctich: {row['patient']} slice {int(row['slice'])}: index.csv and masks differ", "Get the whole data set."
        )


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
    outlines = read_phe_outlines(folder)
    for patient, rows in group_by_patient(read_index(folder)).items():
        slices = read_phe_slices(folder, rows)
        masks = read_phe_masks(folder, rows, slices, outlines.get(patient, {}))
        yield from _make_samples("phe_sich_whole", ("phe", patient), slices, masks)


def read_phe_outlines(folder: Path) -> dict[str, dict[int, str]]:
    """Return the names of the masks of ``phe_sich_clots`` by patient and slice."""
    outlines: dict[str, dict[int, str]] = {}
    for row in read_index(_find_clots(folder)):
        outlines.setdefault(row["patient"], {})[int(row["slice"])] = row["id"]
    return outlines


def read_phe_slices(folder: Path, rows: Sequence[Mapping[str, str]]) -> Slices:
    """Read the pictures of a patient of PHE-SICH-CT-IDS."""
    return {int(row["slice"]): read_hu(folder / row["patient"] / f"{int(row['slice']):02d}.jpg", 0, 80) for row in rows}


def read_phe_masks(
    folder: Path, rows: Sequence[Mapping[str, str]], slices: Slices, outlines: Mapping[int, str]
) -> Masks:
    """Read the masks of a patient of PHE-SICH-CT-IDS, see :func:`read_phe_sich`.

    Parameters
    ----------
    folder : Path
        The folder of the set.
    rows : sequence of mapping
        Rows of the patient in ``index.csv``.
    slices : Slices
        Pictures of the patient.
    outlines : mapping of int to str
        Names of the patient's masks by slice.

    Returns
    -------
    Masks
        Masks by slice; a slice of which nothing is known is missing.

    Raises
    ------
    TrainError
        `train`, if a file is missing or damaged.
    """
    labelled = {int(row["slice"]) for row in rows if int(row["edema_px_512"]) > 0} | set(outlines)
    masks: Masks = {}
    for number, hu in slices.items():
        if number in outlines:
            path = find_picture(_find_clots(folder) / "masks", outlines[number])
            masks[number] = read_mask(path, hu.shape, resample=True)
        elif not labelled & {number - 1, number, number + 1}:
            masks[number] = np.zeros(hu.shape, np.uint8)
            masks[number][mark_bright_inside(hu, masks[number], limit_hu=47, margin=2)] = UNKNOWN
    return masks


def _find_clots(folder: Path) -> Path:
    return folder.parent / "phe_sich_clots"


def group_by_patient(rows: list[dict[str, str]]) -> dict[str, list[dict[str, str]]]:
    """Group the rows of an ``index.csv`` by their patient."""
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
