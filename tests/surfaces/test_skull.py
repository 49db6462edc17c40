from __future__ import annotations

import numpy as np
import pytest
import trimesh

from data_sets import find_data_set
from phantoms.shapes import assert_closed, compute_points_mm, make_planes, make_scan
from strokeseg.reading import read_one
from strokeseg.scan import Planes, Scan
from strokeseg.surfaces import build_scene, check_solid

INNER_MM, BONE_MM = np.array([60.0, 76.0, 58.0]), 8.0
OUTER_MM = INNER_MM + BONE_MM
SHELL_MM3 = 4 / 3 * np.pi * (OUTER_MM.prod() - INNER_MM.prod())
SHAPE = (230, 200)
GRIDS = {
    "thin": make_planes(np.arange(-75, 76, 2.5), (0.8, 0.8)),
    "thick": make_planes(np.arange(-75, 76, 5.0), (0.8, 0.8)),
    "tilted": make_planes(np.arange(-75, 76, 4.0), (0.8, 0.8), tilt_deg=20, column=(0, np.cos(0.35), -np.sin(0.35))),
    "flipped": make_planes(np.arange(-75, 76, 5.0), (0.8, 0.8), row=(-1, 0, 0), column=(0, -1, 0)),
}


def middle(grid: Planes) -> np.ndarray:
    return np.asarray(compute_points_mm(grid, SHAPE)[:, SHAPE[0] // 2, SHAPE[1] // 2].mean(0))


def head(grid: Planes) -> np.ndarray:
    at = compute_points_mm(grid, SHAPE) - middle(grid)
    hu = np.full(at.shape[:3], -1000)
    hu[((at / (OUTER_MM + 6)) ** 2).sum(-1) <= 1] = 40
    hu[((at / OUTER_MM) ** 2).sum(-1) <= 1] = 1100
    hu[((at / INNER_MM) ** 2).sum(-1) <= 1] = 35
    return hu


@pytest.mark.parametrize("name", GRIDS)
def test_vault_is_one_closed_shell_of_the_bone_s_volume(name: str) -> None:
    grid = GRIDS[name]
    hu = head(grid)
    labels = np.zeros(hu.shape, np.int32)
    assert build_scene(make_scan(grid, SHAPE, hu), labels).skull is None
    skull = build_scene(make_scan(grid, SHAPE, hu), labels, skull=True).skull
    assert skull is not None
    closed = assert_closed(skull)
    assert len(skull.faces) <= 60_000
    assert closed.volume == pytest.approx(SHELL_MM3, rel=0.1)
    # Its outer and inner face are not connected: there is no hole between thick slices.
    assert closed.body_count == 2
    assert check_solid(skull).printable
    assert np.linalg.norm(closed.center_mass - middle(grid)) < 1.5
    away = np.sqrt((((skull.vertices_mm - middle(grid)) / INNER_MM) ** 2).sum(1))
    # All vertices lie between inner and outer table, within half a slice.
    assert away.min() > 0.9 and away.max() < (OUTER_MM / INNER_MM).max() * 1.08


def test_bleeding_as_bright_as_bone_is_no_bone() -> None:
    grid = GRIDS["thick"]
    hu = head(grid)
    at = compute_points_mm(grid, SHAPE) - middle(grid)
    # Along the skull, where it would belong to the largest component of bone.
    blood = (((at - (45, 0, 0)) / (25, 40, 35)) ** 2).sum(-1) <= 1
    blood &= ((at / INNER_MM) ** 2).sum(-1) <= 1
    hu[blood] = 300
    with_it = build_scene(make_scan(grid, SHAPE, hu), blood.astype(np.int32), skull=True).skull
    assert with_it is not None
    assert assert_closed(with_it).volume == pytest.approx(SHELL_MM3, rel=0.1)


@pytest.mark.parametrize("hu", [-1000, 35])
def test_no_bone_is_none(hu: int) -> None:
    scan = Scan.from_array(np.full((6, 64, 64), hu), (5.0, 1.0, 1.0))
    assert build_scene(scan, np.zeros(scan.shape, np.int32), skull=True).skull is None


def test_real_skull_is_a_solid_around_the_brain() -> None:
    scan = read_one(find_data_set("ge_head_dicom/series.zip"))
    scene = build_scene(scan, np.zeros(scan.shape, np.int32), skull=True)
    assert scene.skull is not None and scene.brain is not None
    assert check_solid(scene.skull).printable and len(scene.skull.faces) <= 60_000
    brain, skull = (trimesh.Trimesh(part.vertices_mm, part.faces, process=False) for part in (scene.brain, scene.skull))
    # A few millimetres of bone on each side of the brain.
    assert (skull.extents[:2] - brain.extents[:2] > 6).all()
    assert 300_000 < skull.volume < 1_100_000
