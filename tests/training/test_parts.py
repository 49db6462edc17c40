import csv
import json
import platform
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel

from strokeseg.errors import TrainError
from strokeseg.training import (
    augmentation,
    callbacks,
    config,
    data,
    losses,
    networks,
    run_folder,
    slices,
    split,
    teachers,
    validation,
)


def stored(patient="a", blood=True, boxed=False, source="ctich_train"):
    hu = np.full((160, 160), -1000)
    rows, columns = np.indices(hu.shape)
    far = np.hypot(rows - 80, columns - 80)
    hu = np.where(far < 62, 35, np.where(far < 70, 900, -1000)).astype(np.int16)
    mask = ((far < 12) & blood).astype(np.uint8)
    hu[mask == 1] = 70
    return augmentation.store_slice(data.Sample(source, patient, patient, hu, mask, boxed))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("samples = 64", "samples = 0", "train.samples"),
        ("samples = 64", "samples = 7", "train: .*not one step of batch = 8"),
        ("ctich_train = 0.7", "ctich_train = -0.7", "data.sources.ctich_train"),
        ("ctich_train = 0.7", "ctich_train = nan", "data.sources.ctich_train"),
        ("ctich_train = 0.7", "ctich_train = inf", "data.sources.ctich_train"),
        ("batch = 8", "batch = 8\nbalance = { positive = -1, negative = 2 }", "train.balance.positive"),
        ('name = "trial"', 'name = "../trial"', "network.name"),
        ("size = 96", "size = 100", "network.size"),
        ('name = "trial"', 'name = "trial"\nname2 = 1', "network.name2"),
        ("[train]", "[train", "TOML"),
        ('"file:', '"hub:', "network.encoder_weights"),
        ("[train]", '[self_training]\nteacher = "x"\nlow = 0.7\n[train]', "self_training: .*low must be below high"),
    ],
)
def test_a_wrong_entry_is_named(config_file, old, new, named):
    path = config_file()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(TrainError, match=named):
        config.load(path)


def test_a_configuration_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(TrainError, match="no such"):
        config.load(tmp_path / "none.toml")


def test_the_shipped_configuration_is_valid():
    loaded = config.load(Path(__file__).parents[2] / "configs/default.toml")
    assert "ctich_jpg" not in loaded.data.sources
    assert set(loaded.data.sources) <= set(data.SOURCES)


def test_no_patient_stands_on_both_sides():
    samples = [stored(f"p{index % 10}") for index in range(30)]
    chosen = split.draw_validation_patients(samples, ["ctich_train"], 0.3, seed=0)
    training, held_out = split.split_samples(samples, chosen)
    assert len(chosen) == 3
    assert not {s.patient for s in training} & {s.patient for s in held_out}
    assert len(training) + len(held_out) == 30


def test_a_patient_keeps_its_side_when_others_come_in():
    few = split.draw_validation_patients([stored(f"p{i}") for i in range(10)], ["ctich_train"], 0.5, seed=0)
    many = split.draw_validation_patients([stored(f"p{i}") for i in range(20)], ["ctich_train"], 0.5, seed=0)
    assert len(few - many) <= 2


