"""Fit and evaluation of the classifier of lesion types: `python -m benchmarks lesion-types`.

It measures sections of annotated lesions of known type, scores fits on patients that they have not seen, and writes
`measurements/lesion/types.json` and docs/types.md. scikit-learn is required (the extra `dev`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import lesion_types_page
from benchmarks.annotated_slices import CODES, SOURCES, read_annotated_slices, read_test_slices
from benchmarks.lesion_type_fit import (
    SEED,
    STRENGTH,
    FeatureTable,
    fit_boosted_trees,
    fit_forest,
    fit_logistic,
    fit_parameters,
    measure_features,
)
from benchmarks.lesion_type_scores import (
    FOLDS,
    REPEATS,
    bootstrap_intervals,
    compute_calibration,
    compute_confusion,
    compute_f1,
    compute_macro_f1,
    compute_merged_macro_f1,
    cross_validate,
    score_without_source,
    separate_shared_sources,
)
from strokeseg import atomic_write
from strokeseg.measurements.head import coarse_head
from strokeseg.measurements.lesion import types
from strokeseg.measurements.lesion.type_features import FEATURES


def run(data: Path, page: Path, *, test: bool = False, log: Callable[[str], None] = print) -> None:
    """Fit and evaluate the classifier, and write its parameters and the page.

    The figures of the test patients are kept as long as the fit is unchanged.

    Parameters
    ----------
    data : Path
        Folder of the data sets.
    page : Path
        Page to write.
    test : bool, default: False
        Also score the test patients.
    log : callable
        Takes a line on the progress.
    """
    path = Path(types.__file__).with_name("types.json")
    table = measure_features(read_annotated_slices(data))
    parameters = {name: np.asarray(value).round(5).tolist() for name, value in fit_parameters(table).items()}
    digest = hashlib.sha256(table.features.round(4).tobytes() + table.truth.astype(np.int64).tobytes()).hexdigest()
    content = {
        "schema": "strokeseg.types/1",
        "types": types.TYPES,
        "features": FEATURES,
        **parameters,
        "seed": SEED,
        "strength": STRENGTH,
        "data_sha256": digest,
        "figures": compute_figures(table),
    }
    stored = json.loads(path.read_text()) if path.is_file() else {}
    write_parameters(path, content)
    types.load_classifier.cache_clear()
    if test:
        write_parameters(path, content | {"test": score_test_patients(data)})
    elif "test" in stored and all(stored[name] == value for name, value in parameters.items()):
        write_parameters(path, content | {"test": stored["test"]})
    text = lesion_types_page.render_page(json.loads(path.read_text()))
    atomic_write.write_file(page, text.encode(), "Name another file with --page.")
    log(f"{path.name}: macro-F1 {content['figures']['macro_f1']:.3f} on unseen patients")


def check_label_colors(table: FeatureTable) -> dict[str, Any]:
    """Check MBH-Seg's colors of IVH and SAH, which its notes leave open, by a fit without it."""
    predict = fit_logistic(table.select(table.sources != "mbhseg25_mini"))
    counts = {}
    for code, other in (("IVH", "SAH"), ("SAH", "IVH")):
        sections = table.select((table.sources == "mbhseg25_mini") & (table.truth == CODES.index(code)))
        probabilities = predict(sections.features)
        agrees = probabilities[:, CODES.index(code)] > probabilities[:, CODES.index(other)]
        counts[code] = [int(agrees.sum()), len(agrees)]
    return counts


