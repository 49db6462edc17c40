"""The built-in sets of whole scans, in folders made by hand."""

import numpy as np
import pytest

from strokeseg.errors import TrainError
from strokeseg.evaluation.split_file import SplitRow
from strokeseg.reading import read_one
from strokeseg.training.sample import TEST_PATIENTS
from strokeseg.training.scan_sets import SCAN_SETS, find_ctich, find_phe_sich, leave_out_trained
from tests.training.test_whole_scans import write_ctich, write_phe_sich


def test_patients_of_a_role_with_the_names_that_splits_use(tmp_path):
    folder = write_ctich(tmp_path, {"053": ("train", 4, {2, 3}), "055": ("train", 2, ()), "077": ("test", 2, {1})})
    cases = find_ctich(folder, "train")
    assert [(case.patient, case.blood) for case in cases] == [("ctich:053", True), ("ctich:055", False)]
    reference = cases[0].read_reference(read_one(cases[0].image))
    assert reference.truth.any((1, 2)).tolist() == [False, True, True, False] and reference.known.all()
    assert [case.patient for case in find_ctich(folder, "test")] == ["ctich:077"]


def test_a_mask_that_is_missing_makes_no_slice_without_blood(tmp_path):
    folder = write_ctich(tmp_path, {"053": ("train", 4, {2, 3})})
    (folder / "masks/053/03.png").unlink()
    with pytest.raises(TrainError, match=r"053 slice 3: index\.csv and masks differ"):
        find_ctich(folder, "train")


def test_a_test_patient_with_the_role_train_is_refused(tmp_path):
    assert "ctich:077" in TEST_PATIENTS
    folder = write_ctich(tmp_path, {"077": ("train", 2, {1})})
    with pytest.raises(TrainError, match="077 is a test patient"):
        find_ctich(folder, "train")


def test_of_slices_without_an_outline_beside_a_clot_nothing_is_known(tmp_path):
    """As in training: 2 and 5 are next to a labelled slice, 4 has edema and no outlined clot."""
    write_phe_sich(tmp_path, slices=8, edema={3, 4}, clots={3})
    (case,) = find_phe_sich(tmp_path / "phe_sich", None)
    assert (case.patient, case.blood) == ("phe:0001", True)
    reference = case.read_reference(read_one(case.image))
    assert np.flatnonzero(reference.truth.any((1, 2))).tolist() == [3]
    assert np.flatnonzero(reference.known.any((1, 2))).tolist() == [0, 1, 3, 6, 7]


def test_a_patient_without_any_outline_is_known_to_bleed_and_nothing_else(tmp_path):
    write_phe_sich(tmp_path, slices=4, edema={1}, clots=())
    (case,) = find_phe_sich(tmp_path / "phe_sich", None)
    assert case.blood and not case.read_reference(read_one(case.image)).known.any()


def test_patients_who_were_trained_on_are_left_out(tmp_path):
    folder = write_ctich(tmp_path, {"053": ("train", 2, {1}), "055": ("train", 2, ()), "058": ("train", 2, ())})
    split = [
        SplitRow("ctich_train", f"{number}_01", f"ctich:{number}", side, "positive", "0" * 64, "0" * 64)
        for number, side in (("053", "train"), ("055", "validation"))
    ]
    cases = find_ctich(folder, "train")
    assert [case.name for case in leave_out_trained(cases, split)] == ["055", "058"]
    with pytest.raises(TrainError, match="every patient is on the training side"):
        leave_out_trained(cases[:1], split)


def test_every_set_states_the_spacing_that_is_assumed():
    assert {name: each.assumed_spacing_mm for name, each in SCAN_SETS.items()} == {
        "ctich": (5.0, 0.45, 0.45),
        "phe_sich": (5.0, 0.65, 0.65),
    }
