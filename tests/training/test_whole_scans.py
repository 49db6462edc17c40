"""Whole patients and subdural boxes as sources: folders made by hand."""

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from phantoms import training_sets
from strokeseg.errors import TrainError
from strokeseg.evaluation.split_file import SplitRow
from strokeseg.segmentation.preprocess import find_head_square
from strokeseg.training import augmentation, config, data, split
from strokeseg.training.sample import UNKNOWN, Sample


def make_head(seed=0, blood=False, size=training_sets.SIZE):
    grey, mask = training_sets.make_slice(np.random.default_rng(seed), blood)
    picture = Image.fromarray(grey).resize((size, size))
    return picture, Image.fromarray(mask.astype(np.uint8) * 255).resize((size, size), Image.Resampling.NEAREST)


def write_ctich(root, patients):
    """Lay out CT-ICH as whole patients: {number: (role, slices, those with blood)}."""
    folder = root / "ctich"
    folder.mkdir()
    lines = ["patient,slice,mask_px,ivh,iph,sah,edh,sdh,fracture,role,blood"]
    for number, (role, slices, bleeding) in patients.items():
        (folder / number).mkdir()
        (folder / "masks" / number).mkdir(parents=True)
        for at in range(1, slices + 1):
            picture, mask = make_head(seed=at, blood=at in bleeding)
            picture.save(folder / number / f"{at:02d}.jpg", quality=95)
            if at in bleeding:
                mask.save(folder / "masks" / number / f"{at:02d}.png")
            count = int((np.asarray(mask) > 0).sum())
            lines.append(f"{number},{at},{count},0,{int(count > 0)},0,0,0,0,{role},{int(bool(bleeding))}")
    (folder / "index.csv").write_text("\n".join(lines))
    return folder


def test_whole_patients_come_with_every_slice_and_its_neighbours(tmp_path):
    folder = write_ctich(tmp_path, {"053": ("train", 4, {2, 3}), "055": ("train", 2, ())})
    samples = data.load(tmp_path, "ctich")
    assert [sample.name for sample in samples] == ["053_01", "053_02", "053_03", "053_04", "055_01", "055_02"]
    assert [sample.positive for sample in samples] == [False, True, True, False, False, False]
    assert not any((sample.mask == UNKNOWN).any() for sample in samples)
    truth = np.asarray(Image.open(folder / "masks/053/02.png")) > 0
    assert np.array_equal(samples[1].mask == 1, truth)
    assert samples[1].hu[truth].mean() == pytest.approx(70, abs=2)  # of 0..255 through the window (40, 120)
    for sample, below, above in zip(samples, (None, 0, 1, 2, None, 4), (1, 2, 3, None, 5, None), strict=True):
        assert sample.below is (None if below is None else samples[below].hu)
        assert sample.above is (None if above is None else samples[above].hu)
    square = find_head_square(np.stack([sample.hu for sample in samples[:4]]))
    assert {sample.square for sample in samples[:4]} == {square}


@pytest.mark.parametrize(("number", "role"), [("055", "test"), ("077", "train"), ("125", "train")])
def test_the_pictures_of_a_test_patient_are_not_even_opened(tmp_path, number, role):
    """Neither a role nor a number of the list is enough to train on somebody."""
    folder = write_ctich(tmp_path, {"053": ("train", 2, {1}), number: (role, 2, {1})})
    for picture in (folder / number).iterdir():
        picture.write_bytes(b"not a picture")
    assert {sample.patient for sample in data.load(tmp_path, "ctich")} == {"ctich:053"}


def test_a_test_patient_of_a_set_that_holds_them_is_left_out(tmp_path, monkeypatch):
    """The second lock, should the reader's own fail."""
    none = np.zeros((8, 8), np.uint8)
    read = [Sample("ctich", number, f"ctich:{number}", none.astype(np.int16), none) for number in ("053", "125")]
    monkeypatch.setitem(data.SOURCES, "ctich", data.Source(".", lambda _: iter(read), "", "", holds_tests=True))
    assert [sample.name for sample in data.load(tmp_path, "ctich")] == ["053"]
    assert data.SOURCES["ctich"].holds_tests


