"""Splits as files: written once, held to the pixels, and never a person on both sides."""

import csv
import hashlib
import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from data_sets import find_data_set
from strokeseg.cli import app
from strokeseg.errors import Leakage, TrainError
from strokeseg.evaluation import split_file
from strokeseg.segmentation import models
from strokeseg.training import config, split

ROOT = Path(__file__).parents[2]
DEFAULT = ROOT / "splits/default.csv"


@pytest.fixture
def root(data_root, tmp_path):
    """A copy of the phantoms that a test may change."""
    import shutil

    return shutil.copytree(data_root, tmp_path / "data")


@pytest.fixture
def written(config_file, root):
    """A configuration that names its split, beside it in a folder of its own."""
    path = config_file()
    split_file.write(split.draw_rows(config.load(path), root), path.parent / "splits/trial.csv")
    path.write_text(path.read_text().replace("[data]", '[data]\nsplit = "splits/trial.csv"'))
    return path


def change(path, edit):
    """Rewrite the split beside a configuration, row by row."""
    file = path.parent / "splits/trial.csv"
    split_file.write(map(edit, split_file.read(file)), file)


def ids(samples):
    return [(s.source, s.patient, hashlib.sha256(s.code).hexdigest()) for s in samples]


def leave_out(path, *patients):
    loaded = config.load(path)
    return loaded.model_copy(update={"data": loaded.data.model_copy(update={"leave_out": list(patients)})})


@pytest.mark.parametrize("drawn", [False, True])
def test_a_patient_who_is_left_out_is_neither_trained_nor_validated_on(config_file, written, root, drawn):
    path = config_file() if drawn else written
    whole = split.load_split(config.load(path), root)
    patients = whole.training[0].patient, whole.held_out[0].patient
    fold = split.load_split(leave_out(path, *patients), root)
    for side, of_whole in ((fold.training, whole.training), (fold.held_out, whole.held_out)):
        assert ids(side) == ids(sample for sample in of_whole if sample.patient not in patients)
        assert len(side) < len(of_whole)


def test_a_patient_who_is_left_out_must_exist(written, root):
    with pytest.raises(TrainError, match=r"data\.leave_out: no sample is of nobody:1"):
        split.load_split(leave_out(written, "nobody:1"), root)


def test_a_written_split_gives_the_sides_that_were_drawn(config_file, written, root):
    read = split.load_split(config.load(written), root)
    drawn = split.load_split(config.load(config_file()), root)
    assert read.record["file"] == "trial.csv" and drawn.record["file"] is None
    assert ids(read.training) == ids(drawn.training) and ids(read.held_out) == ids(drawn.held_out)
    assert read.validation_patients == drawn.validation_patients


def test_the_record_of_a_split_holds_no_path(written, root, tmp_path):
    loaded = config.load(written)
    sides = split.load_split(loaded, root)
    text = json.dumps(sides.record) + loaded.model_dump_json()
    assert str(tmp_path) not in text and "splits/trial.csv" in text
    assert sides.record["sha256"] == hashlib.sha256((written.parent / "splits/trial.csv").read_bytes()).hexdigest()


def test_the_hash_of_the_pixels_is_that_of_shape_and_little_endian_values():
    hu = np.array([[-1000, 0, 70], [35, 1, 2]], np.int16)
    expected = hashlib.sha256(b"2x3:" + b"".join(int(v).to_bytes(2, "little", signed=True) for v in hu.ravel()))
    assert split_file.pixel_sha256(hu) == expected.hexdigest()
    assert split_file.pixel_sha256(hu) == split_file.pixel_sha256(np.asfortranarray(hu.astype(">i2")))
    assert split_file.pixel_sha256(hu) != split_file.pixel_sha256(hu.reshape(3, 2))


def test_a_file_of_another_encoding_with_the_same_pixels_still_fits(written, root):
    picture = root / "ctich_train/images/000_1.png"
    Image.open(picture).save(picture, compress_level=0)
    split.load_split(config.load(written), root)


def test_an_image_with_other_pixels_is_refused(written, root):
    picture = root / "ctich_train/images/000_1.png"
    grey = np.array(Image.open(picture))
    grey[90, 90] += 9
    Image.fromarray(grey).save(picture)
    with pytest.raises(TrainError, match="ctich_train 000_1: not the pixels") as caught:
        split.load_split(config.load(written), root)
    assert "--write-split" in caught.value.remedy


