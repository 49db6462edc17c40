"""Fit a network's confidence and its volume interval to its validation patients.

The unit is a patient. All annotated slices of a patient together are taken for a scan: area x nominal thickness. That
whole scans behave in the same way is assumed, not shown. Checkpoint and threshold were chosen by the same patients, so
the figures are optimistic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from strokeseg.segmentation.engines.protocol import Engine
from strokeseg.segmentation.interval import compute_nonconformity, conformal_quantile
from strokeseg.segmentation.models import Calibration, Card, HemorrhageCalibration, LogisticCurve, VolumeCalibration
from strokeseg.training.calibration import degradation
from strokeseg.training.calibration.cases import (
    POSSIBLE_AT,
    SURE_AT,
    Case,
    CasePrediction,
    group_by_patient,
    load_uncalibrated_engine,
    predict_case,
    split_into_slices,
)
from strokeseg.training.sample import Sample

Floats = NDArray[np.float64]

INTERVAL_LEVEL = 0.9
SLACK_ML = 1.0
"""The design of docs/calibration.md with the narrowest intervals at equal coverage."""
FLOOR_ML = 0.05
"""Half of the volume below which a component is dropped, so below the volume of every lesion."""
MAX_DEGRADED_PATIENTS = 16
"""Degrading is the slowest part of a calibration."""
MIN_PATIENTS = 3
"""No confidence is fitted with fewer patients with blood, or fewer patients without."""

UNCALIBRATED_LIMIT = "Its probabilities are not calibrated, and it gives no interval of the volume."
CALIBRATED_LIMIT = (
    "Its confidence and its volume interval come from few patients, of whom most of those with whole scans are of one "
    "hospital."
)


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
    the degradation counts with its whole volume as error. Of more than :data:`MAX_DEGRADED_PATIENTS` patients, as many
    are degraded, evenly from all: whole scans have many slices.

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
    chosen = [case for case in cases if (case.source, case.patient) in before]
    if len(chosen) > MAX_DEGRADED_PATIENTS:
        chosen = [chosen[index] for index in np.linspace(0, len(chosen) - 1, MAX_DEGRADED_PATIENTS).astype(int)]
    measured = {}
    for code, degradations in degradation.DEGRADATIONS.items():
        worst: dict[tuple[str, str], float] = {}
        for case in chosen:
            key = (case.source, case.patient)
            rows = [row for each in degradations if (row := predict_case(case, engine, each))]
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