def test_a_boxed_slice_never_validates():
    samples = [stored("a"), stored("a", boxed=True), stored("b")]
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
    assert not {s.patient for s in samples} & data.TEST_PATIENTS
    brighter = []
    for sample in samples:
        assert sample.hu.dtype == np.int16 and sample.mask.shape == sample.hu.shape
        assert set(np.unique(sample.mask)) <= {0, 1, 2}
        rows, columns = sample.hu.shape
        middle = sample.hu[rows // 3 : -rows // 3, columns // 3 : -columns // 3]
        brain = float(np.median(middle[(middle > 5) & (middle < 75)]))
        assert 10 < brain < 65
        if "normal" in source or source == "cpaisd":
            assert not sample.positive
        elif (sample.mask == 1).sum() > 100 and not sample.boxed:
            brighter.append(sample.hu[sample.mask == 1].mean() - brain)
    # Old blood is darker than brain; on the whole blood is brighter.
    assert not brighter or np.mean(brighter) > 8


def test_a_slice_comes_out_of_the_store_as_hounsfield_units():
    sample = stored()
    assert sample.code.shape == (augmentation.STORED_SIZE,) * 2
    assert sample.hu[192, 192] == pytest.approx(70, abs=0.7)
    assert sample.hu[120, 192] == pytest.approx(35, abs=0.7)
    assert sample.mask[192, 192] == 1 and sample.mask[120, 192] == 0


def test_a_crescent_lies_under_the_skull():
    sample = stored(blood=False)
    hu, mask = augmentation.add_crescent(sample.hu, sample.mask, np.random.default_rng(3))
    rows, columns = np.nonzero(mask == 1)
    far = np.hypot(rows - 191.5, columns - 191.5)
    inner_edge = 62 * 384 / (140 * 1.08)
    assert len(rows) > 40
    assert far.max() < inner_edge + 3 and far.min() > inner_edge - 40
    assert 30 < hu[mask == 1].mean() < 80


def test_an_isodense_crescent_is_thin_and_as_grey_as_the_cortex():
    sample = stored(blood=False)
    for seed in range(6):
        hu, mask = augmentation.add_crescent(sample.hu, sample.mask, np.random.default_rng(seed), 1.0)
        rows, columns = np.nonzero(mask == 1)
        far = np.hypot(rows - 191.5, columns - 191.5)
        assert np.ptp(far) < 2.5 * 9  # its depth varies in waves around at most 9 pixels
        assert 25 < np.median(hu[mask == 1]) < 60


def test_a_box_stays_upright_when_it_is_moved():
    sample = stored(boxed=True)
    mask = np.zeros_like(sample.mask)
    mask[100:200, 150:250] = 1
    for seed in range(20):
        moved = augmentation.transform_geometry(sample.hu, mask, 128, True, np.random.default_rng(seed))[1]
        rows, columns = np.nonzero(moved)
        assert moved.sum() > 0.97 * (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_intensity_stays_in_0_to_1_and_differs_by_seed():
    hu = stored().hu
    seen = [augmentation.vary_intensity(hu, np.random.default_rng(seed)) for seed in range(6)]
    assert all(image.min() >= 0 and image.max() <= 1 and np.isfinite(image).all() for image in seen)
    assert not np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], augmentation.vary_intensity(hu, np.random.default_rng(0)))


def test_unknown_pixels_do_not_count_in_the_loss():
    logits = torch.zeros(1, 8, 8)
    mask = torch.zeros(1, 8, 8, dtype=torch.long)
    mask[0, :, :4] = data.UNKNOWN
    changed = logits.clone()
    changed[0, :, :4] = 9
    assert losses.outline_loss(changed, mask) == pytest.approx(losses.outline_loss(logits, mask).item())


def test_the_overlap_is_tverskys():
    """Of 100 pixels 10 are blood; 6 of them and 2 others are answered. By hand: both 6, missed 4, false 2."""
    mask = torch.zeros(1, 10, 10, dtype=torch.long)
    mask[0, 0] = 1
    logits = torch.full((1, 10, 10), -30.0)
    logits[0, 0, :6] = logits[0, 1, :2] = 30
    entropy = torch.nn.functional.binary_cross_entropy_with_logits(logits, mask.float())
    for missed, overlap in ((0.5, 13 / 19), (0.75, 13 / (12 + 6 + 1 + 1))):
        assert losses.outline_loss(logits, mask, missed) - entropy == pytest.approx(1 - overlap, abs=1e-5)


def test_a_slice_is_told_apart_by_its_highest_answers():
    """On 64 x 64 pixels the highest are two; scikit-learn's cross-entropy of their means is the truth."""
    from sklearn.metrics import log_loss

    logits, mask = torch.full((4, 64, 64), -9.0), torch.zeros(4, 64, 64, dtype=torch.long)
    mask[0, 3, 3] = 1
    mask[3, :, :5] = data.UNKNOWN  # may hold blood: does not count
    logits[0, 9, 9], logits[0, 30, 30] = 3.0, 1.0
    logits[1, 5, 5], logits[1, 6, 5] = -1.0, -2.0
    logits[3, 40, 40] = 50
    expected = log_loss([1, 0, 0], 1 / (1 + np.exp([-2.0, 1.5, 9.0])))
    assert losses.detection_loss(logits, mask).item() == pytest.approx(expected, rel=1e-4)
    plain = losses.total_loss(logits, mask, torch.zeros(4, dtype=torch.bool))
    weighed = losses.total_loss(logits, mask, torch.zeros(4, dtype=torch.bool), config.LossConfig(slices=0.5))
    assert (weighed - plain).item() == pytest.approx(expected / 2, rel=1e-3)


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


