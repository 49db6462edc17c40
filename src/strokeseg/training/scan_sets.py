"""The built-in sets of whole scans that `strokeseg evaluate --set` scores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from strokeseg.errors import TrainError
from strokeseg.evaluation.image_files import Spacing
from strokeseg.evaluation.scan_reference import list_pictures_in_order
from strokeseg.evaluation.scan_row import Reference
from strokeseg.evaluation.scans import ScanCase, find_scans
from strokeseg.evaluation.split_file import SplitRow
from strokeseg.scan import Scan
from strokeseg.training.sample import TEST_PATIENTS, UNKNOWN
from strokeseg.training.source_files import read_index
from strokeseg.training.whole_scans import (
    check_ctich_mask,
    group_by_patient,
    read_phe_masks,
    read_phe_outlines,
    read_phe_slices,
)


@dataclass(frozen=True)
class ScanSet:
    """A built-in set of whole scans.

    Attributes
    ----------
    find : callable
        Takes the folder of the set and a role, and returns the scans.
    assumed_spacing_mm : tuple of float
        (slice, row, column), mm: the set states none.
    roles : tuple of str
        The roles of its patients; empty if it has none.
    """

    find: Callable[[Path, str | None], list[ScanCase]]
    assumed_spacing_mm: Spacing
    roles: tuple[str, ...]


def find_ctich(folder: Path, role: str | None) -> list[ScanCase]:
    """Find the patients of CT-ICH with a role; the pictures of the others are not opened.

    Parameters
    ----------
    folder : Path
        The folder of the set.
    role : str
        "train" or "test".

    Returns
    -------
    list of ScanCase
        A scan for each patient; a slice without a mask has no blood.

    Raises
    ------
    TrainError
        `train`, if `index.csv` and the masks differ, or a patient reserved for testing has the role "train".
    """
    cases = [replace(case, patient=f"ctich:{case.name}") for case in find_scans(folder, role=role)]
    if reserved := [case.name for case in cases if role == "train" and case.patient in TEST_PATIENTS]:
        raise TrainError(f"ctich: {reserved[0]} is a test patient with the role train", "Get the whole data set.")
    names = {case.name for case in cases}
    for row in read_index(folder):
        if row["patient"] in names:
            check_ctich_mask(row, folder / "masks" / row["patient"] / f"{int(row['slice']):02d}.png")
    return cases


def find_phe_sich(folder: Path, role: str | None) -> list[ScanCase]:
    """Find the patients of PHE-SICH-CT-IDS, who all bleed; the masks are those of ``phe_sich_clots`` beside the folder.

    Parameters
    ----------
    folder : Path
        The folder of the set.
    role : str or None
        Not used: the set has no roles.

    Returns
    -------
    list of ScanCase
        A scan for each patient. Of a patient without any mask only the answer yes or no is scored.

    Raises
    ------
    TrainError
        `train`, if a file is missing.
    """
    outlines = read_phe_outlines(folder)
    return [
        ScanCase(
            patient,
            folder / patient,
            f"phe:{patient}",
            partial(_read_phe_reference, folder=folder, rows=rows, outlines=outlines.get(patient, {})),
            blood=True,
        )
        for patient, rows in group_by_patient(read_index(folder)).items()
    ]


def _read_phe_reference(scan: Scan, folder: Path, rows: list[dict[str, str]], outlines: dict[int, str]) -> Reference:
    truth, known = np.zeros(scan.shape, dtype=bool), np.zeros(scan.shape, dtype=bool)
    if not outlines:
        return Reference(truth, known)
    masks = read_phe_masks(folder, rows, read_phe_slices(folder, rows), outlines)
    for index, picture in enumerate(list_pictures_in_order(folder / rows[0]["patient"], scan)):
        if (mask := masks.get(int(picture.stem))) is not None:
            truth[index], known[index] = mask == 1, mask != UNKNOWN
    return Reference(truth, known)


SCAN_SETS = {
    # Its README calls 0.45 mm a guess; the paper states slices of about 5 mm.
    "ctich": ScanSet(find_ctich, (5.0, 0.45, 0.45), ("train", "test")),
    # 0.45 mm at the 512 pixels of the originals; the pictures have 352.
    "phe_sich": ScanSet(find_phe_sich, (5.0, 0.65, 0.65), ()),
}


def leave_out_trained(cases: list[ScanCase], split: list[SplitRow]) -> list[ScanCase]:
    """Leave out the patients of the training side of a split.

    Parameters
    ----------
    cases : list of ScanCase
        Scans of a built-in set.
    split : list of SplitRow
        The split.

    Returns
    -------
    list of ScanCase
        The other scans.

    Raises
    ------
    TrainError
        `train`, if none is left.
    """
    trained = {row.patient for row in split if row.side == "train"}
    if unseen := [case for case in cases if case.patient not in trained]:
        return unseen
    raise TrainError("every patient is on the training side of the split", "Name another split or another role.")
