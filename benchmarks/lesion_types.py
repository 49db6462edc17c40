"""Fit and judge what tells a lesion's type: ``python -m benchmarks.lesion_types [--data FOLDER] [--test]``.

It measures the pieces of drawn lesions of known type, judges by patients that the fit has not seen, and writes
`measure/types.json` and docs/types.md. scikit-learn is needed (the extra `dev`).
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import lesion_types_page
from benchmarks.annotated_slices import CODES, SOURCES, AnnotatedSlice, read_annotated_slices, read_test_slices
from strokeseg import atomic_write
from strokeseg.measurements.head import coarse_head
from strokeseg.measurements.lesion import types
from strokeseg.measurements.lesion.type_features import FEATURES, measure_sections
from strokeseg.scan import Floats

Labels = NDArray[np.intp]
Classifier = Callable[[Floats], Floats]

_SHARED_SOURCES = ("bhsd_mini", "mbhseg25_mini")
SEED, REPEATS, FOLDS, STRENGTH, MAX_INPUT = 0, 5, 8, 0.03, 4.0


@dataclass(frozen=True)
class FeatureTable:
    """Every piece with its truth; ``weights`` give each patient's type the same weight, however many its pieces."""

    features: Floats
    truth: Labels
    patients: NDArray[np.str_]
    sources: NDArray[np.str_]
    skipped: int

    @property
    def weights(self) -> Floats:
        """(n,), 1 / the number of pieces of the same patient and type."""
        keys = [f"{patient} {kind}" for patient, kind in zip(self.patients, self.truth, strict=True)]
        _, places, counts = np.unique(keys, return_inverse=True, return_counts=True)
        return np.asarray(1 / counts[places])

    def select(self, chosen: NDArray[np.bool_]) -> FeatureTable:
        """Return the chosen pieces."""
        return FeatureTable(
            self.features[chosen], self.truth[chosen], self.patients[chosen], self.sources[chosen], self.skipped
        )


def measure_features(slices: Iterator[AnnotatedSlice]) -> FeatureTable:
    """Measure the pieces of every type on every slice; ``lost`` counts the types on slices of which none was told."""
    features, truth, patients, sources, lost = [], [], [], [], 0
    for one in slices:
        seen = coarse_head.sample_head(one.scan, (one.labels > 0)[None])
        for number in np.unique(one.labels[one.labels > 0]).tolist():
            found = measure_sections(one.scan, (one.labels == number)[None], seen)
            lost += not found
            for piece in found:
                features.append(piece.features)
                truth.append(number - 1)
                patients.append(one.patient)
                sources.append(one.source)
    return FeatureTable(np.array(features), np.array(truth), np.array(patients), np.array(sources), lost)


def fit_logistic(learn: FeatureTable) -> Classifier:
    """Fit what is shipped."""
    return types.TypeClassifier(**_fit_parameters(learn)).predict


def _fit_parameters(learn: FeatureTable) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression

    mean, scale = learn.features.mean(0), learn.features.std(0)
    inputs = np.clip((learn.features - mean) / scale, -MAX_INPUT, MAX_INPUT)
    found = LogisticRegression(C=STRENGTH, max_iter=5000).fit(inputs, learn.truth, _balance_weights(learn))
    weights, bias = np.zeros((len(CODES), inputs.shape[1])), np.full(len(CODES), -30.0)
    weights[found.classes_], bias[found.classes_] = found.coef_, found.intercept_
    return {"mean": mean, "scale": scale, "most": MAX_INPUT, "weights": weights, "bias": bias}


def fit_forest(learn: FeatureTable) -> Classifier:
    """Fit a random forest, to compare."""
    from sklearn.ensemble import RandomForestClassifier

    made = RandomForestClassifier(300, max_depth=8, min_samples_leaf=3, random_state=SEED)
    return _predict_all_types(made.fit(learn.features, learn.truth, _balance_weights(learn)))


