"""Conversion and comparison of float16 probabilities, compared with NumPy's own."""

import numpy as np
import pytest

from strokeseg.imaging import float16


def bits(values):
    return np.asarray(values, dtype=np.float16).view(np.uint16)


@pytest.mark.parametrize("offset", [-np.inf, None, np.inf], ids=["just below", "at", "just above"])
def test_every_float16_up_to_one_and_every_tie_between_two_is_rounded_as_numpy_rounds_it(offset):
    every = np.arange(bits(1) + 1, dtype=np.uint16).view(np.float16).astype(np.float32)
    values = np.concatenate([every, (every[1:] + every[:-1]) / 2])
    if offset is not None:
        values = np.clip(np.nextafter(values, np.float32(offset)), 0, 1)
    with np.errstate(all="ignore"):
        assert np.array_equal(bits(float16.from_float32(values)), bits(values))


def test_a_threshold_is_compared_as_numpy_compares_it():
    every = np.arange(bits(1) + 1, dtype=np.uint16).view(np.float16)
    for threshold in (0.0, 1e-7, 6.1e-5, 0.2, 0.35, 0.5, 1.0):
        assert np.array_equal(float16.at_least(every, threshold), every >= np.float16(threshold))