def test_the_loss_is_small_for_the_right_answer_and_large_for_the_wrong_one():
    mask = torch.zeros(2, 16, 16, dtype=torch.long)
    mask[:, 4:9, 5:12] = 1
    right = (mask * 2 - 1) * 12.0
    nowhere = torch.zeros(2, dtype=torch.bool)
    assert losses.total_loss(right, mask, nowhere) < 0.02
    assert losses.total_loss(-right, mask, nowhere) > 5


def test_a_box_wants_an_answer_that_reaches_its_sides_and_stays_inside():
    box = torch.zeros(1, 32, 32, dtype=torch.long)
    box[0, 8:24, 8:24] = 1
    cross = torch.full((1, 32, 32), -12.0)
    cross[0, 14:18, 8:24] = cross[0, 8:24, 14:18] = 12
    spot = torch.full((1, 32, 32), -12.0)
    spot[0, 15:17, 15:17] = 12
    outside = cross.clone()
    outside[0, 0:6] = 12
    values = [losses.box_loss(logits, box).item() for logits in (cross, spot, outside)]
    assert values[0] < values[1] and values[0] < values[2]


@pytest.mark.slow
def test_the_encoder_weights_of_a_file_fit_and_are_not_random(encoder_file):
    table = config.NetworkConfig(name="x", encoder_weights=f"file:{encoder_file}", size=64)
    pretrained, bare = networks.build(table), networks.build(table.model_copy(update={"encoder_weights": None}))
    weight = "encoder.model.conv_stem.weight"
    assert pretrained.state_dict()[weight].std() > 1.5 * bare.state_dict()[weight].std()
    with torch.no_grad():
        assert pretrained.eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize("changes", [{"architecture": "castle"}, {"encoder": "cloud"}, {"encoder_weights": "hub"}])
def test_a_network_that_cannot_be_built_is_refused(changes):
    with pytest.raises(TrainError, match="network"):
        networks.build(config.NetworkConfig(name="x", size=64).model_copy(update=changes))


def toml(tmp_path, name, text):
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_configuration_takes_over_what_it_does_not_say_itself(config_file, tmp_path):
    whole = config.load(config_file())
    path = toml(
        tmp_path, "deep/er/x.toml", 'extends = "../../trial.toml"\n[train]\nsamples = 8\n[data.sources]\nmore = 1'
    )
    loaded = config.load(path)
    assert loaded.train == whole.train.model_copy(update={"samples": 8})
    assert loaded.data.sources == {**whole.data.sources, "more": 1}
    assert loaded.network.model_dump() == whole.network.model_dump()
    assert (path.parent / loaded.data.root).resolve() == tmp_path.resolve()


def test_a_path_is_relative_to_the_file_that_states_it(config_file, tmp_path):
    text = (
        config_file()
        .read_text()
        .replace('"package"', '"file:w.pth"')
        .replace('root = "."', 'root = "."\nsplit = "s.csv"')
    )
    toml(tmp_path, "trial.toml", text)
    loaded = config.load(toml(tmp_path, "sub/x.toml", 'extends = "../trial.toml"'))
    assert loaded.network.weights_file.resolve() == (tmp_path / "w.pth").resolve()
    assert loaded.data.split_file.resolve() == (tmp_path / "s.csv").resolve()


@pytest.mark.parametrize(("first", "told"), [('"b.toml"', "extends itself"), ('"c.toml"', "no such"), ("1", "extends")])
def test_a_circle_or_gap_of_configurations_is_refused(tmp_path, first, told):
    path = toml(tmp_path, "a.toml", f"extends = {first}")
    toml(tmp_path, "b.toml", 'extends = "a.toml"')
    with pytest.raises(TrainError, match=told):
        config.load(path)


def drawn(samples, changes, number=400):
    loaded = small(changes)
    rng = np.random.default_rng(0)
    draw = slices.SliceDraw(samples, loaded)
    return [draw(rng) for _ in range(number)]


def small(train=None, **changes):
    return config.Config.model_validate(
        {
            "data": {"root": ".", "sources": {"a": 3, "b": 1, "boxes": 4}, "validation": ["a"]},
            "network": {"name": "x", "size": 64},
            "train": {"samples": 8, "batch": 8, **(train or {})},
            **changes,
        }
    )


KINDS = [
    stored(source="a", blood=True),
    stored(source="a", blood=False),
    stored(source="b", blood=True),
    *[stored(source="boxes", boxed=True)] * 9,
]