def fit_boosted_trees(learn: FeatureTable) -> Classifier:
    """Fit boosted trees, to compare."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    made = HistGradientBoostingClassifier(max_iter=80, max_depth=3, learning_rate=0.08, min_samples_leaf=8)
    return _predict_all_types(made.fit(learn.features, learn.truth, _balance_weights(learn)))


def _predict_all_types(made: Any) -> Classifier:
    def answer(features: Floats) -> Floats:
        full = np.zeros((len(features), len(CODES)))
        full[:, made.classes_] = made.predict_proba(features)
        return full

    return answer


def _balance_weights(learn: FeatureTable) -> Floats:
    """Every patient's type weighs the same within its type, and every type the same."""
    totals = np.bincount(learn.truth, learn.weights, minlength=len(CODES))
    present = int((totals > 0).sum())
    return np.asarray(learn.weights / totals[learn.truth] * len(learn.truth) / present)


def cross_validate(all_: FeatureTable, fit: Callable[[FeatureTable], Classifier], repeats: int = REPEATS) -> Floats:
    """Answer every piece by fits that have not seen its patient.

    Returns
    -------
    Floats
        (repeats, n, types) probabilities; each repeat divides the patients anew.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    answers = np.zeros((repeats, len(all_.truth), len(CODES)))
    for repeat in range(repeats):
        folds = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=SEED + repeat)
        for learn, held in folds.split(all_.features, all_.truth, all_.patients):
            chosen = np.isin(np.arange(len(all_.truth)), learn)
            answers[repeat, held] = fit(all_.select(chosen))(all_.features[held])
    return answers


def separate_shared_sources(
    all_: FeatureTable, fit: Callable[[FeatureTable], Classifier]
) -> Callable[[FeatureTable], Classifier]:
    """Never judge a piece of BHSD by a fit that has seen MBH-Seg, or the other way round: they may share patients."""
    of = {tuple(row): source for row, source in zip(all_.features.tolist(), all_.sources, strict=True)}

    def strict(learn: FeatureTable) -> Classifier:
        fits = {
            name: fit(learn.select(learn.sources != other) if other else learn)
            for name, other in {**dict.fromkeys(SOURCES, ""), **dict([_SHARED_SOURCES, _SHARED_SOURCES[::-1]])}.items()
        }

        def answer(features: Floats) -> Floats:
            return np.concatenate([fits[of[tuple(row)]](np.array([row])) for row in features.tolist()])

        return answer

    return strict


def score_without_source(
    all_: FeatureTable, source: str, fit: Callable[[FeatureTable], Classifier]
) -> tuple[float, float]:
    """Learn from all other sources: (macro-F1 over the types that the source holds, accuracy)."""
    held = all_.select(all_.sources == source)
    told = fit(all_.select(all_.sources != source))(held.features).argmax(1)
    there = np.unique(held.truth)
    right = float(held.weights @ (told == held.truth) / held.weights.sum())
    return float(compute_f1(compute_confusion(held.truth, told, held.weights))[there].mean()), right


def compute_confusion(truth: Labels, told: Labels, weights: Floats) -> Floats:
    """Return (true type, told type), sums of weights."""
    matrix = np.zeros((len(CODES), len(CODES)))
    np.add.at(matrix, (truth, told), weights)
    return matrix


def compute_f1(matrix: Floats) -> Floats:
    """Return each type's F1 = 2 x right / (true + told); 0 where nothing is right."""
    both = matrix.sum(0) + matrix.sum(1)
    return np.asarray(2 * np.diag(matrix) / np.where(both > 0, both, 1))


def bootstrap_intervals(all_: FeatureTable, told: Labels, rounds: int = 1000) -> Floats:
    """Return (types + 1, 2), the 95 % interval of each F1 and of their mean, over patients drawn with replacement."""
    patients, places = np.unique(all_.patients, return_inverse=True)
    single = np.zeros((len(patients), len(CODES), len(CODES)))
    for row in told:
        np.add.at(single, (places, all_.truth, row), all_.weights / len(told))
    rng = np.random.default_rng(SEED)
    scores = np.array(
        [compute_f1(single[rng.integers(len(patients), size=len(patients))].sum(0)) for _ in range(rounds)]
    )
    return np.percentile(np.column_stack([scores, scores.mean(1)]), (2.5, 97.5), axis=0).T


