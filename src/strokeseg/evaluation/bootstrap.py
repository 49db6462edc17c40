"""Scores with intervals over patients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.evaluation.detection import roc_auc
from strokeseg.evaluation.metrics import bootstrap_interval
from strokeseg.evaluation.schema import Score
from strokeseg.evaluation.tally import mean_of_sums, none_if_nan


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are drawn.

    Attributes
    ----------
    level : float
        Share of the draws inside the interval.
    number, seed : int
        Number of draws, and seed of the random numbers.
    """

    level: float
    number: int
    seed: int

    def score(self, values: Any, statistic: Callable[[NDArray[Any]], float], all_drawn: bool = False) -> Score:
        """Compute a statistic of the patients' values; draw the patients for whom it is defined alone, or all."""
        of_patients = np.asarray(values)
        value = none_if_nan(statistic(of_patients))
        if not all_drawn:
            of_patients = of_patients[[not np.isnan(statistic(each[None])) for each in of_patients]]
        low, high = bootstrap_interval(of_patients, statistic, level=self.level, n=self.number, seed=self.seed)
        return Score(value=value, low=none_if_nan(low), high=none_if_nan(high))

    def score_mean(self, values: Sequence[tuple[str, float]]) -> Score:
        """Compute the mean of the values of (patient, value) that are not NaN; a draw takes all values of a patient."""
        if not values:
            return Score(value=None)
        return self.score(sum_by_patient(values, list(dict.fromkeys(patient for patient, _ in values))), mean_of_sums)

    def score_median(self, values: Sequence[tuple[str, float]]) -> Score:
        """Compute the median of the values of (patient, value); a draw takes all values of a patient."""
        if not values:
            return Score(value=None)
        patients = list(dict.fromkeys(patient for patient, _ in values))
        of_patients = [np.array([value for who, value in values if who == patient]) for patient in patients]

        def drawn_median(drawn: NDArray[Any]) -> float:
            return float(np.median(np.concatenate([of_patients[index] for index in drawn])))

        return self.score(np.arange(len(patients)), drawn_median)

    def score_auc(self, items: Sequence[tuple[str, bool, float]]) -> Score:
        """Compute the area under the ROC curve of (patient, blood, score); a draw takes all items of a patient.

        An item whose score is NaN is left out. There is no interval with fewer than two patients with blood, or fewer
        than two without.
        """
        scored = [item for item in items if not np.isnan(item[2])]
        patients = list(dict.fromkeys(patient for patient, _, _ in scored))
        index_of = {patient: index for index, patient in enumerate(patients)}
        owner = np.array([index_of[patient] for patient, _, _ in scored], dtype=np.int64)
        blood = np.array([each for _, each, _ in scored], dtype=bool)
        # Ranks in place of scores: integers sort faster in every draw.
        rank = np.unique([score for _, _, score in scored], return_inverse=True)[1]

        def drawn_auc(drawn: NDArray[Any]) -> float:
            times = np.bincount(drawn, minlength=len(patients))
            return roc_auc(blood, rank, times[owner])

        everyone = np.arange(len(patients))
        if min(len(set(owner[blood])), len(set(owner[~blood]))) < 2:
            return Score(value=none_if_nan(drawn_auc(everyone)))
        return self.score(everyone, drawn_auc, all_drawn=True)

    def score_share(self, hits: Sequence[bool]) -> Score:
        """Compute the share of patients with Wilson's interval; null without a patient.

        All draws of patients who are all hits are equal: the bootstrap interval of 5 of 5 would be 1 to 1.

        References
        ----------
        Wilson EB. Probable inference, the law of succession, and statistical inference. J Am Stat Assoc 1927;22:209
        """
        if not hits:
            return Score(value=None)
        count, share = len(hits), sum(hits) / len(hits)
        z = NormalDist().inv_cdf((1 + self.level) / 2)
        centre, scale = share + z**2 / (2 * count), 1 + z**2 / count
        half = z * sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
        low, high = (centre - half) / scale, (centre + half) / scale
        return Score(value=share, low=max(0.0, low), high=min(1.0, high))


def sum_by_patient(values: Sequence[tuple[str, float]], patients: Sequence[str]) -> NDArray[np.float64]:
    """Sum (patient, value) up to (patients, 2): sum and number of each patient's values other than NaN."""
    index_of = {patient: index for index, patient in enumerate(patients)}
    sums = np.zeros((len(patients), 2))
    for patient, value in values:
        if not np.isnan(value):
            sums[index_of[patient]] += (value, 1)
    return sums
