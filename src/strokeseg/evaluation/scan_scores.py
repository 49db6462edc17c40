"""The scores of whole scans, computed from their rows alone: rows of several runs (folds) may be joined."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import groupby

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import maximum_bipartite_matching

from strokeseg.evaluation.bootstrap import Bootstrap
from strokeseg.evaluation.schema import (
    AnnotatedLesion,
    FrocPoint,
    LesionClass,
    ScanRow,
    Score,
    VolumeScores,
    WholeScanScores,
)

Measure = Callable[[ScanRow], float | None]

FROC_RATES = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
"""False lesions per scan: Setio et al., LUNA16, Med Image Anal 2017;42:1."""

CLASS_LIMITS = {"all": (), "thickness_mm": (5.0, 10.0), "volume_ml": (1.0, 10.0)}
"""Limits between the sizes of lesions. A subdural hematoma over 10 mm is operated on: Bullock et al., Neurosurgery
2006;58:S2-16."""


def join_scores(parts: Sequence[WholeScanScores], draws: Bootstrap) -> WholeScanScores:
    """Score the scans of several runs together: the folds of a cross-validation.

    Parameters
    ----------
    parts : sequence of WholeScanScores
        Scores of each run, of one set, role and assumed spacing.
    draws : Bootstrap
        How intervals are drawn.

    Returns
    -------
    WholeScanScores
        The scores of all scans.

    Raises
    ------
    ValueError
        If the runs differ in set, role or assumed spacing, or share a scan.
    """
    first = parts[0]
    same = {(part.data_set, part.role, part.spacing_assumed_mm) for part in parts}
    names = [row.name for part in parts for row in part.scans]
    names += [refused.name for part in parts for refused in part.refused]
    if len(same) > 1:
        raise ValueError("the runs are of different sets, roles or assumed spacings")
    if len(names) > len(set(names)):
        raise ValueError("a scan is in two runs")
    return score_rows(
        first.model_copy(
            update={
                "unseen": list(dict.fromkeys(name for part in parts for name in part.unseen)),
                "models": [model for part in parts for model in part.models],
                "refused": [refused for part in parts for refused in part.refused],
            }
        ).model_dump(include={"data_set", "role", "unseen", "models", "spacing_assumed_mm", "refused"}),
        [row for part in parts for row in part.scans],
        draws,
    )


def score_rows(source: Mapping[str, object], rows: Sequence[ScanRow], draws: Bootstrap) -> WholeScanScores:
    """Compute all scores of whole scans.

    Parameters
    ----------
    source : mapping
        The fields of WholeScanScores that say what was scored.
    rows : sequence of ScanRow
        The scans.
    draws : Bootstrap
        How intervals are drawn.

    Returns
    -------
    WholeScanScores
        The scores.
    """
    by_patient = [list(scans) for _, scans in groupby(sorted(rows, key=lambda row: row.patient), lambda r: r.patient)]
    bleeding = [scans for scans in by_patient if any(row.blood for row in scans)]
    quiet = [scans for scans in by_patient if not any(row.blood for row in scans)]
    slices = [
        (row.patient, *values)
        for row in rows
        for values in zip(row.slice_blood, row.slice_score, row.slice_marked, strict=True)
    ]
    curves = [_ScanCurve(row) for row in rows if row.slices]

    def mean(of: Measure, among: Iterable[ScanRow] = rows) -> Score:
        return draws.score_mean(_list_values(among, of))

    healthy = [row for row in rows if not row.blood]
    points = _trace_froc(curves)
    return WholeScanScores.model_validate(
        {
            **source,
            "n_scans": len(rows),
            "n_patients_with_blood": len(bleeding),
            "n_patients_without_blood": len(quiet),
            "sensitivity": draws.score_share([any(row.hemorrhage for row in scans) for scans in bleeding]),
            "specificity": draws.score_share([not any(row.hemorrhage for row in scans) for scans in quiet]),
            "patient_auc": draws.score_auc(_score_patients(by_patient)),
            "quiet_scans": _score_share([(row.patient, not row.predicted_pixels) for row in healthy], draws),
            "quiet_slices": _score_share([(who, not marked) for who, blood, _, marked in slices if not blood], draws),
            "slice_auc": draws.score_auc([(who, blood, score) for who, blood, score, _ in slices]),
            "dice_empty_is_1": mean(lambda row: row.dice),
            "dice_with_blood": mean(lambda row: row.dice if row.truth_pixels else None),
            "volume": _score_volume(rows, draws, lambda r: r.volume_difference_relative, lambda r: r.predicted_ml),
            "abc2": _score_volume(rows, draws, lambda row: row.abc2_difference_relative, lambda row: row.abc2_ml),
            "false_ml": mean(lambda row: row.predicted_ml, healthy),
            "false_lesions": draws.score_mean([(each.patient, each.count_false(-1.0)) for each in curves]),
            "lesions": _score_classes(curves, points, draws),
            "froc_rates": list(FROC_RATES),
            "froc": points,
            "scans": list(rows),
        }
    )


def _score_patients(by_patient: Sequence[Sequence[ScanRow]]) -> list[tuple[str, bool, float]]:
    """Return the patients with their highest confidence, or detection score if a scan has no confidence."""
    is_calibrated = all(row.confidence is not None for scans in by_patient for row in scans)
    return [
        (
            scans[0].patient,
            any(row.blood for row in scans),
            max(row.confidence or 0.0 if is_calibrated else row.detection_score for row in scans),
        )
        for scans in by_patient
    ]


def _score_share(hits: Sequence[tuple[str, bool]], draws: Bootstrap) -> Score:
    """Compute the share of hits of (patient, hit); without an interval if every draw has the same share."""
    score = draws.score_mean(hits)
    return Score(value=score.value) if score.low == score.high else score


def _list_values(rows: Iterable[ScanRow], of: Measure) -> list[tuple[str, float]]:
    values = [(row.patient, of(row)) for row in rows]
    return [(patient, value) for patient, value in values if value is not None]


def _score_volume(
    rows: Sequence[ScanRow], draws: Bootstrap, relative_of: Measure, measured_ml: Measure
) -> VolumeScores:
    def difference_ml(row: ScanRow) -> float | None:
        volume = measured_ml(row)
        return None if not row.truth_ml or volume is None else volume - row.truth_ml

    relative, absolute = _list_values(rows, relative_of), _list_values(rows, difference_ml)
    return VolumeScores(
        median_error_relative=draws.score_median(_drop_signs(relative)),
        error_relative=draws.score_mean(_drop_signs(relative)),
        bias_relative=draws.score_mean(relative),
        error_ml=draws.score_mean(_drop_signs(absolute)),
        bias_ml=draws.score_mean(absolute),
    )


def _drop_signs(values: Sequence[tuple[str, float]]) -> list[tuple[str, float]]:
    return [(patient, abs(value)) for patient, value in values]


class _ScanCurve:
    """Which lesions of a scan are found, and how many are false, if only lesions from a probability on are answered.

    As in :func:`strokeseg.evaluation.lesions.count_lesions`, each lesion is matched with at most one of the answer, and
    each of the answer with at most one lesion.
    """

    def __init__(self, row: ScanRow) -> None:
        self.patient, self.lesions = row.patient, row.lesions
        self.probabilities = sorted({each.probability for each in row.answered_lesions}, reverse=True)
        self.steps = [self._match(row, probability) for probability in self.probabilities]

    @staticmethod
    def _match(row: ScanRow, probability: float) -> tuple[frozenset[int], int]:
        """Return the indices of the lesions that are found from a probability on, and the number of false lesions."""
        answered = [each.id for each in row.answered_lesions if each.probability >= probability]
        column_of = {number: column for column, number in enumerate(answered)}
        edges = [
            (index, column_of[number])
            for index, lesion in enumerate(row.lesions)
            for number in lesion.matches
            if number in column_of
        ]
        if not edges:
            return frozenset(), len(answered)
        at = tuple(np.array(edges).T)
        graph = coo_array((np.ones(len(edges)), at), shape=(len(row.lesions), len(answered))).tocsr()
        matched = maximum_bipartite_matching(graph, perm_type="column")
        found = frozenset(int(index) for index in np.flatnonzero(matched >= 0))
        return found, len(answered) - len(found)

    def _at(self, probability: float) -> tuple[frozenset[int], int]:
        reached = sum(each >= probability for each in self.probabilities)
        return self.steps[reached - 1] if reached else (frozenset(), 0)

    def find(self, probability: float) -> frozenset[int]:
        """Return the indices of the lesions that are found from a probability on."""
        return self._at(probability)[0]

    def count_false(self, probability: float) -> int:
        """Return the number of false lesions from a probability on."""
        return self._at(probability)[1]


def _trace_froc(curves: Sequence[_ScanCurve]) -> list[FrocPoint]:
    """Trace the curve from the surest lesion of the answers to all lesions of the answers."""
    probabilities = sorted({each for curve in curves for each in curve.probabilities}, reverse=True)
    total = sum(len(curve.lesions) for curve in curves)
    return [
        FrocPoint(
            probability=probability,
            false_per_scan=sum(curve.count_false(probability) for curve in curves) / len(curves),
            found=sum(len(curve.find(probability)) for curve in curves) / total if total else None,
        )
        for probability in probabilities
    ]


def _score_classes(curves: Sequence[_ScanCurve], points: Sequence[FrocPoint], draws: Bootstrap) -> list[LesionClass]:
    """Score the lesions of each size; classes whose unit is unknown for a scan leave its lesions out."""
    # The lowest probability whose false lesions stay within each rate.
    reached = [
        min((point.probability for point in points if point.false_per_scan <= rate), default=None)
        for rate in FROC_RATES
    ]
    classes = []
    for by, limits in CLASS_LIMITS.items():
        for low, high in zip((0.0, *limits), (*limits, None), strict=True):
            members = [
                [index for index, lesion in enumerate(curve.lesions) if _is_between(lesion, by, low, high)]
                for curve in curves
            ]
            found = [curve.find(-1.0) for curve in curves]
            of_class = [
                (curve.patient, index in hits, curve.lesions[index].overlapped)
                for curve, hits, indices in zip(curves, found, members, strict=True)
                for index in indices
            ]
            classes.append(
                LesionClass.model_validate(
                    {
                        "by": by,
                        "low": low,
                        "high": high,
                        "lesions": len(of_class),
                        "found": _score_share([(patient, hit) for patient, hit, _ in of_class], draws),
                        "overlapped": _score_share([(patient, touched) for patient, _, touched in of_class], draws),
                        "froc": [_share_found(curves, members, probability) for probability in reached],
                    }
                )
            )
    return classes


def _is_between(lesion: AnnotatedLesion, by: str, low: float, high: float | None) -> bool:
    size = None if by == "all" else getattr(lesion, by)
    if size is None:
        return by == "all"
    return low <= size and (high is None or size < high)


def _share_found(
    curves: Sequence[_ScanCurve], members: Sequence[Sequence[int]], probability: float | None
) -> float | None:
    total = sum(len(indices) for indices in members)
    if not total:
        return None
    if probability is None:
        return 0.0
    return sum(len(curve.find(probability) & set(at)) for curve, at in zip(curves, members, strict=True)) / total