def compute_calibration(all_: FeatureTable, answers: Floats) -> tuple[float, list[tuple[float, float, float]]]:
    """Hold the chosen type's probability against how often it is right, every type of the same weight.

    Returns
    -------
    tuple of (float, list of tuple of (float, float, float))
        Expected calibration error, and (mean probability, share right, share of all) of bins of 0.2.
    """
    weights = _balance_weights(all_)
    sure, right = answers.max(2).ravel(), (answers.argmax(2) == all_.truth).ravel()
    w = np.tile(weights, len(answers)) / weights.sum() / len(answers)
    bins = np.minimum((sure * 5).astype(int), 4)
    rows = []
    for index in np.unique(bins):
        of = bins == index
        rows.append(
            (
                float(np.average(sure[of], weights=w[of])),
                float(np.average(right[of], weights=w[of])),
                float(w[of].sum()),
            )
        )
    return sum(share * abs(said - was) for said, was, share in rows), rows


def check_label_colors(all_: FeatureTable) -> dict[str, Any]:
    """Ask a fit without MBH-Seg whether its colours of IVH and SAH, which its notes leave open, are what they seem."""
    others = fit_logistic(all_.select(all_.sources != "mbhseg25_mini"))
    found = {}
    for code, other in (("IVH", "SAH"), ("SAH", "IVH")):
        of = all_.select((all_.sources == "mbhseg25_mini") & (all_.truth == CODES.index(code)))
        answers = others(of.features)
        nearer = answers[:, CODES.index(code)] > answers[:, CODES.index(other)]
        found[code] = [int(nearer.sum()), len(nearer)]
    return found


def score_test_patients(root: Path) -> dict[str, Any]:
    """Score the shipped fit on the test patients' slices, whole drawn mask; never chosen by."""
    matrix = np.zeros((len(CODES), len(CODES)), dtype=int)
    right: dict[str, list[bool]] = {}
    untold = 0
    for one in read_test_slices(root):
        mask = (one.labels > 0)[None]
        told = types.predict_probabilities(one.scan, mask, coarse_head.sample_head(one.scan, mask))
        untold += told is None
        if told is not None:
            truth, best = int(one.labels.max()) - 1, int(np.argmax(list(told.values())))
            matrix[truth, best] += 1
            right.setdefault(one.patient, []).append(truth == best)
    numbers = sorted(patient.split(":")[1] for patient in right)
    return {
        "first": numbers[0],
        "last": numbers[-1],
        "slices": int(matrix.sum()),
        "patients": len(right),
        "right": int(np.trace(matrix)),
        "by_patient": float(np.mean([np.mean(each) for each in right.values()])),
        "untold": untold,
        "confusion": matrix.tolist(),
    }


def compute_figures(all_: FeatureTable) -> dict[str, Any]:
    """Return every figure that the page shows but the test's."""
    answers = cross_validate(all_, fit_logistic)
    told, w = answers.argmax(2), all_.weights
    matrix = np.mean([compute_confusion(all_.truth, row, w) for row in told], axis=0)
    scores = np.mean([compute_f1(compute_confusion(all_.truth, row, w)) for row in told], axis=0)
    error, bins = compute_calibration(all_, answers)
    certain = ~((all_.sources == "mbhseg25_mini") & np.isin(all_.truth, [CODES.index("IVH"), CODES.index("SAH")]))
    ranges = bootstrap_intervals(all_, told)
    return {
        "pieces": np.bincount(all_.truth, minlength=len(CODES)).tolist(),
        "patients": [len(np.unique(all_.patients[all_.truth == kind])) for kind in range(len(CODES))],
        "all_patients": len(np.unique(all_.patients)),
        "lost": all_.skipped,
        "folds": FOLDS,
        "repeats": REPEATS,
        "by_source": {
            name: [len(np.unique(all_.patients[(all_.sources == name) & (all_.truth == k)])) for k in range(len(CODES))]
            for name in SOURCES
        },
        "confusion": matrix.tolist(),
        "f1": scores.tolist(),
        "macro_f1": float(scores.mean()),
        "intervals": ranges.tolist(),
        "accuracy": float(np.trace(matrix) / matrix.sum()),
        "macro_f1_of_pieces": compute_macro_f1(all_, told, np.ones(len(w))),
        "macro_f1_without_phe": compute_macro_f1(all_, told, w * (all_.sources != "phe_sich")),
        "macro_f1_one_extra_axial": compute_merged_macro_f1(all_, told),
        "macro_f1_certain_colours": compute_macro_f1(
            all_.select(certain), cross_validate(all_.select(certain), fit_logistic).argmax(2)
        ),
        "macro_f1_apart": compute_macro_f1(
            all_, cross_validate(all_, separate_shared_sources(all_, fit_logistic)).argmax(2)
        ),
        "forest": compute_macro_f1(all_, cross_validate(all_, fit_forest, 2).argmax(2)),
        "boosted": compute_macro_f1(all_, cross_validate(all_, fit_boosted_trees, 2).argmax(2)),
        "other_sources": {
            name: {kind.__name__: score_without_source(all_, name, kind) for kind in (fit_logistic, fit_forest)}
            for name in SOURCES
        },
        "calibration_error": error,
        "calibration": bins,
        "colours": check_label_colors(all_),
    }


