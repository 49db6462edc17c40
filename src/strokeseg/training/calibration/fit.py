"""From a network's answers on its validation patients to how sure it is, and how far its volumes may be off.

The unit is a patient. All drawn slices of one together are taken for a scan: area x nominal thickness. That whole scans
behave like these is assumed, not shown. Checkpoint and threshold were chosen by the same patients, so what is found on
them flatters.
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
"""Of the designs in docs/calibration.md those with the narrowest intervals at equal coverage."""
FLOOR_ML = 0.05
"""Half of a speck's bound: below every lesion that is kept."""
MIN_PATIENTS = 3
"""Patients with blood, and without, below which no confidence is fitted."""

_PICTURE_SPAN_HU = 200.0

UNCALIBRATED_LIMIT = "Its probabilities are not calibrated, and it gives no interval of the volume."
CALIBRATED_LIMIT = "Its confidence and its interval of the volume come from few patients and from drawn slices."


@dataclass(frozen=True)
class Case:
    """One patient's slices, of one source; those of one size are one part."""

    patient: str
    source: str
    blood: bool
    slice_groups: tuple[SliceGroup, ...]


@dataclass(frozen=True)
class CasePrediction:
    """One case, answered.

    Attributes
    ----------
    blood : bool
        Whether any slice holds some.
    truth_ml, volume_ml : float
        Drawn and answered, nominal; pixels of unknown truth count in neither.
    below_ml, above_ml : float
        The answer's doubt, without slack.
    lesion_ml : float
        The largest lesion answered.
    soft_ml : float, default: 0.0
        The largest sum of probabilities over a lesion.
    mean, top : object
        The highest mean and the highest top probability of a lesion.
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

    Raises
    ------
    TrainError
        `train`, if the card names none, or the data lack one of them.
    """
    patients = set(card.training.get("validation_patients", ()))
    if not patients:
        raise TrainError(f"{card.name}: its card names no validation patients", "Export the network again.")
    table = card.training.get("config", {}).get("data", {})
    own = own_datasets.make_sources(
        {name: own_datasets.OwnDataset(**each) for name, each in table.get("own", {}).items()}
    )
    names = [row["name"] for row in card.training.get("sources", ()) if row.get("validation")]
    samples = [
        sample
        for name in names
        for sample in data.stream(root, name, None, own)
        if sample.patient in patients and sample.labelled and not sample.boxed
    ]
    if absent := sorted(patients - {sample.patient for sample in samples}):
        raise TrainError(f"{card.name}: the data lack the validation patient {absent[0]}", "Get the whole sets.")
    return samples


def group_by_patient(samples: Iterable[Sample]) -> list[Case]:
    """Put each patient's slices together, in their order; slices of different size are parts of their own."""
    found: dict[tuple[str, str], dict[tuple[int, ...], list[Sample]]] = {}
    for sample in samples:
        found.setdefault((sample.source, sample.patient), {}).setdefault(sample.hu.shape, []).append(sample)
    return [_make_case(patient, source, list(shapes.values())) for (source, patient), shapes in found.items()]


def _make_case(patient: str, source: str, groups: Sequence[Sequence[Sample]]) -> Case:
    parts = []
    for group in groups:
        truth = np.stack([sample.mask for sample in group])
        parts.append(degradation.make_slice_group(make_nominal_scan(np.stack([sample.hu for sample in group])), truth))
    return Case(patient, source, any(sample.positive for group in groups for sample in group), tuple(parts))


def make_nominal_scan(hu: NDArray[np.int16]) -> Scan:
    """Make a scan of slices whose spacing is not known: 5 mm apart, the head's square 225 mm wide.

    Values that span no more than a picture's window are taken for a picture in that window.
    """
    pixel_mm = NOMINAL_HEAD_SQUARE_MM / find_head_square(hu).side
    low, high = float(hu.min()), float(hu.max())
    picture = high - low <= _PICTURE_SPAN_HU
    scan = Scan.from_array(hu, (NOMINAL_SLICE_MM, pixel_mm, pixel_mm), calibrated=not picture)
    return replace(scan, window=((low + high) / 2, max(high - low, 1.0))) if picture else scan


