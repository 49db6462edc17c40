"""Patients stay on one side, and test patients out of training sets."""

import re

import numpy as np
import pytest
from PIL import Image

from data_sets import find_data_set
from phantoms.training_sets import make_stored_slice
from strokeseg.errors import TrainError
from strokeseg.training import (
    data,
    split,
)
from strokeseg.training.sample import TEST_PATIENTS

TEST_NUMBERS = [
    f"{number:03d}"
    for number in (
        *(49, 50, 51, 52, 54, 56, 57, 60, 61, 65, 66, 71, 73, 75, 76, 77, 78, 79, 80, 81, 87, 91, 92, 94, 99, 100, 101),
        *(106, 107, 114, 115, 120, 121, 125),
    )
]


def test_nobody_who_is_reserved_for_tests_can_be_trained_on():
    assert {f"ctich:{number}" for number in TEST_NUMBERS} == TEST_PATIENTS
    assert len(TEST_PATIENTS) == 34


def test_the_data_name_the_same_patients_as_never_trained_on():
    text = find_data_set("README.md").read_text()
    sentence = re.search(r"never trained on, whatever the source: ((?:\d{3} ?)+)", text)
    assert sentence[1].split() == TEST_NUMBERS


def test_no_patient_stands_on_both_sides():
    samples = [make_stored_slice(f"p{index % 10}") for index in range(30)]
    chosen = split.draw_validation_patients(samples, ["ctich_train"], 0.3, seed=0)
    training, held_out = split.split_samples(samples, chosen)
    assert len(chosen) == 3
    assert not {s.patient for s in training} & {s.patient for s in held_out}
    assert len(training) + len(held_out) == 30


def test_a_patient_keeps_its_side_when_others_come_in():
    few = split.draw_validation_patients([make_stored_slice(f"p{i}") for i in range(10)], ["ctich_train"], 0.5, seed=0)
    many = split.draw_validation_patients([make_stored_slice(f"p{i}") for i in range(20)], ["ctich_train"], 0.5, seed=0)
    assert len(few - many) <= 2


def test_a_boxed_slice_never_validates():
    samples = [make_stored_slice("a"), make_stored_slice("a", boxed=True), make_stored_slice("b")]
    training, held_out = split.split_samples(samples, frozenset({"a"}))
    assert len(held_out) == 1 and not held_out[0].boxed and len(training) == 1


def test_a_test_patient_in_a_training_set_is_refused(data_root, tmp_path):
    import shutil

    shutil.copytree(data_root / "ctich_train", tmp_path / "ctich_train")
    index = tmp_path / "ctich_train/index.csv"
    index.write_text(index.read_text().replace(",003,", ",079,"))
    with pytest.raises(TrainError, match="test patients ctich:079"):
        data.load(tmp_path, "ctich_train")


def test_a_mask_of_another_size_is_refused(data_root, tmp_path):
    import shutil

    shutil.copytree(data_root / "ctich_train", tmp_path / "ctich_train")
    Image.new("L", (10, 10)).save(tmp_path / "ctich_train/masks/000_1.png")
    with pytest.raises(TrainError, match="000_1"):
        data.load(tmp_path, "ctich_train")


def test_an_unknown_source_is_refused(data_root):
    with pytest.raises(TrainError, match="not one of"):
        data.load(data_root, "ctich_jpg")


@pytest.mark.slow
@pytest.mark.parametrize("source", data.SOURCES)
def test_every_source_yields_slices_of_heads_with_their_patients(source, shared_data):
    samples = data.load(shared_data, source, limit=12)
    assert len(samples) == 12
    assert not {s.patient for s in samples} & TEST_PATIENTS
    brighter = []
    for sample in samples:
        assert sample.hu.dtype == np.int16 and sample.mask.shape == sample.hu.shape
        assert set(np.unique(sample.mask)) <= {0, 1, 2}
        rows, columns = sample.hu.shape
        middle = sample.hu[rows // 3 : -rows // 3, columns // 3 : -columns // 3]
        soft = (middle > 5) & (middle < 75)
        if data.SOURCES[source].whole and soft.mean() < 0.2:
            continue  # the ends of a whole scan: bone at the vertex, air below
        brain = float(np.median(middle[soft]))
        assert 10 < brain < 65
        if "normal" in source or source == "cpaisd":
            assert not sample.positive
        elif (sample.mask == 1).sum() > 100 and not sample.boxed:
            brighter.append(sample.hu[sample.mask == 1].mean() - brain)
    # Old blood is darker than brain; on the whole blood is brighter.
    assert not brighter or np.mean(brighter) > 8
