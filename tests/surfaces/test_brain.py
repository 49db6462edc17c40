from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from data_sets import find_data_set
from phantoms.shapes import assert_closed, compute_points_mm, make_planes, make_scan, measure_volume_mm3
from slowdown import measure_slowdown
from strokeseg.reading import read_one
from strokeseg.scan import Planes, Scan
from strokeseg.surfaces import build_scene

BRAIN_MM = np.array([66.0, 84.0, 62.0])
BONE_MM, SCALP_MM = 7.0, 7.0
BRAIN_MM3 = 4 / 3 * np.pi * BRAIN_MM.prod()
SHAPE = (256, 240)
USUAL = np.arange(30) * 5.0


def axes(grid: Planes) -> np.ndarray:
    """Return the grid's points, LPS mm relative to the phantom's centre, the middle of its slices."""
    middle = compute_points_mm(grid, SHAPE)[:, SHAPE[0] // 2, SHAPE[1] // 2].mean(0)
    return compute_points_mm(grid, SHAPE) - middle


def head(grid: Planes, *, hole_mm: float = 0.0, noise: float = 4.0) -> np.ndarray:
    """Build a brain of 35 HU with ventricles in a shell of bone (1000 HU) under scalp (fat and muscle), in air.

    ``hole_mm`` is the diameter of a hole in the skull at the patient's left, filled with scalp.
    """
    at = axes(grid)

    def within(half: np.ndarray) -> np.ndarray:
        return np.asarray(((at / half) ** 2).sum(-1) <= 1)

    random = np.random.default_rng(7)
    hu = np.full(at.shape[:3], -1000.0)
    hu[within(BRAIN_MM + BONE_MM + SCALP_MM)] = 35
    bone = within(BRAIN_MM + BONE_MM)
    if hole_mm:
        bone &= ~((np.hypot(at[..., 1], at[..., 2]) < hole_mm / 2) & (at[..., 0] > 0))
    hu[bone] = 1000
    hu[within(BRAIN_MM)] = 35
    hu[within(np.array([9.0, 25.0, 12.0]))] = 8
    return np.asarray(hu + random.normal(0, noise, hu.shape) * (hu > -1000))


def cut(axis_mm: float, half_mm: float) -> float:
    """Return the share of an ellipsoid's volume within half_mm of its centre along the half axis axis_mm."""
    share = half_mm / axis_mm
    return 1.5 * share - 0.5 * share**3


GRIDS = {
    "usual": make_planes(USUAL, (0.8, 0.8)),
    "thin": make_planes(np.arange(120) * 1.25, (0.8, 0.8)),
    "uneven": make_planes([*np.arange(-20, 60, 2.5), *np.arange(60, 152, 6.0)], (0.8, 0.8)),
    "tilted": make_planes(USUAL, (0.8, 0.8), tilt_deg=20, column=(0, np.cos(0.35), -np.sin(0.35))),
    "flipped": make_planes(USUAL, (0.8, 0.8), row=(-1, 0, 0), column=(0, -1, 0)),
}


@pytest.mark.parametrize("name", GRIDS)
def test_brain_fills_the_skull(name: str) -> None:
    grid = GRIDS[name]
    hu = head(grid)
    brain = build_scene(make_scan(grid, SHAPE, hu), np.zeros(hu.shape, np.int32)).brain
    assert brain is not None
    closed = assert_closed(brain)
    assert closed.body_count == 1
    assert closed.volume == pytest.approx(BRAIN_MM3, rel=0.05)
    middle = compute_points_mm(grid, SHAPE)[:, SHAPE[0] // 2, SHAPE[1] // 2].mean(0)
    assert np.linalg.norm(closed.center_mass - middle) < 2.5
    away = np.sqrt((((brain.vertices_mm - middle) / BRAIN_MM) ** 2).sum(1)) - 1
    # About 6 mm at the poles, where the last slice that shows the brain may lie a slice below its top.
    assert np.abs(away).max() < 0.09
    assert np.sqrt((away**2).mean()) < 0.025
    assert 5_000 < len(brain.faces) <= 20_000


def test_hole_in_the_skull_is_closed_along_its_chord() -> None:
    grid = GRIDS["usual"]
    hu = head(grid, hole_mm=40)
    brain = build_scene(make_scan(grid, SHAPE, hu), np.zeros(hu.shape, np.int32)).brain
    assert brain is not None
    closed = assert_closed(brain)
    assert closed.volume == pytest.approx(BRAIN_MM3, rel=0.08)
    middle = compute_points_mm(grid, SHAPE)[:, SHAPE[0] // 2, SHAPE[1] // 2].mean(0)
    # Nothing of the scalp: the surface stays within the skull's outer face.
    assert (((brain.vertices_mm - middle) / (BRAIN_MM + BONE_MM)) ** 2).sum(1).max() < 1


@pytest.mark.parametrize("window", [(40.0, 80.0), (40.0, 120.0), (127.5, 255.0)])
@pytest.mark.parametrize("slices", [6, 12])
def test_pictures_of_some_slices_give_a_slab_cut_flat(slices: int, window: tuple[float, float]) -> None:
    first = (30 - slices) // 2
    grid = make_planes(USUAL[first : first + slices], (0.8, 0.8))
    hu = np.clip(head(GRIDS["usual"]), window[0] - window[1] / 2, window[0] + window[1] / 2)[first : first + slices]
    scan = make_scan(grid, SHAPE, hu, calibrated=False, spacing_known=False, window=window, kind="pictures")
    scene = build_scene(scan, np.zeros(hu.shape, np.int32))
    assert scene.brain is not None and not scene.to_scale
    slab = assert_closed(scene.brain)
    assert slab.body_count == 1
    assert slab.volume == pytest.approx(BRAIN_MM3 * cut(BRAIN_MM[2], slices * 2.5), rel=0.05)
    bottom = 50 + USUAL[first] - 2.5
    assert_allclose(slab.bounds[:, 2], (bottom, bottom + slices * 5), atol=0.05)
    for side in (-1, 1):
        flat = slab.area_faces[side * slab.face_normals[:, 2] > 0.999].sum()
        assert flat > 0.85 * np.pi * BRAIN_MM[0] * BRAIN_MM[1] * (1 - (slices * 2.5 / BRAIN_MM[2]) ** 2)


def test_one_slice_gives_a_thin_slab() -> None:
    grid = make_planes([0.0], (0.8, 0.8))
    hu = head(GRIDS["usual"])[15:16]
    brain = build_scene(make_scan(grid, SHAPE, hu), np.zeros(hu.shape, np.int32)).brain
    assert brain is not None
    assert_allclose(assert_closed(brain).bounds[:, 2], (47.5, 52.5), atol=0.05)


def test_cut_off_top_is_flat() -> None:
    grid = make_planes(USUAL[:20], (0.8, 0.8))
    hu = head(GRIDS["usual"])[:20]
    brain = build_scene(make_scan(grid, SHAPE, hu), np.zeros(hu.shape, np.int32)).brain
    assert brain is not None
    closed = assert_closed(brain)
    assert closed.bounds[1, 2] == pytest.approx(50 + 97.5, abs=0.05)
    assert closed.area_faces[closed.face_normals[:, 2] > 0.999].sum() > 5000


def test_bleeding_along_the_skull_belongs_to_the_brain() -> None:
    # In the window of a picture blood is as white as bone; only the mask distinguishes them.
    grid = GRIDS["usual"]
    hu, at = head(grid), axes(grid)
    inside = ((at / BRAIN_MM) ** 2).sum(-1) <= 1
    blood = inside & (((at / (BRAIN_MM - 9)) ** 2).sum(-1) > 1) & (at[..., 0] > 40) & (np.abs(at[..., 2]) < 25)
    hu[blood] = 78
    scan = make_scan(grid, SHAPE, np.clip(hu, 0, 80), calibrated=False, window=(40.0, 80.0), kind="pictures")
    scene = build_scene(scan, blood.astype(np.int32))
    assert scene.brain is not None
    assert assert_closed(scene.brain).volume == pytest.approx(BRAIN_MM3, rel=0.05)
    assert assert_closed(scene.lesions[0]).volume == pytest.approx(measure_volume_mm3(blood, grid), rel=0.02)


@pytest.mark.parametrize("hu", [-1000, 0, 35, 1000, 32767, -32768])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 200), (5, 64, 64)])
def test_no_brain_is_none_and_no_error(hu: int, shape: tuple[int, int, int]) -> None:
    scan = Scan.from_array(np.full(shape, hu), (5.0, 1.0, 1.0))
    assert build_scene(scan, np.zeros(shape, np.int32)).brain is None


