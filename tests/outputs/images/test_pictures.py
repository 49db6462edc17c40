import io

import numpy as np
import pytest
from PIL import Image

from phantoms.results import make_planes, make_report_images, make_scan
from strokeseg.outputs.images import slice_images
from strokeseg.scan import Scan


def dark_scan(where, rows=64, columns=72):
    """All at 20 HU, a quarter grey in the brain window."""
    return Scan(np.full((len(where.positions_mm), rows, columns), 20, dtype=np.int16), where)


def bright_centre(image):
    """Return the centre (x, y) of what is white, as fractions of the picture, 0..1."""
    grey = np.asarray(image.convert("L")).astype(int)
    rows, columns = np.nonzero(grey > 250)
    return (columns.mean() + 0.5) / image.width, (rows.mean() + 0.5) / image.height


@pytest.mark.parametrize("across", [1, -1])
@pytest.mark.parametrize("down", [1, -1])
def test_left_is_on_the_right_and_the_face_above(across, down):
    where = make_planes(
        3, (0, 0, across * down * 5), row_cosine=(across, 0, 0), column_cosine=(0, down, 0), at=(0, 0, 0)
    )
    scan = dark_scan(where, 60, 80)
    # A marker at the patient's left (+x) and front (-y), found by position, whatever way the pixels run.
    x, y = np.arange(80) * 0.5 * across, np.arange(60) * 0.5 * down
    left, front = x > x.min() + 0.8 * np.ptp(x), y < y.min() + 0.2 * np.ptp(y)
    scan.hu[1][np.ix_(front, left)] = 200
    image = slice_images.draw_key_slice(scan, np.zeros(scan.shape, dtype=bool), 1)
    at = bright_centre(image)
    assert at[0] == pytest.approx(0.9, abs=0.02) and at[1] == pytest.approx(0.1, abs=0.02)


def test_outline_runs_around_the_mask_and_not_into_it():
    scan = dark_scan(make_planes(3, (0, 0, 5)), 512, 600)
    mask = np.zeros(scan.shape, dtype=bool)
    mask[1, 100:140, 400:460] = True
    plain = np.asarray(slice_images.draw_key_slice(scan, np.zeros_like(mask), 1)).astype(int)
    image_pixels = np.asarray(slice_images.draw_key_slice(scan, mask, 1)).astype(int)
    changed = np.abs(image_pixels - plain).max(2) > 12
    rows, columns = np.nonzero(changed)
    assert (rows.min(), rows.max()) == pytest.approx((99, 140), abs=1)
    assert (columns.min(), columns.max()) == pytest.approx((399, 460), abs=1)
    assert not changed[102:138, 402:458].any()
    assert 0.7 < changed.sum() / (2 * (40 + 60)) < 2.5  # about one pixel thin
    yellow = image_pixels[changed]
    assert (yellow[:, 0] > yellow[:, 2]).all()


def test_small_pictures_grow_and_oblong_pixels_keep_their_shape():
    scan = dark_scan(make_planes(1, (0, 0, 5), spacing_mm=(1.0, 0.5)), 100, 160)
    image = slice_images.draw_key_slice(scan, np.zeros(scan.shape, dtype=bool), 0)
    assert min(image.size) >= 512
    assert image.width / image.height == pytest.approx(160 * 0.5 / (100 * 1.0), rel=0.01)


def test_outline_follows_the_mask_in_enlarged_pictures():
    scan = dark_scan(make_planes(1, (0, 0, 5), row_cosine=(-1, 0, 0)), 64, 128)
    mask = np.zeros(scan.shape, dtype=bool)
    mask[0, 16:32, 96:112] = True
    (picture,) = slice_images.draw_report_slices(scan, mask).slices
    assert picture.size == (1024, 512)
    (line,) = picture.outlines
    # Columns run to the right here, so 96..111 is seen at (128 - 112) * 8 = 128 to 256; half a pixel of 8 around it.
    np.testing.assert_allclose(line.min(0), (128, 128), atol=4.5)
    np.testing.assert_allclose(line.max(0), (256, 256), atol=4.5)
    assert (line.min(0) < (128, 128)).all() and (line.max(0) > (256, 256)).all()
    assert (line[0] == line[-1]).all()


def test_key_pictures_show_each_lesion_where_it_is_largest(tmp_path):
    scan = make_scan(make_planes(9, (0, 0, 5)))
    labels = np.zeros(scan.shape, dtype=np.int32)
    for number in range(1, 8):
        labels[number, :4, : 20 - number] = number
        labels[number - 1, :2, : 20 - number] = number if number == 1 else labels[number - 1, :2, : 20 - number]
    files = make_report_images(scan, labels).save(tmp_path, ("keys",))
    assert list(files.values()) == [f"key_{number}.png" for number in range(1, 6)]
    assert sorted(path.name for path in tmp_path.iterdir()) == list(files.values())
    expected = slice_images.draw_key_slice(scan, labels > 0, 3)
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "key_3.png")), np.asarray(expected))


def test_without_bleeding_the_middle_slice_is_the_key_picture(tmp_path):
    scan = dark_scan(make_planes(5, (0, 0, 5)))
    scan.hu[2, :32] = 200
    empty = np.zeros(scan.shape, dtype=bool)
    assert make_report_images(scan, empty).save(tmp_path, ("keys",)) == {"key_1": "key_1.png"}
    assert bright_centre(Image.open(tmp_path / "key_1.png"))[1] == pytest.approx(0.25, abs=0.02)


def test_report_shows_every_slice_with_bleeding_up_to_a_bound():
    scan = dark_scan(make_planes(100, (0, 0, 1)), 16, 16)
    mask = np.zeros(scan.shape, dtype=bool)
    mask[10:30, 4:8, 4:8] = True
    shown = slice_images.draw_report_slices(scan, mask)
    assert [one.index for one in shown.slices] == list(range(10, 30)) and shown.positive_count == 20
    mask[:90, 4:8, 4:8] = True
    shown = slice_images.draw_report_slices(scan, mask)
    assert len(shown.slices) == slice_images.MAX_REPORT_SLICES and shown.positive_count == 90
    assert (shown.slices[0].index, shown.slices[-1].index) == (0, 89)
    shown = slice_images.draw_report_slices(scan, mask & False)
    assert [one.index for one in shown.slices] == [8, 25, 41, 58, 75, 91]
    assert Image.open(io.BytesIO(shown.slices[0].jpeg)).mode == "L"
