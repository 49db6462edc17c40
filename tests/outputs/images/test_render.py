"""The z-buffer against analytic balls, and the views and the turn by where things are seen in them."""

import time

import numpy as np
import pytest
import trimesh
from PIL import Image

from phantoms.results import make_scene, make_sphere
from slowdown import measure_slowdown
from strokeseg.outputs.images import rasterizer, scene_renderer, scene_views
from strokeseg.result import Remark
from strokeseg.scan import Scan
from strokeseg.scene import Mesh, Scene

FRONT = scene_views.VIEWS["from the front"]
ABOVE = scene_views.VIEWS["from above, face down"]
RIGHT = scene_views.VIEWS["from the patient's right"]
LEFT = scene_views.VIEWS["from the patient's left"]
SCAN = Scan.from_array(np.zeros((2, 4, 4)), (5, 1, 1))


def ball(centre, radius, subdivisions=5):
    sphere = trimesh.creation.icosphere(subdivisions=subdivisions, radius=radius)
    return Mesh((sphere.vertices + np.asarray(centre)).astype(np.float32), np.asarray(sphere.faces, np.int32))


def red(picture):
    """Mark what is clearly red."""
    picture = np.asarray(picture).astype(int)
    return picture[..., 0] > picture[..., 2] + 60


def middle(marked):
    """(x, y) of what is marked, from the left and from the top, 0 to 1."""
    rows, columns = np.nonzero(marked)
    return (columns.mean() + 0.5) / marked.shape[1], (rows.mean() + 0.5) / marked.shape[0]


def rasterize(mesh, camera, side):
    return rasterizer.rasterize(mesh, scene_renderer.compute_vertex_normals(mesh), camera, side)


def test_ball_is_drawn_where_rays_meet_it():
    # A camera at (0, -d, 0) mm looks along +y; its rays are written out here from what the camera says of itself.
    radius, side = 40.0, 200
    scene = Scene(ball((0, 0, 0), radius), (), True)
    camera = scene_renderer.fit_camera(scene, FRONT)
    layer = rasterize(scene.brain, camera, side)
    far = 4.2 * camera.half_mm
    rows, columns = np.mgrid[:side, :side]
    # Pixels one length unit apart at the distance `far`, so that the middle of the scene has its own size.
    edge = camera.project(np.array([(camera.half_mm, 0, 0), (0, 0, 0)]), side)
    scale = camera.half_mm / (edge[0, 0] - edge[1, 0])
    rays = np.stack([(columns - edge[1, 0]) * scale, np.full(rows.shape, far), (edge[1, 1] - rows) * scale], -1)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    along = rays[..., 1] * far
    inside = along**2 - far**2 + radius**2
    hit = inside > 0
    covered = np.zeros((side, side), bool)
    covered.ravel()[layer.pixel] = True
    # The mesh lies inside of the ball: a rim of part of a pixel may be missing, nothing may be too much.
    assert not (covered & ~hit).any() and (hit & ~covered).sum() < 0.012 * hit.sum()
    place = np.array([0, -far, 0]) + rays * (along - np.sqrt(np.maximum(inside, 0)))[..., None]
    rows, columns = layer.pixel // side, layer.pixel % side
    truth = place[rows, columns]
    deep = np.abs(truth[:, 1]) > 0.3 * radius
    depth_mm = (1 / layer.near - 4.2) * camera.half_mm
    np.testing.assert_allclose(depth_mm[deep], truth[deep, 1], atol=0.1)
    exact = truth / radius
    # Rows of the camera's turn: right is +x, up is +z, towards the viewer is -y.
    for component, axis in zip(layer.normals, (exact[:, 0], exact[:, 2], -exact[:, 1]), strict=True):
        np.testing.assert_allclose(component[deep], axis[deep], atol=0.02)