def test_noise_is_no_error() -> None:
    noise = np.random.default_rng(3).normal(30, 200, (8, 90, 70))
    for window in (None, (40.0, 80.0)):
        scan = make_scan(make_planes(np.arange(8) * 5.0, (2.0, 2.0)), (90, 70), noise, window=window)
        build_scene(scan, (noise > 400).astype(np.int32))


def test_whole_head_takes_a_second_or_so() -> None:
    # The brain alone should take 0.5 s; a busy machine gets four times that.
    grid = make_planes(np.arange(40) * 4.0, (0.4, 0.4))
    small = head(make_planes(np.arange(40) * 4.0, (0.8, 0.8)))
    hu = np.pad(small.repeat(2, 1).repeat(2, 2), [(0, 0), (0, 0), (16, 16)], constant_values=-1000)
    made, labels = make_scan(grid, (512, 512), hu), np.zeros(hu.shape, np.int32)
    build_scene(made, labels)
    start = time.perf_counter()
    assert build_scene(made, labels).brain is not None
    assert time.perf_counter() - start < 2.0 * measure_slowdown()


REAL = {
    # Volume of these skulls' interior, ml, from inspection of the outline on every slice. Fragments or a leak into the
    # face change the volume or the number of bodies.
    "rsna_volume/series.zip": (1600, 2000),
    "ge_head_dicom/series.zip": (1300, 1650),
    "cranium/cranium_hu.nii.gz": (1250, 1600),
}


@pytest.mark.parametrize("name", REAL)
def test_real_brain_is_one_piece_of_a_brain_size(name: str) -> None:
    path = find_data_set(name)
    scan = read_one(path)
    brain = build_scene(scan, np.zeros(scan.shape, np.int32)).brain
    assert brain is not None
    solid = assert_closed(brain)
    assert solid.body_count == 1
    low, high = REAL[name]
    assert low < solid.volume / 1000 < high
    assert len(brain.faces) <= 20_000


def test_real_pictures_give_a_slab(tmp_path: Path) -> None:
    folder = find_data_set("ctich_train/images")
    for picture in folder.glob("053_*.jpg"):
        (tmp_path / picture.name).write_bytes(picture.read_bytes())
    scan = read_one(tmp_path)
    brain = build_scene(scan, np.zeros(scan.shape, np.int32)).brain
    assert brain is not None
    slab = assert_closed(brain)
    assert slab.body_count == 1
    assert_allclose(slab.bounds[:, 2], (-2.5, 5 * len(scan.hu) - 2.5), atol=0.05)
    # The slab is as wide below as above: no fragments are lost.
    assert slab.area_faces[slab.face_normals[:, 2] > 0.999].sum() > 8_000
    assert slab.area_faces[slab.face_normals[:, 2] < -0.999].sum() > 8_000