def split_into_slices(samples: Iterable[Sample]) -> list[Case]:
    """Take every slice for a scan of its own."""
    return [_make_case(sample.patient, sample.source, [[sample]]) for sample in samples]


def load_uncalibrated_engine(engine: Engine) -> Engine:
    """Return the engine without its calibration, so that it outlines whatever it sees."""
    card, weights = models.load_weights(engine.card.name)
    return OnnxRuntime(card.model_copy(update={"calibration": None}), weights, 1)


def predict_case(case: Case, engine: Engine, change: Degradation | None = None) -> CasePrediction | None:
    """Let an engine (:func:`undecided`) answer a case, degraded where asked for; None if no part can be degraded so."""
    parts = [changed for part in case.slice_groups if (changed := change(part) if change else part) is not None]
    if not parts:
        return None
    sums, lesions = np.zeros(4), [np.zeros(4)]
    for part in parts:
        answer = segmentation.predict(part.scan, engine)
        mask, sure = answer.mask & part.known, np.where(part.known, answer.probability, np.float16(0))
        doubt = volume_uncertainty_ml(sure, mask, part.scan, SURE_AT, POSSIBLE_AT)
        sums += (part.truth_ml, float(_pixel_volumes_ml(part.scan)[mask].sum()), *doubt)
        lesions += _lesion_figures(answer, part.scan)
    strongest = np.max(lesions, axis=0)
    return CasePrediction(case.patient, case.source, case.blood, *sums.tolist(), *strongest.tolist())


def _pixel_volumes_ml(scan: Scan) -> Floats:
    """Return each pixel's volume, (slices, rows, columns), ml."""
    weights_mm = np.asarray(scan.weights_mm, dtype=np.float64)[:, None, None]
    return np.broadcast_to(weights_mm * scan.planes.pixel_area_mm2 / 1000, scan.shape)


def _lesion_figures(answer: segmentation.Prediction, scan: Scan) -> list[Floats]:
    """Return each lesion's (volume, sum of probabilities, mean probability, top probability)."""
    labels, count = components.label(answer.mask, scan)
    numbers = np.arange(1, count + 1)
    if not count:
        return []
    sure, each_ml = answer.probability.astype(np.float64), _pixel_volumes_ml(scan)
    volume, soft = ndimage.sum(each_ml, labels, numbers), ndimage.sum(each_ml * sure, labels, numbers)
    return list(np.column_stack([volume, soft, soft / volume, ndimage.maximum(sure, labels, numbers)]))


def conformal_scores(rows: Sequence[CasePrediction]) -> Floats:
    """Return the conformal score of each row."""
    truth, volume, below, above = (
        np.array([getattr(row, name) for row in rows]) for name in ("truth_ml", "volume_ml", "below_ml", "above_ml")
    )
    return compute_nonconformity(truth, volume, below + SLACK_ML, above + SLACK_ML)


def select_measurable(rows: Iterable[CasePrediction]) -> list[CasePrediction]:
    """Leave those that have a volume to be off: with blood, and answered."""
    return [row for row in rows if row.blood and row.volume_ml > 0]


def fit_volume_calibration(rows: Sequence[CasePrediction], factors: Mapping[str, float]) -> VolumeCalibration | None:
    """Take the quantile of the scores of the patients with blood; None without any."""
    used = select_measurable(rows)
    if not used:
        return None
    value, promised = conformal_quantile(conformal_scores(used), INTERVAL_LEVEL)
    return VolumeCalibration(
        level=round(promised, 4),
        patients=len(used),
        quantile=round(value, 4),
        sure_at=SURE_AT,
        possible_at=POSSIBLE_AT,
        slack_ml=SLACK_ML,
        factors={**factors, **degradation.ASSUMED_FACTORS},
        not_measured=sorted(degradation.ASSUMED_FACTORS),
    )


