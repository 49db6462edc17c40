"""The picture of all slices, and the three planes, by markers that are placed by their LPS positions."""

import numpy as np
import pytest

from phantoms.results import make_planes as even
from phantoms.results import mark_ball
from strokeseg.outputs.images import montage, orthogonal_planes
from strokeseg.result import Remark
from strokeseg.scan import Planes, Scan

TILT = np.radians(20)
# Each about the origin: the head is a ball there.
GRIDS = {
    "thick": even(30, (0, 0, 5), at=(-79.75, -79.75, -72.5), spacing_mm=(0.5, 0.5)),
    "flipped": even(30, (0, 0, 5), (-1, 0, 0), (0, -1, 0), (0.5, 0.5), at=(79.75, 79.75, -72.5)),
    "tilted": even(
        36, (0, 0, 4.2), column_cosine=(0, np.cos(TILT), -np.sin(TILT)), at=(-79.75, -80 * np.cos(TILT), -45)
    ),
    "oblong-pixels": even(30, (0, 0, 5), at=(-79.75, -79.6, -72.5), spacing_mm=(0.8, 0.5)),
}
UNEVEN = np.concatenate([np.arange(-70, 0, 2.5), np.arange(0, 72, 5.0)])
GRIDS["uneven"] = Planes(
    np.column_stack([np.full((len(UNEVEN), 2), -79.75), UNEVEN]),
    np.array([1.0, 0, 0]),
    np.array([0, 1.0, 0]),
    (0.5, 0.5),
)
ROWS = {"oblong-pixels": 200}


def head(name, **fields):
    """A ball of brain (36 HU) in a shell of bone (1000 HU) in air."""
    grid = GRIDS[name]
    scan = Scan(np.full((len(grid.positions_mm), ROWS.get(name, 320), 320), -1000, np.int16), grid, **fields)
    scan.hu[mark_ball(scan, (0, 0, 0), 66)] = 1000
    scan.hu[mark_ball(scan, (0, 0, 0), 60)] = 36
    return scan


def lesion_of(scan, centre, radius):
    mask = mark_ball(scan, centre, radius)
    scan.hu[mask] = 62
    return mask


def yellow(picture):
    picture = np.asarray(picture.convert("RGB")).astype(int)
    return (picture[..., 0] > picture[..., 2] + 70) & (picture[..., 1] > picture[..., 2] + 40)


