"""Whole scans of CT-ICH, each segmented by a network of a fold that never saw the patient."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import nn

from strokeseg import segmentation
from strokeseg.errors import TrainError
from strokeseg.imaging import brain_mask, components
from strokeseg.scan import Scan
from strokeseg.segmentation.lesion_features import FEATURES, measure_candidates
from strokeseg.segmentation.models import Card
from strokeseg.training import data, networks, run_folder
from strokeseg.training.calibration.cases import make_nominal_scan

Floats = NDArray[np.float64]
Log = Callable[[str], None]

SOURCE = "ctich"
MIN_OVERLAP = 0.2
"""A candidate is a true lesion if at least this share of its pixels is annotated."""


@dataclass(frozen=True)
class WholeScan:
    """One patient's scan with the candidates of a network that never saw the patient.

    Attributes
    ----------
    patient : str
        The patient.
    blood : bool
        Whether any slice is annotated.
    features : ndarray of float64, shape (candidates, features)
        In the order of :data:`strokeseg.segmentation.lesion_features.FEATURES`.
    is_blood : ndarray of bool, shape (candidates,)
        Whether each candidate is a true lesion.
    pixels, hits : ndarray of int, shape (candidates,)
        Pixels of each candidate, and how many of them are annotated.
    annotated : int
        Annotated pixels of the scan.
    lesion_mm : ndarray of float64, shape (lesions,)
        Thickness of each annotated lesion: diameter of the largest circle in it on any slice.
    touches : ndarray of bool, shape (lesions, candidates)
        Whether a candidate shares a pixel with an annotated lesion.
    """

    patient: str
    blood: bool
    features: Floats
    is_blood: NDArray[np.bool_]
    pixels: NDArray[np.int64]
    hits: NDArray[np.int64]
    annotated: int
    lesion_mm: Floats
    touches: NDArray[np.bool_]


class _FoldEngine:
    """A network of a fold as an engine."""

    name, precision, concurrent_slices = "torch", "fp32", 1

    def __init__(self, network: nn.Module, card: Card) -> None:
        self._network, self.card = network.eval(), card

    def logits(self, image: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = self._network(torch.from_numpy(image))[0, 0].numpy()
        return logits


def collect_scans(card: Card, folds: Sequence[Path], data_root: Path, log: Log = print) -> list[WholeScan]:
    """Segment every patient of CT-ICH with a fold that never saw the patient.

    Parameters
    ----------
    card : Card
        The network that is calibrated: its threshold and size limits apply.
    folds : sequence of Path
        Folders of the runs, with `best.ckpt` and `split.json`.
    data_root : Path
        Folder of the data sets.
    log : callable
        Called with a line for every patient.

    Returns
    -------
    list of WholeScan
        One for each patient.

    Raises
    ------
    TrainError
        `train`, if a fold is no run, or every fold was trained on a patient.
    """
    bare = card.model_copy(update={"calibration": None, "review": None, "operating_points": {}})
    engines = [_load_fold(fold, bare) for fold in folds]
    scans = []
    for patient, samples in itertools.groupby(data.stream(data_root, SOURCE), lambda sample: sample.patient):
        engine = next((engine for engine, trained in engines if patient not in trained), None)
        if engine is None:
            raise TrainError(f"every fold was trained on {patient}", "Name folds that leave each patient out once.")
        slices = list(samples)
        scan = make_nominal_scan(np.stack([sample.hu for sample in slices]))
        scans.append(_segment(patient, scan, np.stack([sample.mask == 1 for sample in slices]), engine))
        log(f"{patient}: {len(scans[-1].pixels)} candidates, {int(scans[-1].is_blood.sum())} with blood")
    return scans


def _load_fold(folder: Path, card: Card) -> tuple[_FoldEngine, frozenset[str]]:
    earlier = run_folder.find_earlier_run(folder, frozenset(), "--fold")
    network = networks.load_averaged_network(earlier.config, earlier.checkpoint)
    sized = card.model_copy(update={"size": earlier.config.network.size})
    return _FoldEngine(network, sized), earlier.training_patients


def _segment(patient: str, scan: Scan, truth: NDArray[np.bool_], engine: _FoldEngine) -> WholeScan:
    """Segment a scan without a second look, and measure what it would look at."""
    prediction = segmentation.predict(scan, engine)
    labels, count = components.label(prediction.mask, scan)
    region = brain_mask.find_brain(scan, prediction.mask)
    numbers = np.arange(1, count + 1)
    candidates = measure_candidates(labels, numbers, prediction.probability, scan, region)
    pixels = np.bincount(labels.ravel(), minlength=count + 1)[1:]
    hits = np.bincount(labels[truth], minlength=count + 1)[1:]
    table = np.array([[one.features[name] for name in FEATURES] for one in candidates]).reshape(count, len(FEATURES))
    lesions, lesion_count = components.label(truth, scan)
    touches = np.zeros((lesion_count + 1, count + 1), dtype=bool)
    touches[lesions.ravel(), labels.ravel()] = True
    return WholeScan(
        patient,
        bool(truth.any()),
        table,
        hits >= MIN_OVERLAP * np.maximum(pixels, 1),
        pixels,
        hits,
        int(truth.sum()),
        _measure_thickness_mm(lesions, lesion_count, scan.planes.pixel_spacing_mm),
        touches[1:, 1:],
    )


def _measure_thickness_mm(labels: components.Labels, count: int, spacing_mm: tuple[float, float]) -> Floats:
    thickness = np.zeros(count)
    for plane in labels:
        for number in np.unique(plane[plane > 0]):
            inside = ndimage.distance_transform_edt(np.pad(plane == number, 1), sampling=spacing_mm)
            thickness[number - 1] = max(thickness[number - 1], 2 * float(inside.max()))
    return thickness
