"""Downsampling, compared with NumPy's mean over axes."""

import numpy as np
import pytest

from strokeseg.imaging import downsample


@pytest.mark.parametrize("step", [1, 2, 3, 7])
def test_a_block_is_the_mean_of_its_pixels_and_what_is_no_whole_block_is_left_out(step):
    pixels = np.random.default_rng(step).integers(-1024, 3071, (3, 31, 44)).astype(np.int16)
    rows, columns = 31 // step, 44 // step
    cut = pixels[:, : rows * step, : columns * step].reshape(3, rows, step, columns, step)
    assert np.array_equal(downsample.downsample_sum(pixels, step, np.int32), cut.sum(axis=(2, 4)))
    assert downsample.downsample_mean(pixels, step) == pytest.approx(cut.mean(axis=(2, 4)), rel=1e-6)
    assert np.array_equal(downsample.downsample_mean(pixels[1], step), downsample.downsample_mean(pixels, step)[1])


def test_a_block_wider_than_the_picture_leaves_nothing():
    assert downsample.downsample_mean(np.ones((4, 9), np.int16), 5).shape == (0, 1)
