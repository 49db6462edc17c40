from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from data_sets import find_data_set
from phantoms.shapes import assert_closed, make_planes, make_scan, mark_ellipsoid, measure_volume_mm3
from strokeseg.scan import Planes
from strokeseg.surfaces import build_scene

EVEN = np.arange(24) * 2.5
GRIDS = {
    "thin": make_planes(np.arange(60) * 1.0, (0.7, 0.7)),
    "usual": make_planes(EVEN, (0.5, 0.5)),
    "thick": make_planes(np.arange(12) * 5.0, (0.45, 0.45)),
    "oblong-pixels": make_planes(EVEN, (0.9, 0.5)),
    "tilted": make_planes(EVEN, (0.5, 0.5), tilt_deg=22),
    "tilted-other-way": make_planes(EVEN, (0.5, 0.5), tilt_deg=-30, column=(0, 0.9, -(0.19**0.5))),
    "uneven": make_planes([*np.arange(0, 30, 2.5), *np.arange(30, 62, 5.0)], (0.5, 0.5)),
    "columns-to-the-right": make_planes(EVEN, (0.5, 0.5), row=(-1, 0, 0)),
    "both-flipped": make_planes(EVEN, (0.5, 0.5), row=(-1, 0, 0), column=(0, -1, 0)),
}


def middle(grid: Planes, shape: tuple[int, int]) -> np.ndarray:
    """Return the centre of the stack, LPS mm."""
    rows, columns = (shape[0] - 1) / 2 * grid.pixel_spacing_mm[0], (shape[1] - 1) / 2 * grid.pixel_spacing_mm[1]
    return grid.positions_mm.mean(0) + rows * grid.column_cosine + columns * grid.row_cosine


@pytest.mark.parametrize("name", GRIDS)
def test_sphere_keeps_its_volume_and_place(name: str) -> None:
    grid, shape = GRIDS[name], (120, 130)
    centre = middle(grid, shape) + np.array([0.3, -0.7, 0.4])
    mask = mark_ellipsoid(grid, shape, centre, (17, 17, 17))
    (lesion,) = build_scene(make_scan(grid, shape), mask.astype(np.int32)).lesions
    closed = assert_closed(lesion)
    assert closed.volume == pytest.approx(measure_volume_mm3(mask, grid), rel=0.02)
    assert closed.volume == pytest.approx(4 / 3 * np.pi * 17**3, rel=0.03)
    along = grid.positions_mm @ np.cross(grid.row_cosine, grid.column_cosine)
    assert np.linalg.norm(closed.center_mass - centre) < max(np.diff(along).max(), *grid.pixel_spacing_mm) / 2
    # Every vertex lies near the sphere: no staircase, no spikes.
    away = np.linalg.norm(lesion.vertices_mm - centre, axis=1) - 17
    assert np.abs(away).max() < np.diff(along).max()
    assert np.sqrt((away**2).mean()) < 0.2 * np.diff(along).max() + 0.2
    assert closed.body_count == 1
    assert 500 < len(lesion.faces) <= 6000


def test_thick_slices_leave_no_staircase() -> None:
    # A steep ellipsoid: with steps, its walls would be vertical and its ledges flat.
    grid, shape = make_planes(np.arange(14) * 5.0, (0.5, 0.5)), (140, 140)
    centre = middle(grid, shape)
    mask = mark_ellipsoid(grid, shape, centre, (28, 28, 30))
    (lesion,) = build_scene(make_scan(grid, shape), mask.astype(np.int32)).lesions
    closed = assert_closed(lesion)
    outward = closed.triangles_center - centre
    exact = outward / np.array([28, 28, 30]) ** 2
    exact /= np.linalg.norm(exact, axis=1, keepdims=True)
    cosine = (exact * closed.face_normals).sum(1)
    assert np.average(cosine, weights=closed.area_faces) > 0.97
    assert closed.area_faces[cosine < 0.7].sum() < 0.03 * closed.area