def test_no_hole_is_left_between_triangles():
    for turn in (FRONT, scene_views.compute_camera_rotation(33, 16)):
        scene = Scene(ball((3, -7, 11), 50, subdivisions=3), (), True)
        side = 480
        layer = rasterize(scene.brain, scene_renderer.fit_camera(scene, turn), side)
        covered = np.zeros((side, side), bool)
        covered.ravel()[layer.pixel] = True
        for row in covered[covered.any(1)]:
            columns = np.flatnonzero(row)
            assert columns.size == columns[-1] - columns[0] + 1


def test_nearer_ball_hides_the_farther_one():
    near, far = ball((0, -30, 0), 10), ball((0, 30, 0), 10)
    whole = Scene(None, (near, far), True)
    camera = scene_renderer.fit_camera(whole, FRONT)
    together = rasterize(scene_renderer._merge_meshes(whole.lesions), camera, 120)
    alone = rasterize(near, camera, 120)
    behind = rasterize(far, camera, 120)
    assert alone.near.min() > behind.near.max()
    both = dict(zip(together.pixel, together.near, strict=True))
    np.testing.assert_allclose([both[pixel] for pixel in alone.pixel], alone.near, rtol=1e-6)
    assert set(together.pixel) == set(alone.pixel) | set(behind.pixel)


def test_triangles_outside_of_the_picture_are_left_out():
    mesh = ball((0, 0, 0), 40, subdivisions=2)
    camera = rasterizer.Camera(FRONT, np.zeros(3), 12.0)  # so near that most of it lies beyond the edges
    layer = rasterize(mesh, camera, 64)
    assert layer.pixel.min() >= 0 and layer.pixel.max() < 64 * 64
    assert len(layer.pixel) == 64 * 64


@pytest.mark.parametrize(
    ("turn", "x", "y"),
    [
        # The bleed lies 40 mm to the left, 20 mm to the front and 10 mm up of the brain's middle.
        (FRONT, 1, -1),
        (ABOVE, 1, 1),  # the face is down
        (LEFT, -1, -1),  # the face is on the left
        (RIGHT, 1, -1),
    ],
)
def test_bleeding_is_seen_on_its_side(turn, x, y):
    scene = Scene(make_scene().brain, make_scene().lesions[:1], True)
    at = middle(
        red(
            scene_renderer.render_scene(
                scene_renderer.prepare_meshes(scene), scene_renderer.fit_camera(scene, turn), 160
            )
        )
    )
    assert np.sign(at[0] - 0.5) == x and np.sign(at[1] - 0.5) == y


def test_a_walk_to_the_left_ends_at_the_patients_left():
    np.testing.assert_allclose(scene_views.compute_camera_rotation(0, 0), FRONT, atol=1e-12)
    np.testing.assert_allclose(scene_views.compute_camera_rotation(90, 0), LEFT, atol=1e-12)
    np.testing.assert_allclose(scene_views.compute_camera_rotation(270, 0), RIGHT, atol=1e-12)
    np.testing.assert_allclose(scene_views.compute_camera_rotation(0, 90), ABOVE, atol=1e-12)
    for turn in (scene_views.compute_camera_rotation(70, 25), *scene_views.VIEWS.values()):
        np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(turn) == pytest.approx(1)  # nothing is mirrored


def test_brain_is_glass_that_dims_what_lies_in_it_and_not_what_lies_before_it():
    inside, before = make_sphere((0, 0, 0), 12), make_sphere((0, -75, 0), 12)
    brain = make_sphere((0, 0, 0), 60)

    def shade(lesion):
        scene = Scene(brain, (lesion,), True)
        return scene_renderer.render_scene(
            scene_renderer.prepare_meshes(scene), scene_renderer.fit_camera(scene, FRONT), 120, 2
        )[60, 60].astype(int)

    alone = Scene(None, (inside,), True)
    plain = scene_renderer.render_scene(
        scene_renderer.prepare_meshes(alone), scene_renderer.fit_camera(alone, FRONT), 120, 2
    )[60, 60].astype(int)
    assert np.abs(shade(before) - plain).max() < 12
    assert shade(inside)[1] > plain[1] + 30 and red(shade(inside)[None, None]).all()
    without = Scene(brain, (), True)
    grey = scene_renderer.render_scene(
        scene_renderer.prepare_meshes(without), scene_renderer.fit_camera(without, FRONT), 120
    )
    assert grey[60, 60].min() > 90 and not red(grey).any() and (grey[2, 2] == scene_renderer.BACKGROUND).all()


