"""The scores of a validation."""

import numpy as np
import pytest

from strokeseg.training import (
    augmentation,
    validation,
)


def test_a_validation_tells_dice_recall_detection_and_quiet():
    """Two sources, three patients with blood and two slices without, by hand; scikit-learn for the AUC."""
    from sklearn.metrics import roc_auc_score

    def one(source, patient, mask):
        return augmentation.StoredSlice(source, patient, np.zeros((8, 8), np.uint8), mask, False)

    blood, none = np.zeros((8, 8), np.uint8), np.zeros((8, 8), np.uint8)
    blood[:2] = 1
    half, clear, false = np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32)
    half[0], clear[:2], false[7, 7] = 0.97, 0.99, 0.98
    samples = [
        one("a", "1", blood),
        one("a", "2", blood),
        one("b", "3", blood),
        one("b", "4", none),
        one("b", "5", none),
    ]
    answers = [half, clear, np.zeros((8, 8), np.float32), np.zeros((8, 8), np.float32), false]
    found = validation.score_held_out(
        samples, {i: validation.score_slice(a, s.mask) for i, (a, s) in enumerate(zip(answers, samples, strict=True))}
    )
    assert found["sources"] == {"a": pytest.approx((2 / 3 + 1) / 2), "b": 0}
    assert found["dice"] == pytest.approx(5 / 12) and found["recall"] == pytest.approx((0.75 + 0) / 2)
    assert found["quiet"] == 0.5
    expected = roc_auc_score([1, 1, 1, 0, 0], [answer.max() for answer in answers])
    assert found["detection_auc"] == pytest.approx(expected)
