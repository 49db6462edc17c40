from __future__ import annotations

import numpy as np
import pytest

from strokeseg.scene import Mesh, Scene
from strokeseg.surfaces import check_solid, remark_not_printable

CUBE = np.array([(x, y, z) for x in (0, 20) for y in (0, 20) for z in (0, 20)], np.float32)
SIDES = [(0, 1, 3, 2), (4, 6, 7, 5), (0, 4, 5, 1), (2, 3, 7, 6), (0, 2, 6, 4), (1, 5, 7, 3)]
FACES = np.array([face for a, b, c, d in SIDES for face in ((a, b, c), (a, c, d))], np.int32)


def cube(*, moved: float = 0.0, faces: np.ndarray = FACES) -> Mesh:
    return Mesh(CUBE + np.float32(moved), faces)


def both(one: Mesh, other: Mesh) -> Mesh:
    faces = np.concatenate([one.faces, other.faces + np.int32(len(one.vertices_mm))])
    return Mesh(np.concatenate([one.vertices_mm, other.vertices_mm]), faces)


def merged(mesh: Mesh) -> Mesh:
    """Merge equal points into one vertex."""
    points, index = np.unique(mesh.vertices_mm, axis=0, return_inverse=True)
    return Mesh(points, index[mesh.faces].astype(np.int32))


def test_a_cube_is_a_solid() -> None:
    facts = check_solid(cube())
    assert facts.printable and facts.watertight and facts.manifold and facts.outward
    assert (facts.triangles, facts.bodies) == (12, 1)
    assert facts.volume_ml == pytest.approx(8.0) and facts.area_mm2 == pytest.approx(2400)


def test_two_cubes_apart_are_two_bodies() -> None:
    facts = check_solid(both(cube(), cube(moved=50)))
    assert facts.printable and facts.bodies == 2 and facts.volume_ml == pytest.approx(16.0)


def test_a_missing_triangle_is_a_hole() -> None:
    facts = check_solid(cube(faces=FACES[1:]))
    assert not facts.watertight and not facts.manifold and not facts.printable


def test_inside_out_is_not_outward() -> None:
    facts = check_solid(cube(faces=FACES[:, ::-1]))
    assert facts.watertight and facts.manifold and not facts.outward and not facts.printable


def test_one_triangle_turned_over_is_not_outward() -> None:
    faces = FACES.copy()
    faces[3] = faces[3, ::-1]
    assert not check_solid(cube(faces=faces)).outward


def test_cubes_that_touch_in_an_edge_are_watertight_and_not_manifold() -> None:
    other = Mesh(CUBE + np.array([20, 20, 0], np.float32), FACES)
    facts = check_solid(merged(both(cube(), other)))
    assert facts.watertight and not facts.manifold and not facts.printable


def test_cubes_that_touch_in_a_corner_are_not_manifold() -> None:
    facts = check_solid(merged(both(cube(), cube(moved=20))))
    assert facts.watertight and facts.bodies == 1 and not facts.manifold


def test_a_triangle_without_area_is_not_manifold() -> None:
    # A vertex in the middle of an edge, connected by a triangle without area.
    points = np.vstack([CUBE, (CUBE[0] + CUBE[3]) / 2]).astype(np.float32)
    faces = np.vstack([FACES[1:], [(0, 1, 3), (0, 3, 8), (0, 8, 3)]]).astype(np.int32)
    assert not check_solid(Mesh(points, faces)).manifold


def test_nothing_is_no_solid() -> None:
    facts = check_solid(Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)))
    assert not facts.printable and facts.bodies == 0 and facts.volume_ml == 0


def test_what_cannot_be_printed_is_named() -> None:
    holed = cube(faces=FACES[1:])
    assert remark_not_printable(Scene(cube(), (cube(),), True)) == []
    (remark,) = remark_not_printable(Scene(cube(), (cube(), holed), True, skull=holed))
    assert (remark.code, remark.severity) == ("not-printable", "warning")
    assert "the skull, lesion 2" in remark.message and "brain" not in remark.message
