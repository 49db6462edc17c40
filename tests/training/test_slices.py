"""The draw of slices by source and class."""

import numpy as np
import pytest
import torch

from phantoms.training_sets import make_config, make_stored_slice
from strokeseg.errors import TrainError
from strokeseg.training import (
    slices,
)


def count_draws(samples, changes, number=400):
    loaded = make_config(changes)
    rng = np.random.default_rng(0)
    draw = slices.SliceDraw(samples, loaded)
    return [draw(rng) for _ in range(number)]


KINDS = [
    make_stored_slice(source="a", blood=True),
    make_stored_slice(source="a", blood=False),
    make_stored_slice(source="b", blood=True),
    *[make_stored_slice(source="boxes", boxed=True)] * 9,
]


def test_classes_are_drawn_by_their_shares_and_sources_by_theirs_within():
    chosen = count_draws(KINDS, {"balance": {"positive": 0.6, "negative": 0.4}}, 2000)
    positive = [s for s in chosen if (s.mask == 1).any()]
    assert not any(s.boxed for s in chosen)
    assert len(positive) / 2000 == pytest.approx(0.6, abs=0.04)
    assert sum(s.source == "a" for s in positive) / len(positive) == pytest.approx(0.75, abs=0.04)
    assert all(s.source == "a" for s in chosen if not (s.mask == 1).any())


def test_without_classes_sources_are_drawn_by_their_shares():
    chosen = count_draws(KINDS, {}, 2000)
    assert sum(s.source == "boxes" for s in chosen) / 2000 == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("balance", "message"),
    [({"boxed": 1.0}, "boxed: there is no such"), ({"positive": 0.0}, "one must be above 0")],
)
def test_a_class_that_cannot_be_drawn_is_refused(balance, message):
    with pytest.raises(TrainError, match=rf"train\.balance.*{message}"):
        count_draws([sample for sample in KINDS if not sample.boxed], {"balance": balance})


def test_another_stream_draws_other_samples():
    images = []
    for stream in (0, 0, 1, 2):
        loaded = make_config(train={"samples": 8, "stream": stream})
        images.append(slices.TrainingSlices(KINDS, loaded)[0]["image"])
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2]) and not torch.equal(images[2], images[3])
