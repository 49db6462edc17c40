"""Calibration of the shipped networks, with figures on unseen patients: `python -m benchmarks calibration`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from strokeseg import evaluation
from strokeseg.reading import read_one
from strokeseg.segmentation.models import Card
from strokeseg.training.calibration import calibrate_network
from strokeseg.training.sample import Sample

TEST_WINDOW = (40.0, 120.0)
STACK_WINDOW = (40.0, 80.0)


def calibrate_shipped_network(name: str, root: Path, *, log: Callable[[str], None] = print) -> Card:
    """Calibrate a shipped network and write its card.

    Parameters
    ----------
    name : str
        Name of the network.
    root : Path
        Folder of the data sets.
    log : callable
        Takes a line on the progress.

    Returns
    -------
    Card
        The card with the calibration.
    """
    return calibrate_network(name, root, unseen=list(read_unseen_samples(root)), log=log)


def read_unseen_samples(root: Path) -> Iterator[Sample]:
    """Read the test patients that are present; none of their slices was trained on or used for a choice.

    Parameters
    ----------
    root : Path
        Folder of the data sets.

    Yields
    ------
    Sample
        A slice.
    """
    if (root / "ctich_jpg").is_dir():
        for pair in evaluation.find_pairs(root / "ctich_jpg"):
            truth, _ = pair.read_truth()
            hu = read_one(pair.image, window=TEST_WINDOW).hu[0]
            yield Sample("ctich_jpg", pair.name, f"ctich:{pair.patient}", hu, truth[0].astype(np.uint8))