def test_classes_are_drawn_by_their_shares_and_sources_by_theirs_within():
    chosen = drawn(KINDS, {"balance": {"positive": 0.6, "negative": 0.4}}, 2000)
    positive = [s for s in chosen if (s.mask == 1).any()]
    assert not any(s.boxed for s in chosen)
    assert len(positive) / 2000 == pytest.approx(0.6, abs=0.04)
    assert sum(s.source == "a" for s in positive) / len(positive) == pytest.approx(0.75, abs=0.04)
    assert all(s.source == "a" for s in chosen if not (s.mask == 1).any())


def test_without_classes_sources_are_drawn_by_their_shares():
    chosen = drawn(KINDS, {}, 2000)
    assert sum(s.source == "boxes" for s in chosen) / 2000 == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    ("balance", "told"),
    [({"boxed": 1.0}, "boxed: there is no such"), ({"positive": 0.0}, "one must be above 0")],
)
def test_a_class_that_cannot_be_drawn_is_refused(balance, told):
    with pytest.raises(TrainError, match=rf"train\.balance.*{told}"):
        drawn([sample for sample in KINDS if not sample.boxed], {"balance": balance})


def earlier_run(folder, **record):
    folder.mkdir()
    (folder / "best.ckpt").write_bytes(b"")
    whole = {"validation_patients": ["a", "b"], "config": small().model_dump(mode="json")}
    (folder / "split.json").write_text(json.dumps(whole | record))
    return folder


@pytest.mark.parametrize(
    ("noted", "told"),
    [
        ({"split": {"by": "slice-leaking-patients", "file": None}}, "split by slice-leaking-patients"),
        ({"training_patients": ["b", "c"]}, "trained on b, a validation patient of this run"),
    ],
)
def test_an_earlier_run_is_taken_only_where_it_was_not_trained_on_who_validates(tmp_path, noted, told):
    here = frozenset({"a", "b"})
    run_folder.find_earlier_run(earlier_run(tmp_path / "old"), here, "network.start")
    run_folder.find_earlier_run(
        earlier_run(tmp_path / "good", training_patients=["c"], split={"by": "patient"}), here, "x"
    )
    with pytest.raises(TrainError, match=told):
        run_folder.find_earlier_run(earlier_run(tmp_path / "bad", **noted), here, "network.start")


def test_another_stream_draws_other_samples():
    images = []
    for stream in (0, 0, 1, 2):
        loaded = small(train={"samples": 8, "stream": stream})
        images.append(slices.TrainingSlices(KINDS, loaded)[0]["image"])
    assert torch.equal(images[0], images[1])
    assert not torch.equal(images[0], images[2]) and not torch.equal(images[2], images[3])


def test_a_vault_makes_the_brain_brighter_and_holds_no_blood():
    sample = stored()
    inside = augmentation.mark_inner_skull(sample.hu)
    raised = []
    for seed in range(16):
        plain, _ = augmentation.grow_bone(sample.hu, sample.mask, np.random.default_rng(seed))
        hu, mask = augmentation.grow_bone(sample.hu, sample.mask, np.random.default_rng(seed), vault=1.0)
        if np.array_equal(plain, hu):  # ridges, of which none is a vault
            continue
        assert not mask[inside].any() and hu.max() <= 121
        raised.append(np.median(hu[inside]) - np.median(sample.hu[inside]))
    assert len(raised) > 3 and min(raised) > 3


def test_clear_answers_of_a_teacher_are_taken_and_doubtful_ones_left_open():
    probability = np.array([[0.0, 0.1, 0.11, 0.59, 0.6, 1.0]], np.float32)
    assert teachers.make_pseudo_mask(probability, 0.1, 0.6).tolist() == [[0, 0, 2, 2, 1, 1]]


class Bright(torch.nn.Module):
    """A teacher that is sure of what is bright: above 60 HU in the window 0..80."""

    def forward(self, image):
        return (image - 0.5) * 200


def outlined(monkeypatch, sample, boxes=False):
    loaded = small(self_training={"teacher": "t", "boxes": boxes})
    monkeypatch.setattr(teachers, "load_teacher", lambda *_: teachers.Teacher([(Bright(), 96)]))
    return teachers.outline_samples([sample], loaded, Path(), frozenset())[0]


def dice(one, other):
    return 2 * (one & other).sum() / (one.sum() + other.sum())


