"""The previews of a run."""

import numpy as np

from phantoms.training_sets import make_stored_slice
from strokeseg.training import (
    callbacks,
)


def test_a_picture_shows_the_truth_in_green_and_the_answer_in_red():
    sample = make_stored_slice()
    probability = np.zeros(sample.mask.shape, np.float32)
    probability[20:60, 30:80] = 0.7
    drawn_picture = callbacks.draw_preview(sample, probability, 0.5)
    plain, truth, answer = np.split(drawn_picture.astype(int), 3, axis=1)
    assert plain.shape == (384, 384, 3) and (np.ptp(plain, axis=2) == 0).all()
    rows, columns = np.nonzero(np.ptp(truth, axis=2) > 50)
    assert 0 < np.hypot(rows - 191.5, columns - 191.5).max() - 12 * 384 / (140 * 1.08) < 5
    rows, columns = np.nonzero(np.ptp(answer, axis=2) > 50)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 59, 30, 79)


def test_the_pictures_show_slices_with_blood_and_one_without():
    held_out = [make_stored_slice(blood=index % 3 == 0) for index in range(30)]
    picks = callbacks.choose_previews(held_out)
    assert picks == callbacks.choose_previews(held_out)
    assert [bool((held_out[i].mask == 1).any()) for i in picks].count(True) == 4 and len(picks) == 5