def compute_macro_f1(all_: FeatureTable, told: Labels, weights: Floats | None = None) -> float:
    """Return the mean over types and repeats of F1."""
    w = all_.weights if weights is None else weights
    return float(np.mean([compute_f1(compute_confusion(all_.truth, row, w)) for row in told]))


def compute_merged_macro_f1(all_: FeatureTable, told: Labels) -> float:
    """Return the macro-F1 of four types: subdural and epidural as one."""
    one, other = CODES.index("SDH"), CODES.index("EDH")
    rows = [
        compute_f1(
            compute_confusion(
                np.where(all_.truth == other, one, all_.truth), np.where(row == other, one, row), all_.weights
            )
        )
        for row in told
    ]
    return float(np.delete(np.mean(rows, axis=0), other).mean())


def main(arguments: list[str] | None = None) -> int:
    """Fit, judge, and write the parameters and the page; the test's figures are kept while the fit is the same."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.lesion_types", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of the data sets")
    parser.add_argument("--page", type=Path, default=Path("docs/types.md"), help="page to write")
    parser.add_argument("--test", action="store_true", help="score on the test patients too")
    given = parser.parse_args(arguments)
    goal = Path(types.__file__).with_name("types.json")
    all_ = measure_features(read_annotated_slices(given.data))
    fitted = {name: np.asarray(value).round(5).tolist() for name, value in _fit_parameters(all_).items()}
    digest = hashlib.sha256(all_.features.round(4).tobytes() + all_.truth.astype(np.int64).tobytes()).hexdigest()
    content = {
        "schema": "strokeseg.types/1",
        "types": types.TYPES,
        "features": FEATURES,
        **fitted,
        "seed": SEED,
        "strength": STRENGTH,
        "data_sha256": digest,
        "figures": compute_figures(all_),
    }
    stored = json.loads(goal.read_text()) if goal.is_file() else {}
    write_parameters(goal, content)
    types.load_classifier.cache_clear()
    if given.test:
        write_parameters(goal, content | {"test": score_test_patients(given.data)})
    elif "test" in stored and all(stored[name] == value for name, value in fitted.items()):
        write_parameters(goal, content | {"test": stored["test"]})
    atomic_write.write_file(
        given.page,
        lesion_types_page.render_page(json.loads(goal.read_text())).encode(),
        "Name another file with --page.",
    )
    print(f"{goal.name}: macro-F1 {content['figures']['macro_f1']:.3f} of patients not seen")
    return 0


def write_parameters(goal: Path, content: dict[str, Any]) -> None:
    """Write the parameters, one list of numbers a line."""
    lines = [f" {json.dumps(name)}: {json.dumps(_round_numbers(value))}" for name, value in content.items()]
    atomic_write.write_file(
        goal, ("{\n" + ",\n".join(lines) + "\n}\n").encode(), "Run it in a checkout that you may write to."
    )


def _round_numbers(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, 5)
    if isinstance(value, dict):
        return {name: _round_numbers(each) for name, each in value.items()}
    return [_round_numbers(each) for each in value] if isinstance(value, list | tuple) else value


if __name__ == "__main__":
    raise SystemExit(main())