def test_a_mask_that_the_index_does_not_know_is_refused(tmp_path):
    folder = write_ctich(tmp_path, {"053": ("train", 3, {2})})
    (folder / "masks/053/02.png").unlink()
    with pytest.raises(TrainError, match=r"053 slice 2: index\.csv and masks differ"):
        data.load(tmp_path, "ctich")


def write_phe_sich(root, slices, edema, clots):
    """Lay out one patient of PHE-SICH, and beside it the slices with outlined clots, at another size."""
    whole, outlined = root / "phe_sich", root / "phe_sich_clots"
    (whole / "0001").mkdir(parents=True)
    (outlined / "masks").mkdir(parents=True)
    lines, named = ["patient,slice,edema_px_512"], ["id,patient,slice,rim_px_512,clot_px_512"]
    for at in range(slices):
        picture, mask = make_head(seed=at, blood=at in clots or at in edema, size=176)
        # 0..255 is 0..80 HU here, and 70 HU in the phantom's window is 191.
        picture.point(lambda grey: min(255, max(0, round((grey / 255 * 120 - 20) / 80 * 255)))).save(
            whole / f"0001/{at:02d}.jpg", quality=95
        )
        lines.append(f"0001,{at:02d},{int(at in edema) * 50}")
        if at in clots:
            mask.resize((192, 192), Image.Resampling.NEAREST).save(outlined / f"masks/0001_{at:02d}.png")
            named.append(f"0001_{at:02d},0001,{at:02d},9,9")
    (whole / "index.csv").write_text("\n".join(lines))
    (outlined / "index.csv").write_text("\n".join(named))


def test_what_nobody_outlined_in_a_bleeding_patient_is_a_negative_only_far_from_the_bleed(tmp_path):
    write_phe_sich(tmp_path, slices=8, edema={3, 4}, clots={3})
    samples = data.load(tmp_path, "phe_sich_whole")
    # 2 and 5 are next to a labelled slice, 4 has edema and no clot: they are neighbours alone.
    assert [sample.name for sample in samples] == ["0001_00", "0001_01", "0001_03", "0001_06", "0001_07"]
    assert [sample.positive for sample in samples] == [False, False, True, False, False]
    clot = samples[2]
    assert clot.below is not None and clot.above is not None and samples[1].above is clot.below
    assert clot.patient == "phe:0001" and clot.hu[clot.mask == 1].mean() == pytest.approx(70, abs=4)


def test_bright_ventricles_of_a_slice_without_outline_are_unknown(tmp_path):
    write_phe_sich(tmp_path, slices=3, edema=(), clots=())
    picture, mask = make_head(seed=1, blood=True, size=176)
    picture.point(lambda grey: min(255, max(0, round((grey / 255 * 120 - 20) / 80 * 255)))).save(
        tmp_path / "phe_sich/0001/01.jpg", quality=95
    )
    sample = data.load(tmp_path, "phe_sich_whole")[1]
    blood = ndimage.binary_erosion(np.asarray(mask) > 0, iterations=2)
    assert (sample.mask[blood] == UNKNOWN).mean() > 0.95 and not sample.positive
    assert (sample.mask == 0).mean() > 0.9


def write_subdural_boxes(root):
    folder = root / "rsna_sdh_boxes"
    for name in ("images", "boxes"):
        (folder / name).mkdir(parents=True)
    rows, columns = np.indices((192, 192))
    far = np.hypot((rows - 96) / 82, (columns - 96) / 66)
    hu = np.where(far < 0.9, 35, np.where(far < 1, 80, 0)).astype(float)
    hu[(far < 0.88) & (columns < 60)] = 60  # a collection at the picture's left, in the box
    hu[80:100, 120:140] = 60  # and blood that has no box
    Image.fromarray(np.rint(hu / 80 * 255).astype(np.uint8)).save(folder / "images/a.png")
    (folder / "boxes/a.txt").write_text("3 0.2 0.5 0.3 0.6\n")
    (folder / "index.csv").write_text("id,rsna_patient,rsna_scan\na,,ID_1\n")
    return far


