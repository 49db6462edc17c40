"""Cases to calibrate with: the annotated slices of a patient, or one slice; and the prediction for each."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from strokeseg import segmentation
from strokeseg.errors import TrainError
from strokeseg.imaging import components
from strokeseg.scan import Scan
from strokeseg.segmentation import models
from strokeseg.segmentation.confidence import NOMINAL_SLICE_MM
from strokeseg.segmentation.engines.onnxruntime import OnnxRuntime
from strokeseg.segmentation.engines.protocol import Engine
from strokeseg.segmentation.interval import volume_uncertainty_ml
from strokeseg.segmentation.models import Card
from strokeseg.segmentation.postprocess import NOMINAL_HEAD_SQUARE_MM
from strokeseg.segmentation.preprocess import find_head_square
from strokeseg.training import data, own_datasets
from strokeseg.training.calibration import degradation
from strokeseg.training.calibration.degradation import Degradation, SliceGroup
from strokeseg.training.sample import Sample

Floats = NDArray[np.float64]

SURE_AT, POSSIBLE_AT = 0.7, 0.03
"""Probabilities from which a pixel is surely, or possibly, hemorrhage: the design of docs/calibration.md."""

_PICTURE_SPAN_HU = 200.0


@dataclass(frozen=True)
class Case:
    """One patient's slices of one source, grouped by their size."""

    patient: str
    source: str
    blood: bool
    slice_groups: tuple[SliceGroup, ...]


@dataclass(frozen=True)
class CasePrediction:
    """The network's result for one case.

    Attributes
    ----------
    patient, source : str
        The patient, and the data set.
    blood : bool
        Whether any slice holds blood.
    truth_ml, volume_ml : float
        Annotated and predicted volume, at the nominal spacing, ml. Pixels of unknown truth count in neither.
    below_ml, above_ml : float
        Uncertainty of the predicted volume below and above it, without slack, ml.
    lesion_ml : float
        Volume of the largest predicted lesion, ml.
    soft_ml : float, default: 0.0
        Largest sum of probabilities over a lesion, ml.
    mean_probability, top_probability : float, default: 0.0
        Highest mean probability and highest maximum probability of a lesion.
    """

    patient: str
    source: str
    blood: bool
    truth_ml: float
    volume_ml: float
    below_ml: float
    above_ml: float
    lesion_ml: float
    soft_ml: float = 0.0
    mean_probability: float = 0.0
    top_probability: float = 0.0


def read_validation_samples(card: Card, root: Path) -> list[Sample]:
    """Read the slices of a card's validation patients.

    Parameters
    ----------
    card : Card
        The network's card.
    root : Path
        Folder of the data sets.

    Returns
    -------
    list of Sample
        Outlined slices; boxed and unlabelled ones are left out.

    Raises
    ------
    TrainError
        `train`, if the card names no validation patients, or the data lack one of them.
    """
    patients = set(card.training.get("validation_patients", ()))
    if not patients:
        raise TrainError(f"{card.name}: the card names no validation patients", "Export the network again.")
    data_config = card.training.get("config", {}).get("data", {})
    own = own_datasets.make_sources(
        {name: own_datasets.OwnDataset(**declaration) for name, declaration in data_config.get("own", {}).items()}
    )
    names = [row["name"] for row in card.training.get("sources", ()) if row.get("validation")]
    samples = [
        sample
        for name in names
        for sample in data.stream(root, name, None, own)
        if sample.patient in patients and sample.labelled and not sample.boxed
    ]
    if absent := sorted(patients - {sample.patient for sample in samples}):
        raise TrainError(f"{card.name}: the data lack the validation patient {absent[0]}", "Get the complete sets.")
    return samples


def group_by_patient(samples: Iterable[Sample]) -> list[Case]:
    """Group slices by patient, in their order; slices of different size form groups of their own.

    Parameters
    ----------
    samples : iterable of Sample
        The slices.

    Returns
    -------
    list of Case
        One for each source and patient.
    """
    by_patient: dict[tuple[str, str], dict[tuple[int, ...], list[Sample]]] = {}
    for sample in samples:
        by_patient.setdefault((sample.source, sample.patient), {}).setdefault(sample.hu.shape, []).append(sample)
    return [_make_case(patient, source, list(shapes.values())) for (source, patient), shapes in by_patient.items()]


