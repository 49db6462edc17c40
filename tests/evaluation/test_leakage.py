"""Near-duplicates: altered copies are found, other people's slices are not."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from data_sets import find_data_set
from strokeseg.cli import app
from strokeseg.errors import Leakage
from strokeseg.evaluation import find_pairs, leakage, split_file
from strokeseg.reading import read_one
from strokeseg.training import data
from strokeseg.training.split import make_source_reader


def make_head(seed, size=256):
    """A head with a brain of its own: smooth random texture between 15 and 55 HU, a skull of its own shape."""
    rng = np.random.default_rng(seed)
    rows, columns = np.indices((size, size))
    far = np.hypot((rows - size / 2) / (size * 0.44), (columns - size / 2) / (size * rng.uniform(0.33, 0.4)))
    texture = ndimage.gaussian_filter(rng.standard_normal((size, size)), size / 40)
    brain = 35 + 8 * texture / texture.std()
    return np.where(far < 0.9, brain, np.where(far < 1, 900, -1000)).astype(np.int16)


def jpeg(hu):
    stream = io.BytesIO()
    Image.fromarray(np.rint(np.clip((hu + 20) / 120, 0, 1) * 255).astype(np.uint8)).save(stream, "JPEG", quality=60)
    return np.rint(np.asarray(Image.open(stream), float) / 255 * 120 - 20).astype(np.int16)


ALTERED = {
    "the same": lambda hu: hu,
    "mirrored": lambda hu: hu[:, ::-1],
    "face down": lambda hu: hu[::-1],
    "turned": lambda hu: np.rot90(hu),
    "jpeg": jpeg,
    "brighter": lambda hu: hu + 4,
    "more contrast": lambda hu: np.rint((hu - 40) * 1.2 + 40).astype(np.int16),
    "80 read as 120": lambda hu: np.rint(np.clip(hu - 40.0, -40, 40) * 1.5 + 40).astype(np.int16),
    "smaller": lambda hu: np.rint(ndimage.zoom(np.clip(hu, -100, 200).astype(float), 0.6, order=1)).astype(np.int16),
    "moved": lambda hu: np.pad(hu, ((9, 0), (0, 21)), constant_values=-1000),
}


def find_duplicates(one, other, pixels=True):
    picture, theirs = (leakage.make_thumbnail(np.ascontiguousarray(hu, np.int16)) for hu in (one, other))
    hashes = leakage.unpack_dhashes([leakage.dhash(theirs)])
    return leakage.find_near_duplicates([picture], hashes, lambda _: theirs if pixels else None) == [(0, 0)]


@pytest.mark.parametrize("pixels", [True, False], ids=["with pixels", "hash alone"])
@pytest.mark.parametrize("altered", ALTERED.values(), ids=ALTERED.keys())
def test_an_altered_copy_is_found(altered, pixels):
    assert all(find_duplicates(altered(make_head(seed)), make_head(seed), pixels) for seed in range(4))


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(0, 10**6))
def test_another_head_is_none(one, other):
    same = one == other
    assert (
        find_duplicates(make_head(one), make_head(other))
        == find_duplicates(make_head(one), make_head(other), pixels=False)
        == same
    )


def test_the_hash_says_which_pixel_is_darker_than_its_right_neighbour():
    rising = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (64, 1))
    assert leakage.dhash(rising) == "f" * 64 and leakage.dhash(rising[:, ::-1]) == "0" * 64
    half = np.where(np.arange(64)[:, None] < 32, rising, rising[:, ::-1])
    assert leakage.dhash(half) == "f" * 32 + "0" * 32


@given(st.lists(st.text("0123456789abcdef", min_size=64, max_size=64), max_size=4))
def test_digits_and_bits_are_the_same(hashes):
    unpacked = leakage.unpack_dhashes(hashes)
    assert unpacked.shape == (len(hashes), 256)
    assert [f"{int(''.join(map(str, map(int, row))), 2):064x}" for row in unpacked] == hashes


def test_a_slice_without_contrast_is_nobodys():
    empty = np.full((64, 64), -1000, np.int16)
    assert not find_duplicates(empty, empty) and not find_duplicates(empty, empty, pixels=False)


def rows_of(planes):
    return [
        split_file.SplitRow(
            "set", f"n{index}", f"p{index}", side, "negative", "0" * 64, leakage.dhash(leakage.make_thumbnail(hu))
        )
        for index, (side, hu) in enumerate(planes)
    ]


def folder_of(tmp_path, planes):
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
    for index, hu in enumerate(planes):
        grey = np.rint(np.clip((hu + 20) / 120, 0, 1) * 255).astype(np.uint8)
        Image.fromarray(grey).save(tmp_path / f"images/q{index}_0.png")
        Image.new("L", grey.shape[::-1]).save(tmp_path / f"masks/q{index}_0.png")
    return tmp_path


def test_a_test_image_that_was_trained_on_is_named(tmp_path):
    pairs = find_pairs(folder_of(tmp_path, [make_head(1), make_head(2)[:, ::-1]]))
    rows = rows_of([("train", make_head(5)), ("train", make_head(2)), ("validation", make_head(1))])
    with pytest.raises(Leakage, match="1 test images are also training images: q1_0 as set n1") as caught:
        leakage.check_leakage(pairs, rows, window=(40, 120))
    assert (caught.value.code, caught.value.exit_code) == ("leakage", 3)


def test_the_command_refuses_before_it_scores(tmp_path):
    folder = folder_of(tmp_path, [make_head(1)])
    split_file.write(rows_of([("train", make_head(1))]), tmp_path / "split.csv")
    call = ["evaluate", str(folder), "--window", "40,120", "--check-leakage", str(tmp_path / "split.csv")]
    done = CliRunner().invoke(app, call)
    assert isinstance(done.exception, Leakage) or done.exit_code == 3


@pytest.mark.slow
def test_the_test_set_is_not_in_the_shipped_split():
    from pathlib import Path

    rows = split_file.read(Path(__file__).parents[2] / "splits/default.csv")
    reader = make_source_reader(find_data_set())
    leakage.check_leakage(find_pairs(find_data_set("ctich_jpg")), rows, reader, window=(40, 120))


@pytest.mark.slow
def test_slices_published_in_two_sets_are_found_and_other_peoples_are_not():
    """CT-ICH 086 lies in both of its sets; ischemic strokes of another hospital lie in neither."""
    masked = [s for s in data.load(find_data_set(), "ctich_train") if s.name.startswith("086_")]
    boxes = [leakage.make_thumbnail(s.hu) for s in data.load(find_data_set(), "ctich_boxes")]
    hashes = leakage.unpack_dhashes(map(leakage.dhash, boxes))
    pairs = leakage.find_near_duplicates([leakage.make_thumbnail(s.hu) for s in masked], hashes, boxes.__getitem__)
    assert {masked[mine].name for mine, _ in pairs} == {s.name for s in masked} and len(masked) == 7
    strokes = [leakage.make_thumbnail(s.hu) for s in data.load(find_data_set(), "cpaisd")]
    assert leakage.find_near_duplicates(strokes, hashes, boxes.__getitem__) == []


@pytest.mark.slow
def test_slices_at_the_vertex_of_two_people_are_not_taken_for_one():
    stacks = [
        [
            leakage.make_thumbnail(plane)
            for plane in read_one(find_data_set(f"phe_sich_stacks/{name}/images"), window=(40, 80)).hu
        ]
        for name in ("0024", "0053", "0058")
    ]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        hashes = leakage.unpack_dhashes(map(leakage.dhash, stacks[other]))
        assert leakage.find_near_duplicates(stacks[one], hashes, stacks[other].__getitem__) == []
        assert leakage.find_near_duplicates(stacks[one], hashes, lambda _: None) == []


def test_a_normal_that_was_trained_on_is_found_too(tmp_path):
    for name in ("pairs", "normals"):
        (tmp_path / name).mkdir()
    folder_of(tmp_path / "normals", [make_head(2)])
    split_file.write(rows_of([("train", make_head(2))]), tmp_path / "split.csv")
    call = ["evaluate", str(folder_of(tmp_path / "pairs", [make_head(1)])), "--window", "40,120"]
    call += ["--normals", str(tmp_path / "normals/images"), "--check-leakage", str(tmp_path / "split.csv")]
    assert isinstance(CliRunner().invoke(app, call).exception, Leakage)


def test_a_slice_of_a_whole_scan_that_was_trained_on_is_found(tmp_path):
    folder_of(tmp_path, [make_head(1), make_head(2)])
    (tmp_path / "scans").mkdir()
    (tmp_path / "images").rename(tmp_path / "scans/p1")
    (tmp_path / "scans/index.csv").write_text("patient,blood\np1,0\n")
    split_file.write(rows_of([("train", make_head(2))]), tmp_path / "split.csv")
    call = ["evaluate", str(tmp_path / "scans"), "--whole-scans", "--window", "40,120"]
    done = CliRunner().invoke(app, [*call, "--check-leakage", str(tmp_path / "split.csv")])
    assert isinstance(done.exception, Leakage) and "p1 as set n0" in done.exception.message
