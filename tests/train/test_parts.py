from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from strokeseg.errors import TrainError
from strokeseg.train import augment, config, data, losses, networks, split


def stored(patient="a", blood=True, boxed=False, source="ctich_train"):
    hu = np.full((160, 160), -1000)
    rows, columns = np.indices(hu.shape)
    far = np.hypot(rows - 80, columns - 80)
    hu = np.where(far < 62, 35, np.where(far < 70, 900, -1000)).astype(np.int16)
    mask = ((far < 12) & blood).astype(np.uint8)
    hu[mask == 1] = 70
    return augment.store(data.Sample(source, patient, patient, hu, mask, boxed))


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("samples = 64", "samples = 0", "train.samples"),
        ("size = 96", "size = 100", "network.size"),
        ('name = "trial"', 'name = "trial"\nname2 = 1', "network.name2"),
        ("[train]", "[train", "TOML"),
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
    chosen = split.validation_patients(samples, ["ctich_train"], 0.3, seed=0)
    training, held_out = split.split(samples, chosen)
    assert len(chosen) == 3
    assert not {s.patient for s in training} & {s.patient for s in held_out}
    assert len(training) + len(held_out) == 30


def test_a_patient_keeps_its_side_when_others_come_in():
    few = split.validation_patients([stored(f"p{i}") for i in range(10)], ["ctich_train"], 0.5, seed=0)
    many = split.validation_patients([stored(f"p{i}") for i in range(20)], ["ctich_train"], 0.5, seed=0)
    assert len(few - many) <= 2


def test_a_boxed_slice_never_validates():
    samples = [stored("a"), stored("a", boxed=True), stored("b")]
    training, held_out = split.split(samples, frozenset({"a"}))
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
    assert sample.code.shape == (augment.STORED_SIZE,) * 2
    assert sample.hu[192, 192] == pytest.approx(70, abs=0.7)
    assert sample.hu[120, 192] == pytest.approx(35, abs=0.7)
    assert sample.mask[192, 192] == 1 and sample.mask[120, 192] == 0


def test_a_crescent_lies_under_the_skull():
    sample = stored(blood=False)
    hu, mask = augment.crescent(sample.hu, sample.mask, np.random.default_rng(3))
    rows, columns = np.nonzero(mask == 1)
    far = np.hypot(rows - 191.5, columns - 191.5)
    inner_edge = 62 * 384 / (140 * 1.08)
    assert len(rows) > 40
    assert far.max() < inner_edge + 3 and far.min() > inner_edge - 40
    assert 30 < hu[mask == 1].mean() < 80


def test_a_box_stays_upright_when_it_is_moved():
    sample = stored(boxed=True)
    mask = np.zeros_like(sample.mask)
    mask[100:200, 150:250] = 1
    for seed in range(20):
        moved = augment.geometry(sample.hu, mask, 128, True, np.random.default_rng(seed))[1]
        rows, columns = np.nonzero(moved)
        assert moved.sum() > 0.97 * (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_intensity_stays_in_0_to_1_and_differs_by_seed():
    hu = stored().hu
    seen = [augment.intensity(hu, np.random.default_rng(seed)) for seed in range(6)]
    assert all(image.min() >= 0 and image.max() <= 1 and np.isfinite(image).all() for image in seen)
    assert not np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0], augment.intensity(hu, np.random.default_rng(0)))


def test_unknown_pixels_do_not_count_in_the_loss():
    logits = torch.zeros(1, 8, 8)
    mask = torch.zeros(1, 8, 8, dtype=torch.long)
    mask[0, :, :4] = data.UNKNOWN
    changed = logits.clone()
    changed[0, :, :4] = 9
    assert losses.outlined(changed, mask) == pytest.approx(losses.outlined(logits, mask).item())


def test_the_loss_is_small_for_the_right_answer_and_large_for_the_wrong_one():
    mask = torch.zeros(2, 16, 16, dtype=torch.long)
    mask[:, 4:9, 5:12] = 1
    right = (mask * 2 - 1) * 12.0
    nowhere = torch.zeros(2, dtype=torch.bool)
    assert losses.loss(right, mask, nowhere) < 0.02
    assert losses.loss(-right, mask, nowhere) > 5


def test_a_box_wants_an_answer_that_reaches_its_sides_and_stays_inside():
    box = torch.zeros(1, 32, 32, dtype=torch.long)
    box[0, 8:24, 8:24] = 1
    cross = torch.full((1, 32, 32), -12.0)
    cross[0, 14:18, 8:24] = cross[0, 8:24, 14:18] = 12
    spot = torch.full((1, 32, 32), -12.0)
    spot[0, 15:17, 15:17] = 12
    outside = cross.clone()
    outside[0, 0:6] = 12
    values = [losses.projected(logits, box).item() for logits in (cross, spot, outside)]
    assert values[0] < values[1] and values[0] < values[2]


@pytest.mark.slow
def test_the_packaged_encoder_weights_fit_and_are_not_random():
    table = config.NetworkTable(name="x", encoder_weights="package", size=64)
    pretrained, bare = networks.build(table), networks.build(table.model_copy(update={"encoder_weights": None}))
    weight = "encoder.model.conv_stem.weight"
    assert pretrained.state_dict()[weight].std() > 1.5 * bare.state_dict()[weight].std()
    with torch.no_grad():
        assert pretrained.eval()(torch.zeros(1, 1, 64, 64)).shape == (1, 1, 64, 64)


@pytest.mark.parametrize("changes", [{"architecture": "castle"}, {"encoder": "cloud"}, {"encoder_weights": "hub"}])
def test_a_network_that_cannot_be_built_is_refused(changes):
    with pytest.raises(TrainError, match="network"):
        networks.build(config.NetworkTable(name="x", size=64).model_copy(update=changes))
