"""Fit a network's confidence and its volume interval to its validation patients.

The unit is a patient. All annotated slices of a patient together are taken for a scan: area x nominal thickness. That
whole scans behave in the same way is assumed, not shown. Checkpoint and threshold were chosen by the same patients, so
the figures are optimistic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.optimize import minimize

from strokeseg import segmentation
from strokeseg.errors import TrainError
from strokeseg.imaging import components
from strokeseg.scan import Scan
from strokeseg.segmentation import models
from strokeseg.segmentation.confidence import NOMINAL_HEAD_SQUARE_MM, NOMINAL_SLICE_MM
from strokeseg.segmentation.engines.onnxruntime import OnnxRuntime
from strokeseg.segmentation.engines.protocol import Engine
from strokeseg.segmentation.interval import compute_nonconformity, conformal_quantile, volume_uncertainty_ml
from strokeseg.segmentation.models import Calibration, Card, HemorrhageCalibration, LogisticCurve, VolumeCalibration
from strokeseg.segmentation.preprocess import find_head_square
from strokeseg.training import data, own_datasets
from strokeseg.training.calibration import degradation
from strokeseg.training.calibration.degradation import Degradation, SliceGroup
from strokeseg.training.data import Sample

Floats = NDArray[np.float64]

INTERVAL_LEVEL = 0.9
SURE_AT, POSSIBLE_AT, SLACK_ML = 0.7, 0.1, 1.0
"""The design of docs/calibration.md with the narrowest intervals at equal coverage."""
FLOOR_ML = 0.05
"""Half of the volume below which a component is dropped, so below the volume of every lesion."""
MIN_PATIENTS = 3
"""No confidence is fitted with fewer patients with blood, or fewer patients without."""

_PICTURE_SPAN_HU = 200.0

UNCALIBRATED_LIMIT = "Its probabilities are not calibrated, and it gives no interval of the volume."
CALIBRATED_LIMIT = (
    "Its confidence and its volume interval come from few patients, and from annotated slices instead of whole scans."
)


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
    return OnnxRuntime(card.model_copy(update={"calibration": None}), weights, 1)


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


def conformal_scores(rows: Sequence[CasePrediction]) -> Floats:
    """Compute the conformal score of each prediction.

    Parameters
    ----------
    rows : sequence of CasePrediction
        The predictions.

    Returns
    -------
    ndarray of float, shape (rows,)
        Error of the volume in relation to its uncertainty.
    """
    truth, volume, below, above = (
        np.array([getattr(row, name) for row in rows]) for name in ("truth_ml", "volume_ml", "below_ml", "above_ml")
    )
    return compute_nonconformity(truth, volume, below + SLACK_ML, above + SLACK_ML)


def select_measurable(rows: Iterable[CasePrediction]) -> list[CasePrediction]:
    """Select the predictions whose volume can be compared: with blood, and not missed.

    Parameters
    ----------
    rows : iterable of CasePrediction
        The predictions.

    Returns
    -------
    list of CasePrediction
        Those with blood and a predicted volume.
    """
    return [row for row in rows if row.blood and row.volume_ml > 0]


def fit_volume_calibration(rows: Sequence[CasePrediction], factors: Mapping[str, float]) -> VolumeCalibration | None:
    """Fit the volume interval to the patients with blood.

    Parameters
    ----------
    rows : sequence of CasePrediction
        One for each patient.
    factors : mapping of str to float
        Measured factors by remark code; assumed ones are added.

    Returns
    -------
    VolumeCalibration, optional
        None without a measurable patient.
    """
    used = select_measurable(rows)
    if not used:
        return None
    value, level = conformal_quantile(conformal_scores(used), INTERVAL_LEVEL)
    return VolumeCalibration(
        level=round(level, 4),
        patients=len(used),
        quantile=round(value, 4),
        sure_at=SURE_AT,
        possible_at=POSSIBLE_AT,
        slack_ml=SLACK_ML,
        factors={**factors, **degradation.ASSUMED_FACTORS},
        not_measured=sorted(degradation.ASSUMED_FACTORS),
    )


def measure_factors(cases: Sequence[Case], clean: Sequence[CasePrediction], engine: Engine) -> dict[str, float]:
    """Measure by which factor each degradation widens the quantile of the same patients' scores.

    If a degradation has two directions, a patient counts with the worse one. A patient whose lesion is missed after
    the degradation counts with its whole volume as error.

    Parameters
    ----------
    cases : sequence of Case
        The patients.
    clean : sequence of CasePrediction
        Their predictions without degradation.
    engine : Engine
        An engine without calibration.

    Returns
    -------
    dict of str to float
        Factor by remark code, at least 1.
    """
    before = {(row.source, row.patient): row for row in select_measurable(clean)}
    measured = {}
    for code, degradations in degradation.DEGRADATIONS.items():
        worst: dict[tuple[str, str], float] = {}
        for case in cases:
            key = (case.source, case.patient)
            rows = [row for each in degradations if key in before and (row := predict_case(case, engine, each))]
            if rows:
                worst[key] = float(conformal_scores(rows).max())
        if worst:
            usual = conformal_quantile(conformal_scores([before[key] for key in worst]), INTERVAL_LEVEL)[0]
            measured[code] = round(
                max(1.0, conformal_quantile(list(worst.values()), INTERVAL_LEVEL)[0] / max(usual, 1e-6)), 2
            )
    return measured


def fit_logistic(evidence_ml: Floats, blood: NDArray[np.bool_], weights: Floats) -> Floats:
    """Fit the probability of blood to the logarithm of the evidence.

    The targets are Platt's (Advances in Large Margin Classifiers, 1999): (n + 1) / (n + 2) for the n patients with
    blood, 1 / (m + 2) for the m without. They keep the slope finite if the two do not overlap.

    Parameters
    ----------
    evidence_ml : ndarray of float, shape (rows,)
        Evidence of blood, ml; at least the floor.
    blood : ndarray of bool, shape (rows,)
        Whether there is blood.
    weights : ndarray of float, shape (rows,)
        Number of patients that a row stands for.

    Returns
    -------
    ndarray of float, shape (2,)
        Intercept and slope.
    """
    with_blood, without = float(weights[blood].sum()), float(weights[~blood].sum())
    target = np.where(blood, (with_blood + 1) / (with_blood + 2), 1 / (without + 2))
    each = np.where(blood, weights / with_blood, weights / without)
    size = np.log(evidence_ml)

    def loss(curve: Floats) -> float:
        logit = curve[0] + curve[1] * size
        return float((each * (np.logaddexp(0, logit) - target * logit)).sum())

    fitted = minimize(loss, np.array([0.0, 1.0]), bounds=[(-50, 50), (0, 50)], method="L-BFGS-B")
    return np.asarray(fitted.x, dtype=np.float64)


def collect_evidence(rows: Sequence[CasePrediction]) -> tuple[Floats, NDArray[np.bool_], Floats]:
    """Collect what :func:`fit_logistic` takes.

    Each patient has weight 1 with blood and weight 1 without, whatever its number of rows.

    Parameters
    ----------
    rows : sequence of CasePrediction
        The predictions.

    Returns
    -------
    evidence_ml : ndarray of float, shape (rows,)
        Volume of the largest lesion, at least the floor, ml.
    blood : ndarray of bool, shape (rows,)
        Whether there is blood.
    weights : ndarray of float, shape (rows,)
        Weight of each row.
    """
    kinds = [(row.patient, row.blood) for row in rows]
    weights = np.array([1 / kinds.count(kind) for kind in kinds])
    sizes = np.maximum([row.lesion_ml for row in rows], FLOOR_ML)
    return sizes, np.array([row.blood for row in rows]), weights


def fit_blood_calibration(
    of_patients: Sequence[CasePrediction], of_slices: Sequence[CasePrediction]
) -> HemorrhageCalibration | None:
    """Fit one curve to patients and one to single slices.

    Parameters
    ----------
    of_patients, of_slices : sequence of CasePrediction
        One for each patient, and one for each slice.

    Returns
    -------
    HemorrhageCalibration, optional
        None with fewer than :data:`MIN_PATIENTS` patients with blood, or without.
    """
    curves = []
    for rows in (of_patients, of_slices):
        sizes, blood, weights = collect_evidence(rows)
        with_blood, without = (len({row.patient for row in rows if row.blood is side}) for side in (True, False))
        if min(with_blood, without) < MIN_PATIENTS:
            return None
        intercept, slope = (round(float(value), 4) for value in fit_logistic(sizes, blood, weights))
        curves.append(LogisticCurve(intercept=intercept, slope=slope, with_blood=with_blood, without=without))
    return HemorrhageCalibration(floor_ml=FLOOR_ML, scan=curves[0], one_slice=curves[1])


@dataclass(frozen=True)
class CalibrationFit:
    """A calibration, and the predictions it was fitted to: one for each patient, and one for each slice."""

    calibration: Calibration
    patient_predictions: tuple[CasePrediction, ...]
    slice_predictions: tuple[CasePrediction, ...]


def fit_calibration(engine: Engine, samples: Sequence[Sample], *, degraded: bool = True) -> CalibrationFit:
    """Calibrate a network on the slices of its validation patients.

    Parameters
    ----------
    engine : Engine
        An engine of the network.
    samples : sequence of Sample
        As :func:`read_validation_samples` returns them.
    degraded : bool, default: True
        Also measure the factors of the remarks. Otherwise only the assumed ones are there.

    Returns
    -------
    CalibrationFit
        The calibration, without figures.
    """
    uncalibrated, cases = load_uncalibrated_engine(engine), group_by_patient(samples)
    of_patients, of_slices = (tuple(_predict_cases(each, uncalibrated)) for each in (cases, split_into_slices(samples)))
    measured = measure_factors(cases, of_patients, uncalibrated) if degraded else {}
    calibration = Calibration(
        volume=fit_volume_calibration(of_patients, measured),
        blood=fit_blood_calibration(of_patients, of_slices),
        figures={},
    )
    return CalibrationFit(calibration, of_patients, of_slices)


def add_calibration(card: Card, calibration: Calibration) -> Card:
    """Add a calibration to a card, and replace the limit that states that there is none.

    Parameters
    ----------
    card : Card
        The network's card.
    calibration : Calibration
        The calibration.

    Returns
    -------
    Card
        A new card.
    """
    limits = [
        *(limit for limit in card.limits if limit not in (UNCALIBRATED_LIMIT, CALIBRATED_LIMIT)),
        CALIBRATED_LIMIT,
    ]
    return card.model_copy(update={"calibration": calibration, "limits": limits})


def _predict_cases(cases: Iterable[Case], engine: Engine) -> Iterator[CasePrediction]:
    return (row for case in cases if (row := predict_case(case, engine)) is not None)