def test_eighty_thousand_triangles_take_under_a_second():
    scene = Scene(ball((0, 0, 0), 60, subdivisions=6), (), True)
    assert len(scene.brain.faces) > 80_000
    camera = scene_renderer.fit_camera(scene, FRONT)
    took = []
    for _ in range(3):
        start = time.process_time()
        scene_renderer.render_scene(scene_renderer.prepare_meshes(scene), camera, 480)
        took.append(time.process_time() - start)
    assert min(took) < 1.0 * measure_slowdown()  # 0.15 s on an idle core


def save_turn(folder, scene, scan=SCAN):
    assert scene_views.save_turn(folder, scan, scene) == {"turn": "turn.webp"}
    image = Image.open(folder / "turn.webp")
    frames = []
    for number in range(image.n_frames):
        image.seek(number)
        frames.append(np.asarray(image.convert("RGB")).astype(int))
    return image, frames


def test_turn_goes_round_once_for_ever(tmp_path):
    scene = Scene(make_scene().brain, make_scene().lesions[:1], True)
    image, frames = save_turn(tmp_path, scene)
    assert image.format == "WEBP" and image.info["loop"] == 0 and (tmp_path / "turn.webp").stat().st_size < 2e6
    assert len(frames) >= 24
    xs = [middle(red(frame))[0] for frame in frames]
    count = len(frames)
    # From the front the bleed at the left is on the right; from the back it is on the left; and there is one turn.
    assert xs[0] > 0.55 and xs[count // 2] < 0.45
    assert np.sum(np.diff(np.sign(np.array([*xs, xs[0]]) - 0.5)) != 0) == 2
    # A walk to the patient's left: there its front, on which the bleed lies, is on the left.
    assert xs[count // 4] < 0.5 < xs[3 * count // 4]


def test_what_is_not_to_scale_says_so(tmp_path):
    for name, to_scale in (("known", True), ("unknown", False)):
        (tmp_path / name).mkdir()
        scene_views.draw_views(SCAN, make_scene(to_scale)).save(tmp_path / name / "views.png")
    known, unknown = (
        np.asarray(Image.open(tmp_path / name / "views.png")).astype(int) for name in ("known", "unknown")
    )
    changed = np.abs(known - unknown).max(-1) > 40
    rows, columns = np.nonzero(changed)
    assert rows.min() > 0.93 * known.shape[0] and np.ptp(columns) > 150


def test_assumed_sides_carry_a_doubt(tmp_path):
    doubted = SCAN.with_remarks(Remark(code="assumed-sides", severity="info", message="assumed"))
    for name, scan in (("stated", SCAN), ("assumed", doubted)):
        (tmp_path / name).mkdir()
        scene_views.draw_views(scan, make_scene()).save(tmp_path / name / "views.png")
    stated, assumed = (
        np.asarray(Image.open(tmp_path / name / "views.png")).astype(int) for name in ("stated", "assumed")
    )
    changed = np.abs(stated - assumed).max(-1) > 40
    # From the front and from above; from the sides neither L nor R is seen.
    half = len(stated) // 2
    assert changed[:half, :half].any() and changed[:half, half:].any() and not changed[half:].any()


def test_nothing_to_draw_makes_no_picture(tmp_path):
    empty = Scene(None, (Mesh(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)),), True)
    assert scene_views.draw_views(SCAN, empty) is None and scene_views.save_turn(tmp_path, SCAN, empty) == {}
    assert not list(tmp_path.iterdir())


def test_brain_alone_is_drawn(tmp_path):
    scene = Scene(make_scene().brain, (), True)
    scene_views.draw_views(SCAN, scene).save(tmp_path / "views.png")
    assert not red(Image.open(tmp_path / "views.png")).any()
    _, frames = save_turn(tmp_path, scene)
    assert all(not red(frame).any() for frame in frames)