def score_test_patients(root: Path) -> dict[str, Any]:
    """Score the shipped classifier on the test patients' slices with their whole annotated masks."""
    matrix = np.zeros((len(CODES), len(CODES)), dtype=int)
    correct: dict[str, list[bool]] = {}
    without_prediction = 0
    for each in read_test_slices(root):
        mask = (each.labels > 0)[None]
        probabilities = types.predict_probabilities(each.scan, mask, coarse_head.sample_head(each.scan, mask))
        without_prediction += probabilities is None
        if probabilities is not None:
            truth, best = int(each.labels.max()) - 1, int(np.argmax(list(probabilities.values())))
            matrix[truth, best] += 1
            correct.setdefault(each.patient, []).append(truth == best)
    numbers = sorted(patient.split(":")[1] for patient in correct)
    return {
        "first": numbers[0],
        "last": numbers[-1],
        "slices": int(matrix.sum()),
        "patients": len(correct),
        "right": int(np.trace(matrix)),
        "by_patient": float(np.mean([np.mean(values) for values in correct.values()])),
        "untold": without_prediction,
        "confusion": matrix.tolist(),
    }


def compute_figures(table: FeatureTable) -> dict[str, Any]:
    """Return every figure of the page except those of the test patients."""
    probabilities = cross_validate(table, fit_logistic)
    predicted, w = probabilities.argmax(2), table.weights
    matrix = np.mean([compute_confusion(table.truth, row, w) for row in predicted], axis=0)
    scores = np.mean([compute_f1(compute_confusion(table.truth, row, w)) for row in predicted], axis=0)
    error, bins = compute_calibration(table, probabilities)
    certain = ~((table.sources == "mbhseg25_mini") & np.isin(table.truth, [CODES.index("IVH"), CODES.index("SAH")]))
    ranges = bootstrap_intervals(table, predicted)
    return {
        "pieces": np.bincount(table.truth, minlength=len(CODES)).tolist(),
        "patients": [len(np.unique(table.patients[table.truth == kind])) for kind in range(len(CODES))],
        "tablepatients": len(np.unique(table.patients)),
        "lost": table.skipped,
        "folds": FOLDS,
        "repeats": REPEATS,
        "by_source": {
            name: [
                len(np.unique(table.patients[(table.sources == name) & (table.truth == k)])) for k in range(len(CODES))
            ]
            for name in SOURCES
        },
        "confusion": matrix.tolist(),
        "f1": scores.tolist(),
        "macro_f1": float(scores.mean()),
        "intervals": ranges.tolist(),
        "accuracy": float(np.trace(matrix) / matrix.sum()),
        "macro_f1_of_pieces": compute_macro_f1(table, predicted, np.ones(len(w))),
        "macro_f1_without_phe": compute_macro_f1(table, predicted, w * (table.sources != "phe_sich")),
        "macro_f1_one_extra_axial": compute_merged_macro_f1(table, predicted),
        "macro_f1_certain_colours": compute_macro_f1(
            table.select(certain), cross_validate(table.select(certain), fit_logistic).argmax(2)
        ),
        "macro_f1_apart": compute_macro_f1(
            table, cross_validate(table, separate_shared_sources(table, fit_logistic)).argmax(2)
        ),
        "forest": compute_macro_f1(table, cross_validate(table, fit_forest, 2).argmax(2)),
        "boosted": compute_macro_f1(table, cross_validate(table, fit_boosted_trees, 2).argmax(2)),
        "other_sources": {
            name: {
                "logistic": score_without_source(table, name, fit_logistic),
                "forest": score_without_source(table, name, fit_forest),
            }
            for name in SOURCES
        },
        "calibration_error": error,
        "calibration": bins,
        "colours": check_label_colors(table),
    }


def write_parameters(path: Path, content: dict[str, Any]) -> None:
    """Write the parameters as JSON, one entry per line."""
    lines = [f" {json.dumps(name)}: {json.dumps(_round_numbers(value))}" for name, value in content.items()]
    atomic_write.write_file(
        path, ("{\n" + ",\n".join(lines) + "\n}\n").encode(), "Run the command in a writable clone."
    )


def _round_numbers(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {name: _round_numbers(each) for name, each in value.items()}
    return [_round_numbers(each) for each in value] if isinstance(value, list | tuple) else value
