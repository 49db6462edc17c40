"""Pictures: grey levels through a window, the order of names, and no measurement without a stated spacing."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from phantoms.head_series import Geometry
from strokeseg.errors import (
    InconsistentGeometry,
    NoHounsfield,
    NotHead,
    SeveralSeries,
    TooLarge,
    UnreadableFile,
    UsageError,
)
from strokeseg.reading import limits, read_one
from strokeseg.reading.pictures import picture_file

# Brain at 32 HU, the median of real brains, by which windows are estimated.
HU = Geometry().plane_hu(9.0)
HU[HU == 35] = 32


def apply_window(window, hu=HU, top=255):
    centre, width = window
    return np.clip((hu - centre + width / 2) / width, 0, 1) * top


def save_picture(path, image, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def make_grey(window=(40.0, 80.0)):
    return np.rint(apply_window(window)).astype(np.uint8)


def collect_codes(scan):
    return {remark.code for remark in scan.remarks}


@pytest.mark.parametrize("window", [(40.0, 80.0), (40.0, 120.0), (127.5, 255.0)])
@pytest.mark.parametrize("given", [True, False])
def test_a_picture_gives_its_window_back(tmp_path, window, given):
    path = save_picture(tmp_path / "slice.png", make_grey(window))
    scan = read_one(path, window=window if given else None)
    seen = (HU >= 0) & (HU <= 79)
    assert np.abs(scan.hu[0].astype(int) - HU)[seen].max() <= 1
    assert scan.window == window and not scan.calibrated and scan.kind == "pictures"
    assert ("window-estimated" in collect_codes(scan)) != given and "uncalibrated" in collect_codes(scan)


@pytest.mark.parametrize("stated", [(600.0, 2800.0), (127.5, 255.0), (65.0, 80.0)])
def test_a_stated_window_that_no_brain_fits_is_refused(tmp_path, stated):
    """Brain through the window (40, 80) would be at 320, 102 and 57 HU."""
    path = save_picture(tmp_path / "slice.png", make_grey())
    if stated == (65.0, 80.0):
        assert "window-contradicted" in collect_codes(read_one(path, window=stated))
        return
    with pytest.raises(NoHounsfield, match="the grey levels fit centre 40, width 80"):
        read_one(path, window=stated)


@pytest.mark.parametrize("true", [(40.0, 120.0), (50.0, 100.0), (35.0, 100.0)])
def test_the_true_window_is_not_doubted(tmp_path, true):
    scan = read_one(save_picture(tmp_path / "slice.png", make_grey(true)), window=true)
    assert "window-contradicted" not in collect_codes(scan)


def test_no_millimetre_is_known_unless_given(tmp_path):
    path = save_picture(tmp_path / "slice.png", make_grey())
    scan = read_one(path)
    assert scan.pixel_spacing_mm is None and scan.weights_mm is None and not scan.spacing_known
    scan = read_one(path, spacing_mm=(5.0, 1.1, 1.05))
    assert scan.pixel_spacing_mm == (1.1, 1.05) and scan.weights_mm == pytest.approx([5.0])


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P", "LA", "CMYK"])
@pytest.mark.parametrize("ending", ["png", "tiff"])
def test_every_kind_of_grey_gives_the_same(tmp_path, mode, ending):
    if (mode, ending) == ("CMYK", "png"):
        ending = "jpg"
    image = Image.fromarray(make_grey()).convert(mode)
    scan = read_one(save_picture(tmp_path / f"slice.{ending}", image))
    tolerance = 0 if ending != "jpg" else 12
    assert (
        np.abs(scan.hu.astype(int) - read_one(save_picture(tmp_path / "plain.png", make_grey())).hu).mean() <= tolerance
    )


def test_what_is_transparent_is_black(tmp_path):
    pixels = np.stack([make_grey()] * 3 + [np.full_like(make_grey(), 255)], axis=-1)
    outside = HU < -500
    pixels[outside] = (255, 255, 255, 0)  # white, but not to be seen
    scan = read_one(save_picture(tmp_path / "slice.png", pixels))
    assert (scan.hu[0][outside] == scan.hu.min()).all()


def test_a_picture_is_turned_as_its_exif_says(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its side: a quarter turn clockwise makes it upright
    lying = Image.fromarray(make_grey()).transpose(Image.Transpose.ROTATE_90)
    scan = read_one(save_picture(tmp_path / "lying.png", lying, exif=exif))
    assert np.array_equal(scan.hu, read_one(save_picture(tmp_path / "plain.png", make_grey())).hu)


@pytest.mark.parametrize("offset", [1024, 32768])
def test_sixteen_bits_that_hold_shifted_hounsfield_units_are_read_so(tmp_path, offset):
    scan = read_one(save_picture(tmp_path / "slice.png", (HU.astype(int) + offset).astype(np.uint16)))
    assert np.array_equal(scan.hu[0], HU) and "values-as-hounsfield" in collect_codes(scan) and not scan.calibrated


def test_a_float_tiff_may_hold_hounsfield_units(tmp_path):
    scan = read_one(save_picture(tmp_path / "slice.tif", HU.astype(np.float32)))
    assert np.array_equal(scan.hu[0], HU) and "values-as-hounsfield" in collect_codes(scan)


@pytest.mark.parametrize(
    ("top", "dtype", "ending"), [(65535, np.uint16, "png"), (4095, np.uint16, "png"), (1, np.float32, "tif")]
)
def test_deep_pictures_through_a_window_are_read_as_shallow_ones(tmp_path, top, dtype, ending):
    scan = read_one(save_picture(tmp_path / f"slice.{ending}", apply_window((40.0, 80.0), top=top).astype(dtype)))
    seen = (HU >= 0) & (HU <= 80)
    assert scan.window == (40.0, 80.0) and np.abs(scan.hu[0].astype(int) - HU)[seen].max() <= 1


def test_one_scale_holds_for_a_whole_deep_stack(tmp_path):
    bright = apply_window((40.0, 80.0), top=4095).astype(np.uint16)
    save_picture(tmp_path / "1.png", bright)
    save_picture(tmp_path / "2.png", np.minimum(bright, 250).astype(np.uint16))  # a darker slice is not stretched
    scan = read_one(tmp_path, window=(40.0, 80.0))
    assert scan.hu[0].max() == 80 and scan.hu[1].max() < 10


def test_float_pictures_of_no_numbers_are_unreadable(tmp_path):
    with pytest.raises(UnreadableFile, match="not finite"):
        read_one(save_picture(tmp_path / "slice.tif", np.full((90, 90), np.nan, np.float32)))


def test_a_stack_is_in_the_natural_order_of_its_names(tmp_path):
    heights = [-30.0, -10.0, 9.0, 30.0]
    for name, z in zip(["077_2", "077_9", "077_10", "077_100"], heights, strict=True):
        save_picture(
            tmp_path / f"{name}.png", np.rint(apply_window((40.0, 80.0), Geometry().plane_hu(z))).astype(np.uint8)
        )
    scan = read_one(tmp_path)
    areas = (scan.hu == scan.hu.max()).sum(axis=(1, 2))
    assert list(areas) == [(Geometry().plane_hu(z) > 80).sum() for z in heights]
    assert "assumed-order" in collect_codes(scan)


def test_a_cat_is_no_head(tmp_path):
    rows, columns = np.mgrid[:200, :220]
    cat = np.full((200, 220, 3), (120, 170, 90), np.uint8)  # on a lawn
    cat[((rows - 110) / 60) ** 2 + ((columns - 110) / 55) ** 2 < 1] = (230, 140, 40)
    for side in (-1, 1):
        cat[(np.abs(columns - 110 - 35 * side) < (rows - 30) / 2) & (rows > 30) & (rows < 80)] = (230, 140, 40)
        cat[(rows - 100) ** 2 + (columns - 110 - 22 * side) ** 2 < 60] = (40, 160, 60)
    with pytest.raises(NotHead, match="colour"):
        read_one(save_picture(tmp_path / "cat.jpg", cat))
    with pytest.raises(NotHead):
        read_one(save_picture(tmp_path / "cat.png", Image.fromarray(cat).convert("L")))


@pytest.mark.parametrize("seed", range(4))
def test_grey_pictures_of_anything_else_are_no_heads(tmp_path, seed):
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:256, :256]
    radius = np.hypot(rows - 128, columns - 128)
    pictures = {
        "gradient": columns,
        "vignette": np.minimum(radius * 1.6, 255),
        "noise": rng.integers(0, 256, (256, 256)),
        "checks": 255 * ((rows // 16 + columns // 16) % 2),
        "text": 255 - 255 * (rng.random((32, 32)) > 0.8).repeat(8, 0).repeat(8, 1),
        "clouds": np.clip(128 + 40 * rng.standard_normal((16, 16)).repeat(16, 0).repeat(16, 1), 0, 255),
        "framed": np.where(np.maximum(abs(rows - 128), abs(columns - 128)) > 110, 255, 100),
        "black": np.zeros((256, 256)),
        "disc": np.where(radius < 90, 128, 0),
    }
    for name, values in pictures.items():
        with pytest.raises(NotHead):
            read_one(save_picture(tmp_path / f"{name}.png", values.astype(np.uint8)))


def test_a_mask_is_no_head(tmp_path):
    with pytest.raises(NotHead):
        read_one(save_picture(tmp_path / "mask.png", Image.fromarray(HU == 65)))
    with pytest.raises(NotHead):
        read_one(save_picture(tmp_path / "mask255.png", (HU == 65).astype(np.uint8) * 255))


def test_pictures_that_do_not_fit_together_are_refused(tmp_path):
    save_picture(tmp_path / "sizes/1.png", make_grey())
    save_picture(tmp_path / "sizes/2.png", make_grey()[:-1])
    with pytest.raises(InconsistentGeometry, match=r"2\.png: 160 x 179 pixels, 1\.png has 160 x 180"):
        read_one(tmp_path / "sizes")
    save_picture(tmp_path / "depths/1.png", make_grey())
    save_picture(tmp_path / "depths/2.png", make_grey().astype(np.uint16) * 257)
    with pytest.raises(InconsistentGeometry, match="depth"):
        read_one(tmp_path / "depths")


def test_images_and_masks_are_not_stacked_together(tmp_path):
    save_picture(tmp_path / "images/1.png", make_grey())
    save_picture(tmp_path / "masks/1.png", (HU == 65).astype(np.uint8) * 255)
    with pytest.raises(SeveralSeries, match=r"images \(1\), masks \(1\)") as caught:
        read_one(tmp_path)
    assert "one of these folders" in caught.value.remedy


@pytest.mark.parametrize("kind", ["8 bits", "16 bits", "float"])
def test_a_tiff_of_several_pictures_is_one_stack(tmp_path, kind):
    planes = [Geometry().plane_hu(z) for z in (-30.0, 9.0, 30.0)]
    if kind == "8 bits":
        pages = [np.rint(apply_window((40.0, 80.0), plane)).astype(np.uint8) for plane in planes]
    else:
        pages = [(plane.astype(int) + 1024 * (kind == "16 bits")) for plane in planes]
        pages = [page.astype(np.uint16 if kind == "16 bits" else np.float32) for page in pages]
    first, *rest = [Image.fromarray(page) for page in pages]
    first.save(tmp_path / "stack.tif", save_all=True, append_images=rest)
    window = (40.0, 80.0) if kind == "8 bits" else None
    scan = read_one(tmp_path / "stack.tif", window=window, spacing_mm=(5.0, 1.1, 1.05))
    assert scan.shape[0] == 3 and "assumed-order" in collect_codes(scan)
    for hu, plane in zip(scan.hu, planes, strict=True):
        seen = (plane >= 0) & (plane <= 79)
        assert np.abs(hu.astype(int) - plane)[seen].max() <= 1


def test_stacks_beside_each_other_are_several_series(tmp_path):
    image = Image.fromarray(make_grey())
    for name in ("a", "b"):
        image.save(tmp_path / f"{name}.tif", save_all=True, append_images=[image])
    with pytest.raises(SeveralSeries, match="holds 2 pictures, beside 1 other"):
        read_one(tmp_path)


def test_a_moving_picture_is_refused(tmp_path):
    image = Image.fromarray(make_grey())
    image.save(tmp_path / "stack.webp", save_all=True, append_images=[Image.fromarray(make_grey()[::-1])])
    with pytest.raises(UnreadableFile, match="several pictures"):
        read_one(tmp_path / "stack.webp")


def test_writing_beside_the_head_is_warned_of(tmp_path):
    image = Image.fromarray(make_grey()).resize((320, 360))
    scan = read_one(save_picture(tmp_path / "plain.png", image))
    assert "burnt-in-text" not in collect_codes(scan)
    ImageDraw.Draw(image).text((4, 4), "W 80 L 40  SE 3 IM 17", fill=255)
    scan = read_one(save_picture(tmp_path / "written.png", image))
    [remark] = [remark for remark in scan.remarks if remark.code == "burnt-in-text"]
    assert remark.severity == "warning" and remark.slices == [0] and "characters on a line" in remark.message


def test_a_coloured_line_is_warned_of_with_its_share(tmp_path):
    image = Image.fromarray(make_grey()).convert("RGB")
    ImageDraw.Draw(image).line((60, 80, 100, 80), fill=(255, 0, 0), width=3)
    scan = read_one(save_picture(tmp_path / "drawn.png", image))
    [remark] = [remark for remark in scan.remarks if remark.code == "coloured-overlay"]
    share = 41 * 3 / HU.size
    assert f"{share:.2%}" in remark.message and remark.slices == [0]
    assert "coloured-overlay" not in collect_codes(
        read_one(save_picture(tmp_path / "grey.png", Image.fromarray(make_grey()).convert("RGB")))
    )


@pytest.mark.parametrize(
    "options", [{"window": (40.0, 0.0)}, {"window": (40.0, float("nan"))}, {"spacing_mm": (5.0, 0.0, 1.0)}]
)
def test_options_that_cannot_be_are_wrong_usage(tmp_path, options):
    path = save_picture(tmp_path / "slice.png", make_grey())
    with pytest.raises(UsageError) as caught:
        read_one(path, **options)
    assert caught.value.exit_code == 2


def test_no_postscript_is_run_whatever_it_is_named(tmp_path, monkeypatch):
    (tmp_path / "slice.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 90 90\n%%EndComments\nshowpage\n"
    )
    started = []
    monkeypatch.setattr(
        "PIL.EpsImagePlugin.Ghostscript", lambda *_, **__: started.append(1) or Image.new("L", (90, 90))
    )
    with pytest.raises(UnreadableFile):
        read_one(tmp_path / "slice.png")
    assert not started


def test_another_size_is_seen_before_it_is_decoded(tmp_path):
    """The second picture is damaged: its size is read from its header, its pixels are never decoded."""
    save_picture(tmp_path / "1.png", make_grey())
    path = save_picture(tmp_path / "2.png", np.zeros((2000, 3000), np.uint8))
    path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(InconsistentGeometry, match="3000 x 2000"):
        read_one(tmp_path)


def test_every_page_of_a_tiff_is_held_against_the_bounds_before_one_is_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(picture_file, "_convert_picture", lambda *_: pytest.fail("was decoded"))
    small, wide = Image.new("L", (90, 90)), Image.new("L", (5000, 5000))
    small.save(tmp_path / "wide.tif", save_all=True, append_images=[wide], compression="tiff_lzw")
    with pytest.raises(TooLarge, match="5000 x 5000"):
        read_one(tmp_path / "wide.tif")
    small.save(tmp_path / "other.tif", save_all=True, append_images=[Image.new("L", (91, 91))])
    with pytest.raises(InconsistentGeometry):
        read_one(tmp_path / "other.tif")
    small.save(tmp_path / "many.tif", save_all=True, append_images=[small] * 5)
    monkeypatch.setattr(picture_file, "_MAX_PAGES", 5)
    with pytest.raises(TooLarge, match="more than 5 pictures"):
        read_one(tmp_path / "many.tif")
    small.save(tmp_path / "few.tif", save_all=True, append_images=[small] * 2)
    monkeypatch.setattr(limits, "MAX_READING_BYTES", 90 * 90 * (28 + 4 * 2))
    with pytest.raises(TooLarge, match="at most 2 of this size are read in all"):
        read_one(tmp_path / "few.tif")