def test_a_teacher_outlines_what_nobody_has(monkeypatch):
    truth = stored(source="a")
    unknown = replace(truth, mask=np.full_like(truth.mask, data.UNKNOWN), labelled=False)
    made = outlined(monkeypatch, unknown)
    inside = augmentation.mark_inner_skull(truth.hu) | (truth.mask == 1)
    assert dice((made.mask == 1) & inside, truth.mask == 1) > 0.8
    assert not made.labelled and not slices.TrainingSlices([made], small()).donors
    assert outlined(monkeypatch, truth) is truth


def test_a_bleed_that_the_teacher_does_not_see_stays_unknown(monkeypatch):
    dark = replace(stored(), code=np.zeros((384, 384), np.uint8), labelled=False)
    assert outlined(monkeypatch, dark) is dark


def test_a_teacher_fills_a_box_and_nothing_outside_of_it(monkeypatch):
    truth = stored(source="a")
    rows, columns = np.nonzero(truth.mask == 1)
    box = np.zeros_like(truth.mask)
    box[rows.min() - 9 : rows.max() + 10, columns.min() - 9 : columns.max() + 10] = 1
    boxed = replace(truth, mask=box, boxed=True)
    assert outlined(monkeypatch, boxed) is boxed
    made = outlined(monkeypatch, boxed, boxes=True)
    assert not made.boxed and not made.mask[box == 0].any()
    assert dice(made.mask == 1, truth.mask == 1) > 0.8


def test_a_student_is_held_to_the_mean_of_its_teachers():
    """Cross-entropy is least where the student's probability is the teachers' mean: 0.5 of 0.9 and 0.1."""

    class Sure(torch.nn.Module):
        def __init__(self, probability):
            super().__init__()
            self.logit = float(np.log(probability / (1 - probability)))

        def forward(self, image):
            return torch.full_like(image, self.logit)

    mean = teachers.Teacher([(Sure(0.9), 32), (Sure(0.1), 48)])(torch.zeros(2, 1, 64, 64))
    assert mean.shape == (2, 64, 64) and torch.allclose(mean, torch.tensor(0.5), atol=1e-6)
    logits = torch.zeros(2, 64, 64, requires_grad=True)
    losses.distillation_loss(logits, mean, 2.0).backward()
    assert logits.grad.abs().max() < 1e-9
    assert losses.distillation_loss(logits, mean, 1.0).item() == pytest.approx(np.log(2), abs=1e-6)


def test_a_picture_shows_the_truth_in_green_and_the_answer_in_red():
    sample = stored()
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
    held_out = [stored(blood=index % 3 == 0) for index in range(30)]
    picks = callbacks.choose_previews(held_out)
    assert picks == callbacks.choose_previews(held_out)
    assert [bool((held_out[i].mask == 1).any()) for i in picks].count(True) == 4 and len(picks) == 5


def read(path):
    with path.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_metrics_go_on_where_a_run_was_stopped(tmp_path):
    path = tmp_path / "metrics.csv"
    first = run_folder.MetricsFile(path, 0)
    for step in (1, 3, 5):
        first.log_metrics({"loss": step / 10}, step)
    first.log_metrics({"dice": 0.5}, 5)
    second = run_folder.MetricsFile(path, 4)
    second.log_metrics({"loss": 0.7, "dice": 0.25}, 5)
    assert [(row["step"], row["loss"], row["dice"]) for row in read(path)] == [
        ("1", "0.1", ""),
        ("3", "0.3", ""),
        ("5", "0.7", "0.25"),
    ]
    run_folder.MetricsFile(path, 0)
    assert read(path) == []


def test_the_machine_is_told_without_its_name():
    assert platform.node() not in run_folder.describe_machine() or not platform.node()
    assert "cores" in run_folder.describe_machine() or torch.cuda.is_available()


def switches():
    """Every entry of a configuration as a table, out of the models that check it."""
    lines = ["| entry | default | what |", "|---|---|---|"]
    tables = {
        name: kind
        for name, field in config.Config.model_fields.items()
        for kind in (field.annotation, *get_args(field.annotation))
        if isinstance(kind, type) and issubclass(kind, BaseModel)
    }
    for table, kind in tables.items():
        for name, field in kind.model_fields.items():
            default = "required" if field.is_required() else f"`{json.dumps(field.default)}`".replace("null", "none")
            lines.append(f"| `{table}.{name}` | {default} | {field.description} |")
    return "\n".join(lines)


def test_the_page_names_every_switch_with_its_default():
    page = (Path(__file__).parents[2] / "docs/networks.md").read_text()
    assert page.split("## Every switch")[1].split("\n\n", 2)[2].strip() == switches()