def tiles(picture, count):
    """Cut a montage of squares into its tiles: two black pixels lie between them."""
    for across in range(1, count + 1):
        width = (picture.width + 2) / across - 2
        down = -(-count // across)
        height = (picture.height + 2) / down - 2
        if abs(width - height) < 4:
            return [
                picture.crop(
                    (
                        round(x * (width + 2)),
                        round(y * (height + 2)),
                        *(round(v) for v in (x * (width + 2) + width, y * (height + 2) + height)),
                    )
                )
                for y in range(down)
                for x in range(across)
            ][:count]
    raise AssertionError("no grid of squares")


@pytest.mark.parametrize("name", ["thick", "flipped"])
def test_every_slice_is_there_in_order_with_left_on_the_right(name):
    scan = head(name)
    # A bleed at the patient's left front, on slices 10 to 14 alone.
    mask = lesion_of(scan, (25, -20, -10), 12)
    slices = np.flatnonzero(mask.any((1, 2)))
    parts = tiles(montage.draw_montage(scan, mask), len(scan.hu))
    sizes = []
    for index, part in enumerate(parts):
        inner = part.crop((part.width // 5, part.height // 5, part.width, 4 * part.height // 5))
        # Below the number there is yellow only where there is bleeding.
        assert yellow(inner).any() == (index in slices)
        sizes.append((np.asarray(part.convert("L")) > 230).sum())
        if index in slices[1:-1]:
            rows, columns = np.nonzero(yellow(inner))
            assert columns.mean() / part.width + 0.2 > 0.58 and rows.mean() / part.height + 0.2 < 0.45
            # 62 HU is grey 198: what is bright lies where the outline is.
            grey = np.asarray(inner.convert("RGB")).astype(int)
            bright = np.argwhere((np.abs(grey - 198) < 8).all(-1))
            np.testing.assert_allclose(bright.mean(0), (rows.mean(), columns.mean()), atol=4)
    # The bone's ring is large in the middle of the stack and small at its ends: the slices are in their order.
    assert np.argmin(sizes) in (0, 29) and sizes[0] < sizes[8] and sizes[29] < sizes[21]
    # Every number is another, yellow where there is bleeding and else not.
    assert len({part.crop((0, 0, part.width // 5, part.height // 8)).tobytes() for part in parts}) == len(parts)
    for index, part in enumerate(parts):
        corner = part.crop((0, 0, part.width // 5, part.height // 8))
        assert yellow(corner).any() == (index in slices)
        assert (np.asarray(corner.convert("L")) > 150).any()


def test_sides_are_lettered_and_doubted_where_assumed():
    stated = head("thick")
    assumed = stated.with_remarks(Remark(code="assumed-sides", severity="info", message="assumed"))
    pictures = []
    for scan in (stated, assumed):
        pictures.append(montage.draw_montage(scan, np.zeros(scan.shape, bool)).convert("L"))
    for one, other in zip(*(tiles(picture, 30) for picture in pictures), strict=True):
        changed = np.abs(np.asarray(one).astype(int) - np.asarray(other)) > 60
        rows, columns = np.nonzero(changed)
        assert (columns < one.width / 4).any() and (columns > 3 * one.width / 4).any()
        assert np.abs(rows / one.height - 0.5).max() < 0.1


def test_head_fills_the_tiles_and_the_head_rest_does_not_count():
    scan = head("thick")
    scan.hu[:, 300:306, 20:300] = 200  # a thin board behind the head
    top, bottom, left, right = montage.find_head_box(scan, np.zeros(scan.shape, bool))
    for first, end in ((top, bottom), (left, right)):
        # 66 mm in pixels of 0.5 mm about 159.5; some margin.
        assert 159.5 - 132 - 40 < first <= 159.5 - 132 and 159.5 + 132 < end + 0.5 < 159.5 + 132 + 40
    mask = np.zeros(scan.shape, bool)
    mask[3, 318, 5] = True
    box = montage.find_head_box(scan, mask)
    assert box[1] >= 319 and box[2] <= 5
    nothing = Scan(np.full((3, 50, 60), -1000, np.int16), even(3, (0, 0, 5)))
    assert montage.find_head_box(nothing, np.zeros(nothing.shape, bool)) == (0, 50, 0, 60)


@pytest.mark.parametrize("count", [1, 2, 7, 150])
def test_any_number_of_slices_makes_one_picture(count):
    scan = Scan(np.full((count, 40, 52), 36, np.int16), even(count, (0, 0, 1)))
    picture = montage.draw_montage(scan, np.zeros(scan.shape, bool))
    assert picture.width <= 2200 and picture.height <= 2200
    # 36 HU is grey 115 in the brain window: so many tiles show it.
    grey = np.abs(np.asarray(picture.convert("L")).astype(int) - 115) < 4
    assert grey.mean() > 0.6


@pytest.mark.parametrize("name", GRIDS)
def test_indices_lead_back_to_where_a_place_was(name):
    grid = GRIDS[name]
    random = np.random.default_rng(3)
    at = random.uniform((0, -20, -20), (len(grid.positions_mm) - 1, 400, 400), (200, 3))
    np.testing.assert_allclose(orthogonal_planes.lps_to_indices(grid, grid.to_lps_mm(at)), at, atol=1e-6)
    # Half a slice beyond the ends there is nothing.
    outside = grid.to_lps_mm([(-0.45, 5, 5), (-0.6, 5, 5), (len(grid.positions_mm) - 0.4, 5, 5)])
    assert np.isnan(orthogonal_planes.lps_to_indices(grid, outside)).any(1).tolist() == [False, True, True]


def test_nothing_is_seen_where_slices_are_missing():
    whole = even(12, (0, 0, 5))
    present = [0, 1, 2, 3, 8, 9, 10, 11]
    grid = Planes(whole.positions_mm[present], whole.row_cosine, whole.column_cosine, (0.5, 0.5))
    heights = np.array([0, 12, 15, 17, 20, 27.5, 36, 40, 55])  # mm above the lowest
    indices = orthogonal_planes.lps_to_indices(grid, whole.positions_mm[0] + heights[:, None] * np.array([0, 0, 1.0]))
    # Slices lie at 0 to 15 and 40 to 55 mm; at the gap each reaches at most 0.75 of a step, 3.75 mm, and half of that
    # to each side as `weights_mm` has it.
    assert np.isnan(indices).any(1).tolist() == [False, False, False, False, True, True, True, False, False]


def panel_spots(picture, scan, mask):
    """Where the outlined bleed is in each of the three panels: (x, y, width, height), pixels."""
    marked = yellow(picture)
    columns = np.flatnonzero(marked.any(0))
    groups = np.split(columns, np.flatnonzero(np.diff(columns) > 60) + 1)
    assert len(groups) == 3
    spots = []
    for group in groups:
        rows = np.flatnonzero(marked[:, group[0] : group[-1] + 1].any(1))
        spots.append(((group[0] + group[-1]) / 2, (rows[0] + rows[-1]) / 2, np.ptp(group) + 1, np.ptp(rows) + 1))
    return spots


@pytest.mark.parametrize("name", GRIDS)
def test_a_ball_is_a_circle_in_all_three_planes(name):
    scan = head(name)
    mask = lesion_of(scan, (12, -10, 8), 20)
    (picture,) = orthogonal_planes.draw_lesion_planes(scan, mask.astype(np.int32))
    sizes = np.array([spot[2:] for spot in panel_spots(picture, scan, mask)], float)
    # One scale for all, and no plane stretched; a slice thick or thin at the ends along the stack.
    across = sizes[0].mean()
    step = float(np.abs(np.diff(GRIDS[name].along_normal_mm)).max()) / 40
    assert sizes[0, 0] == pytest.approx(sizes[0, 1], rel=0.06)
    for width, height in sizes[1:]:
        assert width == pytest.approx(across, rel=0.08)
        assert height == pytest.approx(across, rel=0.06 + step)


@pytest.mark.parametrize("name", ["thick", "flipped", "tilted", "uneven"])
def test_left_is_on_the_right_the_face_to_the_left_and_the_vertex_above(name):
    scan = head(name)
    place = np.array((25, -22, 20))
    mask = lesion_of(scan, place, 14)
    (images,) = orthogonal_planes.draw_lesion_planes(scan, mask.astype(np.int32))
    picture = images.convert("L")
    bone = np.asarray(picture) > 250
    columns = np.flatnonzero(bone.sum(0) > 3)
    panels = np.split(columns, np.flatnonzero(np.diff(columns) > 8) + 1)
    panels = [part for part in panels if np.ptp(part) > 60]
    spots = panel_spots(images, scan, mask)
    for number, ((x, y, _, _), part) in enumerate(zip(spots, panels, strict=True)):
        rows = np.flatnonzero(bone[:, part[0] : part[-1] + 1].sum(1) > 3)
        right, down = x > part.mean(), y > (rows[0] + rows[-1]) / 2
        # Axial: left is right, the face above. Coronal: left is right, up. Sagittal: the face is left, up.
        assert (right, down) == [(True, False), (True, False), (False, False)][number]


def test_planes_go_through_the_thickest_place_of_a_crescent():
    # The middle of a crescent lies outside of it.
    scan = head("thick")
    crescent = mark_ball(scan, (0, 0, 0), 60) & ~mark_ball(scan, (-18, 0, 0), 56)
    index, row, column = orthogonal_planes._find_deepest_pixel(crescent)
    assert crescent[index, row, column]
    assert scan.planes.to_lps_mm([(index, row, column)])[0][0] > 35


def test_scale_is_a_bar_or_said_to_be_unknown():
    images = []
    for is_known in (True, False):
        scan = head("thick", spacing_known=is_known)
        images += orthogonal_planes.draw_lesion_planes(scan, mark_ball(scan, (0, 0, 0), 20).astype(np.int32))
    known, unknown = (np.asarray(picture.convert("L")).astype(int) for picture in images)
    assert (np.abs(known - unknown)[:-60] < 5).all()
    assert (np.abs(known - unknown)[-60:] > 80).any()
    bar = max(
        (
            np.ptp(run) + 1
            for row in known[-60:]
            for run in np.split(np.flatnonzero(row > 190), np.flatnonzero(np.diff(np.flatnonzero(row > 190)) > 1) + 1)
            if run.size
        ),
        default=0,
    )
    # The head's shell, 132 mm across, gives the scale.
    rows = np.flatnonzero((known[60:-60, :] > 250).sum(1) > 3)
    head_px = np.ptp(np.flatnonzero((known[60:-60, : known.shape[1] // 3] > 250).any(0))) + 1
    assert rows.size and bar == pytest.approx(50 * head_px / 132, rel=0.06)


def test_no_bleeding_shows_the_middle_and_five_lesions_are_the_most():
    scan = head("thick")
    labels = np.zeros(scan.shape, np.int32)
    (whole,) = orthogonal_planes.draw_lesion_planes(scan, labels)
    assert not yellow(whole).any()
    for number in range(1, 8):
        labels[number + 5, 150:170, 40 * number : 40 * number + 20] = number
    assert len(orthogonal_planes.draw_lesion_planes(scan, labels)) == 5


@pytest.mark.parametrize("shape", [(1, 8, 9), (2, 1, 1), (1, 1, 300)])
def test_odd_shapes_make_pictures(shape):
    scan = Scan.from_array(np.full(shape, 36), (5, 1, 1))
    for mask in (np.zeros(shape, bool), np.ones(shape, bool)):
        for picture in (
            montage.draw_montage(scan, mask),
            *orthogonal_planes.draw_lesion_planes(scan, mask.astype(np.int32)),
        ):
            assert picture.size > (0, 0)
