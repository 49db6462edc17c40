"""The scores on a network's card, computed with the exported file and ONNX Runtime."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import expit

from strokeseg import evaluation, segmentation
from strokeseg.evaluation import leakage
from strokeseg.evaluation.metrics import bootstrap_interval
from strokeseg.reading import read_one
from strokeseg.segmentation.engines.onnxruntime import OnnxRuntime
from strokeseg.segmentation.preprocess import apply_window, resize
from strokeseg.training import data, split, validation
from strokeseg.training.augmentation import StoredSlice

_log = logging.getLogger(__name__)
TEST_SET = "ctich_jpg"
"""Patients whom no training uses and by whom nothing is chosen; the card reports their scores."""


def score_validation(held_out: list[StoredSlice], engine: OnnxRuntime) -> tuple[float, dict[str, Any]]:
    """Score the exported network on the validation patients, and choose the threshold by them."""
    slice_scores = {}
    for index, sample in enumerate(held_out):
        image = resize(apply_window(sample.hu), (engine.card.size, engine.card.size)) * 2 - 1
        probability = resize(expit(engine.logits(image[None, None])), sample.mask.shape)
        slice_scores[index] = validation.score_slice(probability, sample.mask)
    scores = validation.score_held_out(held_out, slice_scores)
    sources: dict[str, Any] = {}
    for source in scores["sources"]:
        values = [dice for key, dice in scores["patients"].items() if key.split(" ")[0] == source]
        low, high = bootstrap_interval(values)
        sources[source] = {
            "patients": len(values),
            "dice": round(float(np.mean(values)), 3),
            "low": None if np.isnan(low) else round(low, 3),
            "high": None if np.isnan(high) else round(high, 3),
        }
    return scores["threshold"], {
        "dice": round(scores["dice"], 3),
        "sources": sources,
        "slices_without_blood_and_without_answer": None if scores["quiet"] is None else round(scores["quiet"], 3),
    }


def score_test_set(root: Path, engine: OnnxRuntime, threshold: float, loaded: split.Split) -> dict[str, Any]:
    """Score the test set as `strokeseg evaluate` does, together with the normals of the validation.

    The result is empty if the set is missing, or if an image of it is a near-duplicate of a training image.
    """
    if not (root / TEST_SET).is_dir():
        return {}
    pairs = evaluation.find_pairs(root / TEST_SET)
    if duplicates := _count_trained_on(pairs, loaded.training):
        _log.warning("%s: %d images are also training images; the card leaves the set out", TEST_SET, duplicates)
        return {}
    scored = evaluation.evaluate(
        pairs,
        lambda path: segmentation.predict(read_one(path), engine),
        threshold,
        normals=[
            evaluation.Normal(path.stem, path, patient)
            for path, patient in data.list_normal_pictures(root)
            if patient in loaded.validation_patients
        ],
    )
    levels = scored.model_dump(include={"per_patient", "pooled", "further"})
    return {
        "test": {
            "set": TEST_SET,
            "patients": scored.n_patients,
            "slices": scored.n_slices,
            "normal_slices": scored.n_normal_slices,
            **{level: {name: _round_score(score) for name, score in levels[level].items()} for level in levels},
        }
    }


def _count_trained_on(pairs: list[evaluation.Pair], training: list[StoredSlice]) -> int:
    """Count the images that are near-duplicates of a training slice."""
    pictures = [leakage.make_thumbnail(plane) for pair in pairs for plane in read_one(pair.image).hu]
    trained_on = [leakage.make_thumbnail(np.rint(sample.hu).astype(np.int16)) for sample in training]
    duplicates = leakage.find_near_duplicates(
        pictures, leakage.unpack_dhashes(map(leakage.dhash, trained_on)), trained_on.__getitem__
    )
    return len({image for image, _ in duplicates})


def _round_score(score: dict[str, Any]) -> dict[str, Any]:
    return {key: None if value is None else round(value, 3) for key, value in score.items()}