def _make_case(patient: str, source: str, groups: Sequence[Sequence[Sample]]) -> Case:
    slice_groups = []
    for group in groups:
        scan = make_nominal_scan(np.stack([sample.hu for sample in group]))
        slice_groups.append(degradation.make_slice_group(scan, np.stack([sample.mask for sample in group])))
    return Case(patient, source, any(sample.positive for group in groups for sample in group), tuple(slice_groups))


def make_nominal_scan(hu: NDArray[np.int16]) -> Scan:
    """Make a scan of slices whose spacing is unknown: 5 mm apart, the head's square 225 mm wide.

    Values that span no more than 200 HU are taken for a picture in the window that they span.

    Parameters
    ----------
    hu : ndarray of int16, shape (slices, rows, columns)
        Hounsfield units, or an estimate.

    Returns
    -------
    Scan
        The slices with a nominal spacing; not calibrated if they are taken for a picture.
    """
    pixel_mm = NOMINAL_HEAD_SQUARE_MM / find_head_square(hu).side
    low, high = float(hu.min()), float(hu.max())
    picture = high - low <= _PICTURE_SPAN_HU
    scan = Scan.from_array(hu, (NOMINAL_SLICE_MM, pixel_mm, pixel_mm), calibrated=not picture)
    return replace(scan, window=((low + high) / 2, max(high - low, 1.0))) if picture else scan


def split_into_slices(samples: Iterable[Sample]) -> list[Case]:
    """Make a case of every single slice.

    Parameters
    ----------
    samples : iterable of Sample
        The slices.

    Returns
    -------
    list of Case
        One for each slice.
    """
    return [_make_case(sample.patient, sample.source, [[sample]]) for sample in samples]


def load_uncalibrated_engine(engine: Engine) -> Engine:
    """Load an engine's network without its calibration, so that it always keeps its mask.

    Parameters
    ----------
    engine : Engine
        An engine of an installed network.

    Returns
    -------
    Engine
        ONNX Runtime, one thread.
    """
    card, weights = models.load_weights(engine.card.name)
    return OnnxRuntime(card.model_copy(update={"calibration": None, "review": None}), weights, 1)


def predict_case(case: Case, engine: Engine, degrade: Degradation | None = None) -> CasePrediction | None:
    """Segment a case, degraded if a degradation is given.

    Parameters
    ----------
    case : Case
        The slices.
    engine : Engine
        An engine without calibration (:func:`load_uncalibrated_engine`).
    degrade : callable, optional
        A function of :mod:`strokeseg.training.calibration.degradation`.

    Returns
    -------
    CasePrediction, optional
        None if no group of slices can be degraded in this way.
    """
    groups = [degrade(group) if degrade else group for group in case.slice_groups]
    used = [group for group in groups if group is not None]
    if not used:
        return None
    sums, lesions = np.zeros(4), [np.zeros(4)]
    for group in used:
        prediction = segmentation.predict(group.scan, engine)
        mask = prediction.mask & group.known
        probability = np.where(group.known, prediction.probability, np.float16(0))
        uncertainty_ml = volume_uncertainty_ml(probability, mask, group.scan, SURE_AT, POSSIBLE_AT)
        sums += (group.truth_ml, float(_pixel_volumes_ml(group.scan)[mask].sum()), *uncertainty_ml)
        lesions += _lesion_figures(prediction, group.scan)
    strongest = np.max(lesions, axis=0)
    return CasePrediction(case.patient, case.source, case.blood, *sums.tolist(), *strongest.tolist())


def _pixel_volumes_ml(scan: Scan) -> Floats:
    """Return each pixel's volume, (slices, rows, columns), ml."""
    weights_mm = np.asarray(scan.weights_mm, dtype=np.float64)[:, None, None]
    return np.broadcast_to(weights_mm * scan.planes.pixel_area_mm2 / 1000, scan.shape)


def _lesion_figures(prediction: segmentation.Prediction, scan: Scan) -> list[Floats]:
    """Return each lesion's (volume, sum of probabilities, mean probability, top probability)."""
    labels, count = components.label(prediction.mask, scan)
    numbers = np.arange(1, count + 1)
    if not count:
        return []
    probability, pixel_ml = prediction.probability.astype(np.float64), _pixel_volumes_ml(scan)
    volume, soft = ndimage.sum(pixel_ml, labels, numbers), ndimage.sum(pixel_ml * probability, labels, numbers)
    return list(np.column_stack([volume, soft, soft / volume, ndimage.maximum(probability, labels, numbers)]))
