"""Calibrate an installed network on its validation patients, and write the calibration into its card."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from strokeseg import atomic_write, segmentation
from strokeseg.segmentation import models
from strokeseg.segmentation.engines.protocol import Engine
from strokeseg.segmentation.models import Card
from strokeseg.training.calibration import figures, fit, fold_predictions, whole_scans
from strokeseg.training.calibration.cases import (
    Case,
    CasePrediction,
    group_by_patient,
    load_uncalibrated_engine,
    predict_case,
    read_validation_samples,
    split_into_slices,
)
from strokeseg.training.card_text import render_card
from strokeseg.training.sample import Sample

Log = Callable[[str], None]

_REMEDY = "Make the folder of models writable."


def calibrate_network(
    name: str, data_root: Path, *, unseen: Sequence[Sample] = (), folds: Sequence[Path] = (), log: Log = print
) -> Card:
    """Calibrate an installed network, and write its card as data and as prose.

    Parameters
    ----------
    name : str
        The installed network.
    data_root : Path
        Folder of the data sets.
    unseen : sequence of Sample, default: ()
        Slices of patients by whom neither the network, nor its threshold, nor the calibration was chosen. The card
        reports how the calibration holds for them.
    folds : sequence of Path, default: ()
        Runs of the network's recipe that left patients of CT-ICH out: the second look, the confidence of whole scans
        and the operating points are fitted to their results (:mod:`strokeseg.training.calibration.whole_scans`).
    log : callable
        Called with a line of text at every step.

    Returns
    -------
    Card
        The card with its calibration.

    Raises
    ------
    UnknownModel, CorruptModel
        `unknown-model`, `model-checksum`.
    TrainError
        `train`, if the card names no validation patients, or the data lack one of them.
    NotWritable, DiskFull
        `not-writable`, `disk-full`.
    """
    card = draw_up_card(name, data_root, unseen=unseen, folds=folds, log=log)
    folder = models.find_folder(name)
    atomic_write.write_file(folder / f"{name}.md", render_card(card).encode(), _REMEDY)
    atomic_write.write_file(folder / f"{name}.json", (card.model_dump_json(indent=1) + "\n").encode(), _REMEDY)
    return card


def draw_up_card(
    name: str, data_root: Path, *, unseen: Sequence[Sample] = (), folds: Sequence[Path] = (), log: Log = print
) -> Card:
    """Calibrate an installed network without writing its card.

    Parameters
    ----------
    name : str
        The installed network.
    data_root : Path
        Folder of the data sets.
    unseen : sequence of Sample, default: ()
        As for :func:`calibrate_network`.
    folds : sequence of Path, default: ()
        As for :func:`calibrate_network`.
    log : callable
        Called with a line of text at every step.

    Returns
    -------
    Card
        The card with its calibration.

    Raises
    ------
    UnknownModel, CorruptModel, TrainError
        As :func:`calibrate_network`.
    """
    engine = segmentation.load_engine(name)
    log(f"{name}: segmenting the validation patients, unchanged and degraded; this takes some minutes")
    fitted = fit.fit_calibration(engine, read_validation_samples(engine.card, data_root))
    card_figures = figures.compute_figures(fitted)
    if unseen:
        log(f"{name}: segmenting {len({sample.patient for sample in unseen})} unseen patients")
        of_patients, of_slices = predict_samples(unseen, engine)
        card_figures["unseen"] = figures.compute_unseen_figures(of_patients, of_slices, fitted.calibration)
    card = fit.add_calibration(engine.card, fitted.calibration.model_copy(update={"figures": card_figures}))
    if not folds:
        return card
    log(f"{name}: segmenting whole scans with the networks of the folds")
    return whole_scans.calibrate_whole_scans(card, fold_predictions.collect_scans(card, folds, data_root, log))


def predict_samples(samples: Sequence[Sample], engine: Engine) -> tuple[list[CasePrediction], list[CasePrediction]]:
    """Segment samples patient by patient, and the outlined ones also slice by slice.

    Parameters
    ----------
    samples : sequence of Sample
        The slices.
    engine : Engine
        The network; its calibration is not used.

    Returns
    -------
    of_patients : list of CasePrediction
        One for each patient.
    of_slices : list of CasePrediction
        One for each slice in which blood is outlined.
    """
    uncalibrated = load_uncalibrated_engine(engine)
    outlined = [sample for sample in samples if (sample.mask == 1).any()]

    def predict(cases: list[Case]) -> list[CasePrediction]:
        return [row for case in cases if (row := predict_case(case, uncalibrated)) is not None]

    return predict(group_by_patient(samples)), predict(split_into_slices(outlined))