def test_a_grown_box_loses_scalp_and_skull_and_what_is_bright_elsewhere_is_unknown(tmp_path):
    far = write_subdural_boxes(tmp_path)
    (sample,) = data.load(tmp_path, "rsna_sdh_boxes")
    assert sample.boxed and sample.patient == "rsna:sdh:ID_1"
    assert not (sample.mask[far > 0.93] == 1).any()
    assert (sample.mask[80:110, 40:55] == 1).all()
    assert (sample.mask[84:96, 124:136] == UNKNOWN).all()
    assert (sample.mask[80:100, 75:110] == 0).all()


def test_a_box_file_that_is_gone_is_named(tmp_path):
    write_subdural_boxes(tmp_path)
    (tmp_path / "rsna_sdh_boxes/boxes/a.txt").unlink()
    with pytest.raises(TrainError, match=r"boxes/a\.txt"):
        data.load(tmp_path, "rsna_sdh_boxes")


def test_slices_that_neighbours_share_are_stored_once_and_cut_alike(tmp_path):
    write_ctich(tmp_path, {"053": ("train", 3, {2})})
    first, second, third = map(augmentation.SliceStore(neighbours=True), data.load(tmp_path, "ctich"))
    assert first.below is None and third.above is None
    assert second.below is first.code and second.above is third.code and first.above is second.code
    assert np.array_equal(second.hu_with_neighbours, [first.hu, second.hu, third.hu])
    assert np.array_equal(first.hu_with_neighbours, [first.hu, first.hu, second.hu])


def make_rows(*patients, source="ctich"):
    return [
        SplitRow(source, f"{patient}_{at}", patient, "", "positive", "", "") for patient in patients for at in range(2)
    ]


def test_sides_of_an_earlier_split_are_kept_and_the_rest_is_drawn(tmp_path):
    (tmp_path / "old.csv").write_text(
        "source,name,patient,side,kind,sha256,dhash\n"
        + "".join(
            f"ctich_train,{p},{p},{side},positive,{'0' * 64},{'0' * 64}\n"
            for p, side in (("a", "validation"), ("b", "train"))
        )
    )
    table = {"root": ".", "sources": {"ctich": 1}, "validation": ["ctich"], "validation_share": 0.5}
    run = {"network": {"name": "x"}, "train": {"samples": 16}}
    drawn = set()
    for seed in range(12):
        run["train"]["seed"] = seed
        loaded = config.Config.model_validate(
            {"data": {**table, "keep_sides": "old.csv"}, **run}, context={"folder": tmp_path}
        )
        sides = {row.patient: row.side for row in split._assign_sides(make_rows("a", "b", "c", "d"), loaded)}
        assert sides["a"] == "validation" and sides["b"] == "train"
        assert sorted((sides["c"], sides["d"])) == ["train", "validation"]
        drawn.add(sides["c"])
    assert drawn == {"train", "validation"}


def test_chance_between_the_ends_of_two_stacks_does_not_make_them_one_person(monkeypatch):
    made = [*make_rows("a"), *make_rows("a"), *make_rows("b"), *make_rows("b"), *make_rows("c", source="bhsd_mini")]
    made = [
        SplitRow(r.source, r.name, r.patient, "validation" if r.patient == "a" else "train", *("",) * 3) for r in made
    ]
    pairs = []
    monkeypatch.setattr(split.leakage, "find_near_duplicates", lambda *_: pairs)
    monkeypatch.setattr(split.leakage, "unpack_dhashes", list)
    pairs[:] = [(0, 0), (1, 1)]  # two slices of b
    assert split._find_duplicates_across_sides(made, [None] * len(made)) == []
    pairs[:] = [(0, 0), (1, 1), (2, 2)]
    assert len(split._find_duplicates_across_sides(made, [None] * len(made))) == 3
    pairs[:] = [(0, 4)]  # the single slice of c
    assert split._find_duplicates_across_sides(made, [None] * len(made)) == [(0, 8)]