@pytest.mark.parametrize("half_mm", [(8, 6, 7), (12, 3, 14), (5, 5, 9)])
@pytest.mark.parametrize("step_mm", [1.0, 3.0, 5.0])
def test_small_ellipsoid_has_the_volume_of_its_pixels(half_mm: tuple[float, float, float], step_mm: float) -> None:
    grid, shape = make_planes(np.arange(0, 40, step_mm), (0.45, 0.45)), (90, 90)
    mask = mark_ellipsoid(grid, shape, middle(grid, shape), half_mm)
    (lesion,) = build_scene(make_scan(grid, shape), mask.astype(np.int32)).lesions
    assert assert_closed(lesion).volume == pytest.approx(measure_volume_mm3(mask, grid), rel=0.02)


@pytest.mark.parametrize("side", [1, 2, 3, 5])
@pytest.mark.parametrize("slices", [1, 2])
def test_tiny_lesion_is_closed_and_true(side: int, slices: int) -> None:
    grid, shape = make_planes(np.arange(8) * 5.0, (0.45, 0.45)), (40, 40)
    mask = np.zeros((8, *shape), bool)
    mask[3 : 3 + slices, 20 : 20 + side, 11 : 11 + side] = True
    (lesion,) = build_scene(make_scan(grid, shape), mask.astype(np.int32)).lesions
    closed = assert_closed(lesion)
    assert closed.volume == pytest.approx(measure_volume_mm3(mask, grid), rel=0.05)
    place = np.argwhere(mask).mean(0)
    truth = grid.positions_mm[0] + (place[2] * 0.45, place[1] * 0.45, place[0] * 5)
    assert_allclose(closed.center_mass, truth, atol=0.25)


@pytest.mark.parametrize("alone", [False, True])
def test_lesion_on_one_slice_is_a_slab_as_thick_as_the_slice(alone: bool) -> None:
    grid, shape = make_planes([0.0] if alone else np.arange(9) * 5.0, (0.5, 0.5)), (100, 100)
    centre = middle(grid, shape)
    mask = mark_ellipsoid(grid, shape, centre, (15, 12, 1.0))
    (lesion,) = build_scene(make_scan(grid, shape), mask.astype(np.int32)).lesions
    closed = assert_closed(lesion)
    assert closed.volume == pytest.approx(measure_volume_mm3(mask, grid), rel=0.02)
    assert closed.extents[2] == pytest.approx(5, rel=0.1)
    assert_allclose(closed.center_mass, centre, atol=0.1)
    flat = np.abs(closed.face_normals[:, 2]) > 0.999
    assert closed.area_faces[flat].sum() > 1.6 * np.pi * 13 * 10


def test_slab_thickness_follows_uneven_spacing() -> None:
    grid, shape = make_planes([0, 3, 6, 9, 15, 21], (0.5, 0.5)), (60, 60)
    mask = np.zeros((6, *shape), bool)
    mask[3, 10:50, 15:45] = True
    closed = assert_closed(build_scene(make_scan(grid, shape), mask.astype(np.int32)).lesions[0])
    assert_allclose(closed.bounds[:, 2], (50 + 7.5, 50 + 12), atol=0.35)
    assert closed.volume == pytest.approx(40 * 30 * 0.25 * 4.5, rel=0.02)


def test_every_lesion_at_its_place_in_the_order_of_ids() -> None:
    grid, shape = make_planes(EVEN, (0.5, 0.5)), (120, 120)
    first, second = middle(grid, shape) - np.array([14, 5, 6]), middle(grid, shape) + np.array([13, 9, 8])
    labels = 2 * mark_ellipsoid(grid, shape, first, (7, 7, 7)) + mark_ellipsoid(grid, shape, second, (9, 9, 9))
    meshes = build_scene(make_scan(grid, shape), labels.astype(np.int32)).lesions
    assert len(meshes) == 2
    assert_allclose(assert_closed(meshes[0]).center_mass, second, atol=0.6)
    assert_allclose(assert_closed(meshes[1]).center_mass, first, atol=0.6)
    # Where they touch, neither loses volume to the other.
    labels = np.zeros(labels.shape, np.int32)
    labels[5:12, 30:60, 30:60], labels[5:12, 30:60, 60:90] = 1, 2
    left, right = (assert_closed(mesh) for mesh in build_scene(make_scan(grid, shape), labels).lesions)
    assert left.volume == pytest.approx(right.volume, rel=0.01) == pytest.approx(7 * 2.5 * 225, rel=0.01)


