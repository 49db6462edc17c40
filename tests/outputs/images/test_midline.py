"""The picture of the midline shift: what is measured is drawn where it lies, whichever way the slices are stored."""

import numpy as np
import pytest

from phantoms.results import make_planes
from strokeseg.outputs.images import midline_image
from strokeseg.outputs.images.result_images import ResultImages
from strokeseg.result import Findings, Midline, Remark
from strokeseg.scan import Scan

SIZE = 240


def make_findings(**more):
    fields = {
        "midline_shift_mm": 10.0,
        "midline_shift_side": "left",
        "midline": Midline(slice=1, front_lps_mm=(0, -40, 5), back_lps_mm=(0, 40, 5), septum_lps_mm=(10, -15, 5)),
    }
    return Findings(hemorrhage=False, confidence=None, volume_ml=0.0, **(fields | more))


def dark(across=1, down=1, step=(0, 0, 5), **more):
    """240 x 240 pixels of 0.5 mm; the middle of slice 1 is at x = 0, y = 0, z = 5, whichever way the pixels run."""
    half = (SIZE - 1) / 2 * 0.5
    first = (-half * across - step[0], -half * down - step[1], 5 - step[2])
    where = make_planes(3, step, (across, 0, 0), (0, down, 0), (0.5, 0.5), first)
    return Scan(np.full((3, SIZE, SIZE), 20, dtype=np.int16), where, **more)


def draw(scan, findings=None):
    image = midline_image.draw_midline_shift(scan, np.zeros(scan.shape, dtype=bool), findings or make_findings())
    return np.asarray(image).astype(int), image.width / (SIZE * 0.5)


def places_mm(pixels, per_mm, colour):
    """Return (x to the left, y to the back) of all that is of a colour, mm from the picture's middle."""
    near = np.abs(pixels - colour).sum(2) < 60
    near[: pixels.shape[0] // 12] = False  # the words
    rows, columns = np.nonzero(near)
    x, y = (columns + 0.5) / per_mm - SIZE / 4, (rows + 0.5) / per_mm - SIZE / 4
    return x, y


@pytest.mark.parametrize("across", [1, -1])
@pytest.mark.parametrize("down", [1, -1])
def test_the_line_and_the_septum_lie_where_they_were_measured(across, down):
    """The midline is x = 0 from y = -40 to 40; the septum is 10 mm to the left of it at y = -15."""
    pixels, per_mm = draw(dark(across, down, (0, 0, across * down * 5)))
    x, y = places_mm(pixels, per_mm, midline_image.MIDLINE_COLOUR)
    assert np.abs(x).max() < 1
    assert y.min() == pytest.approx(-40 - 3, abs=1) and y.max() == pytest.approx(40 + 3, abs=1)
    x, y = places_mm(pixels, per_mm, midline_image.SHIFT_COLOUR)
    ring_mm = SIZE * 0.5 / 90
    assert x.min() == pytest.approx(0, abs=0.6) and x.max() == pytest.approx(10 + ring_mm, abs=0.6)
    assert (y.min() + y.max()) / 2 == pytest.approx(-15, abs=0.6)


def test_a_tilted_stack_does_not_move_the_line():
    straight, _ = draw(dark())
    tilted, _ = draw(dark(step=(0, 2.5, 5)))
    assert np.array_equal(straight, tilted)


def test_without_a_shift_the_septum_is_a_ring_on_the_line():
    midline = make_findings().midline.model_copy(update={"septum_lps_mm": (0.2, -15, 5)})
    pixels, per_mm = draw(dark(), make_findings(midline=midline, midline_shift_mm=0.2, midline_shift_side=None))
    x, y = places_mm(pixels, per_mm, midline_image.SHIFT_COLOUR)
    assert np.ptp(x) < 5 and np.ptp(y) < 5


def test_sides_that_are_only_assumed_carry_a_question_mark():
    """The letters lie at three tenths of the height, at both edges; with the mark there is more of them."""

    def lettered(*remarks):
        pixels = draw(dark(remarks=remarks), make_findings(midline_shift_side=None))[0]
        row = round(pixels.shape[0] * 0.3)
        return [(pixels[row - 20 : row + 20, part].min(2) > 150).sum() for part in (slice(0, 60), slice(-60, None))]

    assumed = Remark(code="assumed-sides", severity="warning", message=".")
    assert all(np.array(lettered(assumed)) > 1.2 * np.array(lettered()))


@pytest.mark.parametrize("missing", ["midline", "midline_shift_mm"])
def test_what_was_not_measured_is_not_drawn(missing, tmp_path):
    assert list(save_keys(tmp_path, make_findings(**{missing: None}))) == ["key_1"]
    assert [path.name for path in tmp_path.iterdir()] == ["key_1.png"]


def test_the_file_has_its_name(tmp_path):
    assert save_keys(tmp_path, make_findings())["midline"] == "midline.png"
    assert (tmp_path / "midline.png").is_file()


def save_keys(folder, findings):
    scan = dark()
    labels = np.zeros(scan.shape, dtype=np.int32)
    return ResultImages(scan, labels > 0, labels, findings).save(folder, ["keys"])