def test_an_image_that_the_file_does_not_name_is_refused(written, root):
    file = written.parent / "splits/trial.csv"
    file.write_text("".join(line for line in file.open() if ",002_2," not in line))
    with pytest.raises(TrainError, match="does not name ctich_train 002_2") as caught:
        split.load_split(config.load(written), root)
    assert "--write-split" in caught.value.remedy


def test_an_image_that_the_data_lack_is_refused(written, root):
    index = root / "ctich_train/index.csv"
    index.write_text("".join(line for line in index.open() if not line.startswith("004_1")))
    with pytest.raises(TrainError, match="names ctich_train 004_1, which the data lack"):
        split.load_split(config.load(written), root)


def test_a_patient_on_both_sides_is_refused(written, root):
    change(written, lambda row: replace(row, side="validation" if row.name.endswith("_1") else "train"))
    with pytest.raises(TrainError, match="8 patients on both sides"):
        split.load_split(config.load(written), root)


def test_an_image_that_is_left_out_stands_on_no_side(written, root):
    whole = split.load_split(config.load(written), root)
    change(written, lambda row: replace(row, side="left-out") if row.side == "train" and "_1" in row.name else row)
    fewer = split.load_split(config.load(written), root)
    assert len(fewer.training) == len(whole.training) - 6 and fewer.record["left_out"] == 6
    assert ids(fewer.held_out) == ids(whole.held_out)


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        (lambda text: text.replace("source,", "origin,", 1), "columns"),
        (lambda text: text.replace(",train,", ",tests,", 1), "line 2"),
        (lambda text: text + text.splitlines()[1] + "\n", "listed twice"),
        (lambda text: text.replace("\n", "0\n").replace("dhash0", "dhash"), "64 hex digits"),
        (lambda text: text + "a,b,c\n", "columns"),
    ],
    ids=["column", "side", "twice", "digits", "short"],
)
def test_a_file_that_is_no_split_is_refused(written, edit, named):
    file = written.parent / "splits/trial.csv"
    file.write_text(edit(file.read_text()))
    with pytest.raises(TrainError, match=named):
        split_file.read(file)


def test_a_split_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(TrainError, match="no such split"):
        split_file.read(tmp_path / "none.csv")


words = st.text("abcxyz019_.:-, \"'é", min_size=1, max_size=12)
digits = st.text("0123456789abcdef", min_size=64, max_size=64)
a_row = st.builds(
    split_file.SplitRow,
    words,
    words,
    words,
    st.sampled_from(split_file.SIDES),
    st.sampled_from(split_file.KINDS),
    digits,
    digits,
)