def measure_factors(found: Sequence[Case], clean: Sequence[CasePrediction], engine: Engine) -> dict[str, float]:
    """Measure by what each degradation widens the quantile of the same patients' scores; 1 where it does not.

    Where a degradation is of two directions, a patient counts with the worse one. A patient whose bleed is no longer
    answered at all counts with its whole volume as error.
    """
    before = {(row.source, row.patient): row for row in select_measurable(clean)}
    measured = {}
    for code, changes in degradation.DEGRADATIONS.items():
        worst: dict[tuple[str, str], float] = {}
        for case in found:
            key = (case.source, case.patient)
            rows = [row for change in changes if key in before and (row := predict_case(case, engine, change))]
            if rows:
                worst[key] = float(conformal_scores(rows).max())
        if worst:
            usual = conformal_quantile(conformal_scores([before[key] for key in worst]), INTERVAL_LEVEL)[0]
            measured[code] = round(
                max(1.0, conformal_quantile(list(worst.values()), INTERVAL_LEVEL)[0] / max(usual, 1e-6)), 2
            )
    return measured


def fit_logistic(evidence_ml: Floats, blood: NDArray[np.bool_], weights: Floats) -> Floats:
    """Fit the probability of blood to the logarithm of the evidence: (intercept, slope).

    The targets are Platt's (Advances in Large Margin Classifiers, 1999): (n + 1) / (n + 2) of the n with blood,
    1 / (m + 2) of the m without. They keep the slope finite where the two part without overlap.

    Parameters
    ----------
    evidence_ml : Floats
        (rows,), at least the floor.
    weights : Floats
        (rows,), as many patients as a row stands for.
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
    """Return (evidence, blood, weights) of rows: each patient weighs 1, whatever its number of rows with blood."""
    kinds = [(row.patient, row.blood) for row in rows]
    weights = np.array([1 / kinds.count(kind) for kind in kinds])
    sizes = np.maximum([row.lesion_ml for row in rows], FLOOR_ML)
    return sizes, np.array([row.blood for row in rows]), weights


def fit_blood_calibration(
    rows: Sequence[CasePrediction], alone: Sequence[CasePrediction]
) -> HemorrhageCalibration | None:
    """Fit a curve to patients and one to single slices; None where one side has under :data:`FEWEST` patients."""
    curves = []
    for each in (rows, alone):
        sizes, blood, weights = collect_evidence(each)
        sides = [len({row.patient for row in each if row.blood is side}) for side in (True, False)]
        if min(sides) < MIN_PATIENTS:
            return None
        intercept, slope = (round(float(value), 4) for value in fit_logistic(sizes, blood, weights))
        curves.append(LogisticCurve(intercept=intercept, slope=slope, with_blood=sides[0], without=sides[1]))
    return HemorrhageCalibration(floor_ml=FLOOR_ML, scan=curves[0], one_slice=curves[1])


@dataclass(frozen=True)
class CalibrationFit:
    """A calibration, and the answers that it was made from: one row a patient, and one a slice."""

    calibration: Calibration
    patient_predictions: tuple[CasePrediction, ...]
    slice_predictions: tuple[CasePrediction, ...]


def fit_calibration(engine: Engine, samples: Sequence[Sample], *, degraded: bool = True) -> CalibrationFit:
    """Calibrate a network by the slices of its validation patients.

    Parameters
    ----------
    samples : sequence of Sample
        As :func:`load` gives them.
    degraded : bool, default: True
        Measure the factors of the remarks too; without, only the stated ones are there.
    """
    plain, found = load_uncalibrated_engine(engine), group_by_patient(samples)
    rows, alone = (tuple(_predict_cases(each, plain)) for each in (found, split_into_slices(samples)))
    measured = measure_factors(found, rows, plain) if degraded else {}
    calibration = Calibration(
        volume=fit_volume_calibration(rows, measured), blood=fit_blood_calibration(rows, alone), figures={}
    )
    return CalibrationFit(calibration, rows, alone)


def add_calibration(card: Card, calibration: Calibration) -> Card:
    """Return a card a calibration, and say so among its limits."""
    limits = [
        *(limit for limit in card.limits if limit not in (UNCALIBRATED_LIMIT, CALIBRATED_LIMIT)),
        CALIBRATED_LIMIT,
    ]
    return card.model_copy(update={"calibration": calibration, "limits": limits})


def _predict_cases(found: Iterable[Case], engine: Engine) -> Iterator[CasePrediction]:
    return (row for case in found if (row := predict_case(case, engine)) is not None)