def test_lesion_at_the_edge_of_the_volume_is_closed() -> None:
    grid, shape = make_planes(EVEN, (0.5, 0.5)), (80, 80)
    corner = grid.positions_mm[0]
    mask = mark_ellipsoid(grid, shape, corner, (20, 20, 20))
    (lesion,) = build_scene(make_scan(grid, shape), mask.astype(np.int32)).lesions
    closed = assert_closed(lesion)
    assert closed.volume == pytest.approx(measure_volume_mm3(mask, grid), rel=0.02)
    assert closed.bounds[0, 2] == pytest.approx(50 - 1.25, abs=0.3)
    assert_allclose(closed.bounds[0, :2], corner[:2] - 0.25, atol=0.5)


def test_lesion_over_missing_slices_leaves_the_gap_open() -> None:
    places = [*np.arange(0, 20, 2.5), *np.arange(32.5, 50, 2.5)]
    grid, shape = make_planes(places, (0.5, 0.5)), (60, 60)
    assert grid.gaps_with_missing_slices.sum() == 1
    mask = np.zeros((len(places), *shape), bool)
    mask[4:12, 20:40, 20:40] = True
    (lesion,) = build_scene(make_scan(grid, shape), mask.astype(np.int32)).lesions
    closed = assert_closed(lesion)
    assert closed.body_count == 2
    # 4 slices below and 4 above; those at the gap extend 0.75 x 2.5 mm into it.
    assert closed.volume == pytest.approx(100 * (20 + 2 * 0.625), rel=0.02)
    heights = lesion.vertices_mm[:, 2] - 50
    assert not ((heights > 17.5 + 1.875 + 0.3) & (heights < 32.5 - 1.875 - 0.3)).any()


def test_no_lesion_gives_no_mesh_and_a_missing_id_an_empty_one() -> None:
    grid, shape = make_planes(EVEN, (0.5, 0.5)), (40, 40)
    labels = np.zeros((24, *shape), np.int32)
    assert build_scene(make_scan(grid, shape), labels).lesions == ()
    labels[4:9, 10:20, 10:20] = 2
    empty, lesion = build_scene(make_scan(grid, shape), labels).lesions
    assert len(empty.faces) == 0
    assert_closed(lesion)


def test_twice_the_same_bits() -> None:
    grid, shape = GRIDS["tilted"], (100, 100)
    labels = mark_ellipsoid(grid, shape, middle(grid, shape), (12, 9, 11)).astype(np.int32)
    first, second = (build_scene(make_scan(grid, shape), labels).lesions[0] for _ in range(2))
    assert np.array_equal(first.vertices_mm, second.vertices_mm) and np.array_equal(first.faces, second.faces)


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="labels"):
        build_scene(make_scan(make_planes(EVEN, (0.5, 0.5)), (40, 40)), np.zeros((24, 40, 41), np.int32))


@pytest.mark.parametrize("every", [1, 5])
def test_real_lesions_keep_their_volume(every: int) -> None:
    path = find_data_set("lesion_labels_3d/scan_0_segmentation.nii.gz")
    import nibabel

    image = nibabel.load(path)
    # Voxels are 1 mm; the axes of the file are (x, y, z).
    volume = np.rint(np.asanyarray(image.dataobj)).astype(np.int32).transpose(2, 1, 0)[::every]
    labels = np.zeros_like(volume)
    for number, value in enumerate((1, 2, 4), start=1):
        labels[volume == value] = number
    grid = make_planes(np.arange(len(labels)) * float(every), (1.0, 1.0))
    meshes = build_scene(make_scan(grid, labels.shape[1:]), labels).lesions
    assert len(meshes) == 3
    for number, mesh in enumerate(meshes, start=1):
        closed = assert_closed(mesh)
        assert closed.volume == pytest.approx(measure_volume_mm3(labels == number, grid), rel=0.02)
        assert len(mesh.faces) <= 10_000
        place = np.argwhere(labels == number).mean(0)
        truth = grid.positions_mm[0] + (place[2], place[1], place[0] * every)
        assert np.linalg.norm(closed.center_mass - truth) < max(1.0, every / 2)
