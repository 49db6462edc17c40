"""Images of the 3D scene: from four sides, and as an animation of one rotation."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from strokeseg.outputs.images import scene_renderer
from strokeseg.outputs.images.rasterizer import Camera
from strokeseg.result import are_sides_known
from strokeseg.scan import Floats, Scan
from strokeseg.scene import Scene

TURN_NAME = "turn.webp"

# Rows: right and up in the image, and towards the viewer, LPS. The patient's left is on the right if both sides show.
VIEWS: dict[str, Floats] = {
    "from the front": np.array([(1.0, 0, 0), (0, 0, 1), (0, -1, 0)]),
    "from above, face down": np.array([(1.0, 0, 0), (0, 1, 0), (0, 0, 1)]),
    "from the patient's right": np.array([(0.0, -1, 0), (0, 0, 1), (-1, 0, 0)]),
    "from the patient's left": np.array([(0.0, 1, 0), (0, 0, 1), (1, 0, 0)]),
}
_VIEW_SIDE = 480
# NumPy releases the interpreter lock, so two frames are drawn at a time. An animation needs less smoothing.
_TURN_SIDE, _TURN_SMOOTH, _THREADS = 360, 1.25, 2
_FRAMES = 32
_PITCH_DEG = 16.0
_LETTER_COLOUR = (200, 208, 216)
_AXIS_LETTERS = {"L": (1.0, 0, 0), "R": (-1.0, 0, 0), "A": (0, -1.0, 0), "P": (0, 1.0, 0)}


def draw_views(scan: Scan, scene: Scene) -> Image.Image | None:
    """Draw brain and lesions from the front, from above, and from both sides.

    Parameters
    ----------
    scan : Scan
        The scan.
    scene : Scene
        Its surfaces.

    Returns
    -------
    Image or None
        RGB image of two by two views; None for a scene without any surface.
    """

    def draw_view(title: str, rotation: Floats) -> Image.Image:
        camera = scene_renderer.fit_camera(scene, rotation)
        assert camera is not None
        image = Image.fromarray(scene_renderer.render_scene(meshes, camera, _VIEW_SIDE))
        _draw_axis_letters(image, scene, camera, scan)
        _draw_text(image, (_VIEW_SIDE / 30, _VIEW_SIDE / 30), title, "la", 26)
        return image

    if scene_renderer.fit_camera(scene, VIEWS["from the front"]) is None:
        return None
    meshes = scene_renderer.prepare_meshes(scene)
    image = Image.new("RGB", (2 * _VIEW_SIDE, 2 * _VIEW_SIDE))
    with ThreadPoolExecutor(_THREADS) as threads:
        for number, view in enumerate(threads.map(draw_view, *zip(*VIEWS.items(), strict=True))):
            image.paste(view, (number % 2 * _VIEW_SIDE, number // 2 * _VIEW_SIDE))
    _draw_scale_note(image, scene)
    return image


def save_turn(folder: Path, scan: Scan, scene: Scene) -> dict[str, str]:
    """Write `turn.webp`: one rotation of the scene about the long axis of the body, seen from slightly above.

    Parameters
    ----------
    folder : Path
        Where to write it.
    scan : Scan
        The scan.
    scene : Scene
        Its surfaces.

    Returns
    -------
    dict of str to str
        File name by key of `result.json`; empty for a scene without any surface.
    """
    frames = draw_turn(scan, scene, _TURN_SIDE)
    if not frames:
        return {}
    write_animation(folder / TURN_NAME, frames)
    return {"turn": TURN_NAME}


def draw_turn(scan: Scan, scene: Scene, side: int) -> list[Image.Image]:
    """Draw the frames of one rotation.

    Parameters
    ----------
    scan : Scan
        The scan.
    scene : Scene
        Its surfaces.
    side : int
        Width and height of the frames, pixels.

    Returns
    -------
    list of Image
        RGB images; none for a scene without any surface.
    """

    def frame(angle_deg: float) -> Image.Image:
        camera = scene_renderer.fit_camera(scene, compute_camera_rotation(angle_deg, _PITCH_DEG))
        assert camera is not None
        image = Image.fromarray(scene_renderer.render_scene(meshes, camera, side, _TURN_SMOOTH))
        _draw_axis_letters(image, scene, camera, scan)
        _draw_scale_note(image, scene)
        return image

    if scene_renderer.fit_camera(scene, compute_camera_rotation(0, _PITCH_DEG)) is None:
        return []
    meshes = scene_renderer.prepare_meshes(scene)
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(frame, (number * 360 / _FRAMES for number in range(_FRAMES))))


def write_animation(path: Path, frames: list[Image.Image]) -> None:
    """Write frames as an endless animated WebP that takes 3 s per rotation."""
    options = {"duration": 3000 // len(frames), "loop": 0, "quality": 80, "method": 2}
    frames[0].save(path, "WEBP", save_all=True, append_images=frames[1:], **options)


def compute_camera_rotation(yaw_deg: float, pitch_deg: float) -> Floats:
    """Return the rotation of a camera that was moved around the patient.

    Parameters
    ----------
    yaw_deg : float
        0 is in front of the face, 90 on the patient's left.
    pitch_deg : float
        Elevation of the viewer.

    Returns
    -------
    ndarray of float64, shape (3, 3)
        As in :class:`strokeseg.outputs.images.rasterizer.Camera`.
    """
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    right = np.array([np.cos(yaw), np.sin(yaw), 0])
    level = np.array([np.sin(yaw), -np.cos(yaw), 0])
    towards = np.cos(pitch) * level + np.sin(pitch) * np.array([0, 0, 1.0])
    return np.array([right, np.cross(towards, right), towards])


def _draw_axis_letters(image: Image.Image, scene: Scene, camera: Camera, scan: Scan) -> None:
    """Draw the letters L, R, A and P beside the scene, but not for an axis that points at or away from the viewer."""
    half_mm = scene_renderer.compute_extent_mm(scene) / 2 + 0.1 * camera.half_mm
    uncertain = "" if are_sides_known(scan.remarks) else "?"
    for letter, direction in _AXIS_LETTERS.items():
        towards = float(camera.rotation[2] @ direction)
        if abs(towards) > 0.9:
            continue
        ((column, row, _),) = camera.project((camera.centre_mm + np.array(direction) * half_mm)[None], image.width)
        colour = _LETTER_COLOUR if towards > -0.4 else (104, 112, 122)
        _draw_text(image, (column, row), letter + (uncertain if letter in "LR" else ""), "mm", 20, colour)


def _draw_scale_note(image: Image.Image, scene: Scene) -> None:
    if not scene.to_scale:
        margin = image.height / 40
        _draw_text(image, (margin, image.height - margin), "not to scale: pixel spacing unknown", "ls", 30)


def _draw_text(
    image: Image.Image,
    position: tuple[float, float],
    text: str,
    anchor: str,
    parts: float,
    colour: tuple[int, int, int] = _LETTER_COLOUR,
) -> None:
    """Draw text whose height is the height of the image divided by ``parts``, but at least 11 pixels."""
    font = ImageFont.load_default(max(11, min(image.height, _VIEW_SIDE) / parts))
    ImageDraw.Draw(image).text(position, text, colour, font, anchor)
