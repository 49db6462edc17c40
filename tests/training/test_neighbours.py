"""Slices below and above as further channels: seen alike, dropped at random, and at first without weight."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from phantoms import training_sets
from strokeseg.errors import TrainError
from strokeseg.segmentation import models
from strokeseg.training import augmentation, config, export, losses, networks, slices, teachers, validation, warm_start

TABLE = config.NetworkConfig(name="x", size=320, start="model:default", neighbours=1)
SQUARE = (augmentation.STORED_SIZE,) * 2
QUIET = {"paste": 0, "crescent": 0, "bone": 0}


def make_coded_slice(seed, blood=False):
    grey, mask = training_sets.make_slice(np.random.default_rng(seed), blood)
    code = np.rint(augmentation.resize((grey / 255 * 120 + 20) / 160 * 255, SQUARE)).astype(np.uint8)
    return code, (augmentation.resize(mask, SQUARE) > 0.5).astype(np.uint8)


def make_slice(**neighbours):
    code, mask = make_coded_slice(0, blood=True)
    return augmentation.StoredSlice("ctich", "ctich:053", code, mask, False, **neighbours)


def make_config(samples=200, network=None, **tables):
    return config.Config.model_validate(
        {
            "data": {"root": ".", "sources": {"ctich": 1}, "validation": ["ctich"]},
            "network": {"name": "x", "size": 96, "neighbours": 1, **(network or {})},
            "train": {"samples": samples, "batch": 8, **tables.pop("train", {})},
            "synthesis": QUIET,
            **tables,
        }
    )


def test_the_shipped_network_with_neighbours_answers_as_before_whatever_they_hold():
    torch.manual_seed(0)
    images = torch.rand(4, 3, 320, 320) * 2 - 1
    alone, _ = warm_start.start_from_model(TABLE.model_copy(update={"neighbours": 0}), [], images[:, 1:2])
    wide, words = warm_start.start_from_model(TABLE, [], images)
    assert models.read_card(models.SHIPPED_FOLDER / "default.json").sha256 in words
    with torch.no_grad():
        expected, output = alone.eval()(images[:, 1:2]), wide.eval()(images)
    assert expected.std() > 0.1 and torch.equal(expected, output)


def test_the_weights_of_neighbours_begin_to_learn_at_once():
    network = networks.build(TABLE.model_copy(update={"start": None, "size": 96}))
    first = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    assert first.weight.shape[1] == 3 and not first.weight[:, [0, 2]].any() and first.weight[:, 1].any()
    images, mask = torch.rand(2, 3, 96, 96), torch.zeros(2, 96, 96, dtype=torch.long)
    mask[:, 20:40, 20:40] = 1
    losses.total_loss(network(images)[:, 0], mask, torch.zeros(2, dtype=torch.bool)).backward()
    assert first.weight.grad[:, 0].abs().max() > 0 and first.weight.grad[:, 2].abs().max() > 0


def test_a_training_image_is_below_this_and_above_moved_alike():
    """Neighbours that hold the same head differ by noise alone, however it was turned and windowed."""
    code, mask = make_coded_slice(0, blood=True)
    sample = augmentation.StoredSlice("ctich", "p", code, mask, False, below=code.copy(), above=code.copy())
    drawn = slices.TrainingSlices([sample], make_config(train={"drop_neighbours": 0}))
    for index in range(12):
        below, this, above = drawn[index]["image"].numpy()
        for other in (below, above):
            assert np.abs(other - this).mean() < 0.2 and np.corrcoef(other.ravel(), this.ravel())[0, 1] > 0.9


def test_neighbours_change_places_at_random_and_this_stays_in_the_middle():
    dark, bright = (
        np.zeros(SQUARE, np.uint8),
        np.full(SQUARE, 255, np.uint8),
    )
    drawn = slices.TrainingSlices([make_slice(below=dark, above=bright)], make_config(train={"drop_neighbours": 0}))
    first = []
    for index in range(40):
        means = drawn[index]["image"].mean((1, 2)).numpy()
        assert means.min() < means[1] < means.max()
        first.append(means[0] < means[2])
    assert 8 < sum(first) < 32


@pytest.mark.parametrize("share", [0, 0.3, 1])
def test_neighbours_are_dropped_as_often_as_stated(share):
    dark = np.zeros(SQUARE, np.uint8)
    drawn = slices.TrainingSlices([make_slice(below=dark, above=dark)], make_config(train={"drop_neighbours": share}))
    alone = [
        bool((image[0] == image[1]).all() and (image[2] == image[1]).all())
        for image in (drawn[index]["image"] for index in range(100))
    ]
    assert np.mean(alone) == pytest.approx(share, abs=0.13)


def test_a_slice_without_neighbours_is_repeated_exactly():
    drawn = slices.TrainingSlices([make_slice()], make_config(train={"drop_neighbours": 0}))
    for index in range(6):
        image = drawn[index]["image"]
        assert image.shape == (3, 96, 96) and torch.equal(image[0], image[1]) and torch.equal(image[2], image[1])


def test_a_slice_into_which_blood_was_drawn_has_no_neighbours():
    dark = np.zeros(SQUARE, np.uint8)
    drawn_on = make_config(train={"drop_neighbours": 0}).model_copy(
        update={"synthesis": config.SynthesisConfig(crescent=1)}
    )
    code, mask = make_coded_slice(3)
    head = augmentation.StoredSlice("ctich", "p", code, mask, False, below=dark, above=dark)
    drawn = slices.TrainingSlices([head], drawn_on)
    items = [drawn[index] for index in range(8)]
    with_blood = [item for item in items if (item["mask"] == 1).any()]
    assert len(with_blood) > 5
    assert all(torch.equal(item["image"][0], item["image"][1]) for item in with_blood)


def test_validation_shows_the_neighbours_there_are():
    dark = np.zeros(SQUARE, np.uint8)
    shown = slices.ValidationSlices([make_slice(below=dark), make_slice()], 96, 3)
    first, alone = shown[0]["image"], shown[1]["image"]
    assert (first[0] == -1).all() and torch.equal(first[1], first[2])
    assert all(torch.equal(plane, first[1]) for plane in alone)
    plain = slices.ValidationSlices([make_slice()], 96)[0]["image"]
    assert plain.shape == (1, 96, 96) and torch.equal(plain[0], first[1])


def test_an_export_with_neighbours_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(TrainError, match="uses neighbouring slices, which `strokeseg segment` cannot supply yet"):
        export.export(make_config(), tmp_path, tmp_path)


def test_a_teacher_of_single_slices_is_shown_the_one_in_the_middle():
    asked = []

    class Network(torch.nn.Module):
        def forward(self, images):
            asked.append(images)
            return images

    images = torch.rand(2, 3, 32, 32)
    teachers.Teacher([(Network(), 32)])(images)
    assert torch.equal(asked[0], images[:, 1:2])


def test_two_neighbours_are_not_known():
    with pytest.raises(ValidationError, match="neighbours"):
        make_config(network={"neighbours": 2})


def make_mask(rows, columns):
    mask = np.zeros(SQUARE, bool)
    mask[100 : 100 + rows, 100 : 100 + columns] = True
    return mask


@pytest.mark.parametrize(
    ("rows", "columns", "expected"),
    [(100, 10, True), (20, 20, True), (40, 40, False), (100, 20, False)],  # at 0.59 mm: 5.9 mm thick, 137 mm2, ...
)
def test_small_is_under_8_mm_thick_or_under_200_mm2(rows, columns, expected):
    assert slices.is_small(make_mask(rows, columns)) == expected


def test_small_bleeds_have_a_share_of_their_own():
    none = np.zeros(SQUARE, np.uint8)
    thin, large = make_mask(100, 10).astype(np.uint8), make_mask(60, 60).astype(np.uint8)
    samples = [
        augmentation.StoredSlice("ctich", str(i), none, mask, False)
        for i, mask in enumerate([thin, *[large] * 9, none])
    ]
    balance = {"positive": 0.3, "small": 0.3, "negative": 0.4}
    draw = slices.SliceDraw(samples, make_config(train={"balance": balance}))
    rng = np.random.default_rng(0)
    patients = [draw(rng).patient for _ in range(1000)]
    assert patients.count("0") / 1000 == pytest.approx(0.3, abs=0.05)
    assert patients.count("10") / 1000 == pytest.approx(0.4, abs=0.05)
    joined = slices.SliceDraw(samples, make_config(train={"balance": {"positive": 1}}))
    assert [joined(rng).patient for _ in range(1000)].count("0") / 1000 == pytest.approx(0.1, abs=0.04)


def test_unknown_pixels_outside_of_a_box_may_be_answered_either_way():
    box = torch.zeros(1, 32, 32, dtype=torch.long)
    box[0, 8:24, 8:24] = 1
    box[0, 0:4] = 2
    quiet = torch.full((1, 32, 32), -12.0)
    quiet[0, 8:24, 8:24] = 12
    said, wrong = quiet.clone(), quiet.clone()
    said[0, 0:4], wrong[0, 26:30] = 12, 12
    values = [losses.box_loss(logits, box).item() for logits in (quiet, said, wrong)]
    assert values[1] == pytest.approx(values[0]) and values[2] > values[0] + 1


def test_a_patient_is_scored_by_all_slices():
    """Three patients by hand: one bleeds on one of two slices and has a false answer on the other."""
    shape = (20, 20)
    none, blood, spot = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8), np.zeros(shape, np.float32)
    blood[:10, :10] = 1
    spot[15:20] = 0.9  # 100 pixels
    samples = [
        augmentation.StoredSlice("ctich", patient, none, mask, False)
        for patient, mask in (("a", blood), ("a", none), ("b", none), ("b", none), ("c", none))
    ]
    answers = [blood * np.float32(0.9), spot, none.astype(np.float32), spot, none.astype(np.float32)]
    seen = {at: validation.score_slice(answer, samples[at].mask) for at, answer in enumerate(answers)}
    result = validation.score_held_out(samples, seen)
    assert result["dice"] == 1 and result["whole"]["ctich"] == pytest.approx(2 * 100 / (200 + 100))
    assert result["patient_sensitivity"] == 1 and result["patient_specificity"] == 0.5
    assert result["patient_auc"] == pytest.approx(0.75)  # b ties with a, c lies below
    alone = validation.score_held_out(samples[:1], {0: seen[0]})
    assert alone["patient_auc"] is None and alone["whole"] == {}