@given(st.lists(a_row, max_size=8, unique_by=lambda row: (row.source, row.name)))
def test_what_was_written_is_read_back(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("split") / "s.csv"
    split_file.write(rows, path)
    assert split_file.read(path, leaking=True) == rows


def mirrored_copy(root, images, masks, of, name):
    """Add a patient's slice, mirrored, to another patient."""
    for folder in (images, masks):
        Image.fromarray(np.array(Image.open(root / folder / f"{of}.png"))[:, ::-1]).save(root / folder / f"{name}.png")


def test_a_patient_whose_slice_validates_under_another_name_is_left_out(config_file, root):
    loaded = config.load(config_file())
    held_out = sorted(p for p in split.load_split(loaded, root).validation_patients if p.startswith("ctich"))[0][-3:]
    trained = next(
        f"{n:03d}" for n in range(8) if f"ctich:{n:03d}" not in split.load_split(loaded, root).validation_patients
    )
    mirrored_copy(root / "ctich_train", "images", "masks", f"{held_out}_0", f"{trained}_2")
    rows = split.draw_rows(loaded, root)
    assert {row.name for row in rows if row.side == "left-out"} >= {f"{trained}_{n}" for n in range(3)}
    assert all(row.side == "validation" for row in rows if row.patient == f"ctich:{held_out}")


def test_a_split_with_one_image_on_both_sides_is_refused(config_file, written, root):
    sides = split.load_split(config.load(written), root)
    held_out = sorted(p for p in sides.validation_patients if p.startswith("ctich"))[0][-3:]
    trained = next(f"{n:03d}" for n in range(8) if f"ctich:{n:03d}" not in sides.validation_patients)
    mirrored_copy(root / "ctich_train", "images", "masks", f"{held_out}_0", f"{trained}_2")
    fresh = {row.name: row for row in split.draw_rows(config.load(written), root)}
    change(written, lambda row: replace(fresh[row.name], side=row.side))
    with pytest.raises(Leakage, match=f"ctich_train {held_out}_0 as ctich_train {trained}_2"):
        split.load_split(config.load(written), root)


def test_slices_are_split_only_on_demand_and_with_a_warning(config_file, root, caplog):
    path = config_file()
    path.write_text(path.read_text().replace("[data]", '[data]\nsplit_by = "slice-leaking-patients"'))
    with caplog.at_level(logging.WARNING):
        sides = split.load_split(config.load(path), root)
    assert "too good" in caplog.text and sides.record["by"] == "slice-leaking-patients"
    assert {s.patient for s in sides.training} & {s.patient for s in sides.held_out}
    assert len(sides.held_out) == 8  # a quarter of 24 slices with, and of 6 without blood


def test_a_run_without_blood_to_train_on_is_refused(config_file, data_root):
    path = config_file()
    path.write_text(path.read_text().replace("ctich_train = 0.7, ", "").replace('["ctich_train", ', "["))
    with pytest.raises(TrainError, match="no training slice has blood"):
        split.load_split(config.load(path), data_root)


def test_a_run_without_blood_to_validate_on_is_refused(config_file, data_root):
    path = config_file()
    path.write_text(path.read_text().replace('["ctich_train", ', "["))
    with pytest.raises(TrainError, match="no validation slice has blood"):
        split.load_split(config.load(path), data_root)


def test_a_source_that_gives_no_slice_is_refused_unless_its_share_is_0(config_file, root):
    path = config_file()
    (root / "cpaisd_ischemic_mini").mkdir()
    text = path.read_text()
    path.write_text(text.replace("ctich_train = 0.7", "ctich_train = 0.7, cpaisd = 0"))
    split.load_split(config.load(path), root)
    path.write_text(text.replace("ctich_train = 0.7", "ctich_train = 0.7, cpaisd = 0.1"))
    with pytest.raises(TrainError, match=r"data\.sources\.cpaisd: no slice in it"):
        split.load_split(config.load(path), root)


def test_a_hash_that_is_not_that_of_the_pixels_is_refused(written, root):
    """Otherwise a forged one would hide an image of the training side from the search for leaks."""
    change(written, lambda row: replace(row, dhash="0" * 64) if row.name == "003_1" else row)
    with pytest.raises(TrainError, match="the dhash of ctich_train 003_1 is not that of its pixels"):
        split.load_split(config.load(written), root)


def test_the_command_writes_a_split_and_says_how_many(config_file, data_root, tmp_path):
    file = tmp_path / "mine.csv"
    done = CliRunner().invoke(app, ["train", str(config_file()), "--data", str(data_root), "--write-split", str(file)])
    assert done.exit_code == 0, done.output
    with file.open(newline="") as stream:
        sides = [row["side"] for row in csv.DictReader(stream)]
    assert f"validation: {sides.count('validation')} images" in done.output and len(sides) == 30


def test_the_shipped_split_holds_the_patients_by_whom_the_shipped_network_was_chosen():
    rows = split_file.read(ROOT / "splits/whole-scans.csv")
    held_out = sorted({row.patient for row in rows if row.side == "validation"})
    assert held_out == models.load_card("default").training["validation_patients"]
    assert not any(row.patient in {f"ctich:{n:03d}" for n in (77, 78, 79, 80, 81)} for row in rows)


def test_the_shipped_split_leaves_out_what_validates_under_another_name():
    """Neighbouring slices of one person under two numbers; found by their pixels, seen to be so by eye in the set."""
    left_out = {row.patient for row in split_file.read(DEFAULT) if row.side == "left-out" and row.kind == "negative"}
    assert left_out == {"headct:104", "headct:110", "headct:146"}


@pytest.mark.slow
def test_the_shipped_split_fits_the_data(tmp_path):
    sides = split.load_split(config.load(ROOT / "configs/zoo/unet-resnet34.toml"), find_data_set())
    assert len(sides.held_out) == 155
