"""Pictures of the 3D scene: from four sides, and turning once around."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from strokeseg.outputs.images import scene_renderer
from strokeseg.result import are_sides_known
from strokeseg.scan import Floats, Scan
from strokeseg.scene import Scene

TURN_NAME = "turn.webp"

# Rows: the picture's right, its up, and towards the viewer, LPS. Left is on the right wherever both sides are seen.
VIEWS: dict[str, Floats] = {
    "from the front": np.array([(1.0, 0, 0), (0, 0, 1), (0, -1, 0)]),
    "from above, face down": np.array([(1.0, 0, 0), (0, 1, 0), (0, 0, 1)]),
    "from the patient's right": np.array([(0.0, -1, 0), (0, 0, 1), (-1, 0, 0)]),
    "from the patient's left": np.array([(0.0, 1, 0), (0, 0, 1), (1, 0, 0)]),
}
_VIEW_SIDE = 480
# NumPy lets go of the interpreter, so two frames are drawn at a time. A moving picture needs less smoothing.
_TURN_SIDE, _TURN_SMOOTH, _THREADS = 360, 1.25, 2
_FRAMES = 32
_PITCH_DEG = 16.0
_LETTER_COLOUR = (200, 208, 216)
_AXIS_LETTERS = {"L": (1.0, 0, 0), "R": (-1.0, 0, 0), "A": (0, -1.0, 0), "P": (0, 1.0, 0)}


def draw_views(scan: Scan, scene: Scene) -> Image.Image | None:
    """Draw brain and lesions from the front, from above, and from both sides.

    Returns
    -------
    Image or None
        RGB picture, two by two; None for a scene without any surface.
    """

    def seen(title: str, turn: Floats) -> Image.Image:
        camera = scene_renderer.fit_camera(scene, turn)
        assert camera is not None
        image = Image.fromarray(scene_renderer.render_scene(models, camera, _VIEW_SIDE))
        _draw_axis_letters(image, scene, camera, scan)
        _draw_text(image, (_VIEW_SIDE / 30, _VIEW_SIDE / 30), title, "la", 26)
        return image

    if scene_renderer.fit_camera(scene, VIEWS["from the front"]) is None:
        return None
    models = scene_renderer.prepare_meshes(scene)
    whole = Image.new("RGB", (2 * _VIEW_SIDE, 2 * _VIEW_SIDE))
    with ThreadPoolExecutor(_THREADS) as threads:
        for place, image in enumerate(threads.map(seen, *zip(*VIEWS.items(), strict=True))):
            whole.paste(image, (place % 2 * _VIEW_SIDE, place // 2 * _VIEW_SIDE))
    _draw_scale_note(whole, scene)
    return whole


def save_turn(folder: Path, scan: Scan, scene: Scene) -> dict[str, str]:
    """Write `turn.webp`: the scene turning once about the axis of the body, seen from a little above.

    Returns
    -------
    dict of str to str
        The name of the file; nothing for a scene without any surface.
    """
    frames = draw_turn(scan, scene, _TURN_SIDE)
    if not frames:
        return {}
    write_animation(folder / TURN_NAME, frames)
    return {"turn": TURN_NAME}


def draw_turn(scan: Scan, scene: Scene, side: int) -> list[Image.Image]:
    """Draw the pictures of a turn, RGB, ``side`` pixels wide and high; none for a scene without any surface."""

    def frame(angle_deg: float) -> Image.Image:
        camera = scene_renderer.fit_camera(scene, compute_camera_rotation(angle_deg, _PITCH_DEG))
        assert camera is not None
        image = Image.fromarray(scene_renderer.render_scene(models, camera, side, _TURN_SMOOTH))
        _draw_axis_letters(image, scene, camera, scan)
        _draw_scale_note(image, scene)
        return image

    if scene_renderer.fit_camera(scene, compute_camera_rotation(0, _PITCH_DEG)) is None:
        return []
    models = scene_renderer.prepare_meshes(scene)
    with ThreadPoolExecutor(_THREADS) as threads:
        return list(threads.map(frame, (number * 360 / _FRAMES for number in range(_FRAMES))))


def write_animation(path: Path, frames: list[Image.Image]) -> None:
    """Write pictures as an animated WebP that goes on for ever, 3 s a turn."""
    options = {"duration": 3000 // len(frames), "loop": 0, "quality": 80, "method": 2}
    frames[0].save(path, "WEBP", save_all=True, append_images=frames[1:], **options)


def compute_camera_rotation(yaw_deg: float, pitch_deg: float) -> Floats:
    """Return the camera's turn after a walk around the patient.

    Parameters
    ----------
    yaw_deg : float
        0 is before the face, 90 at the patient's left.
    pitch_deg : float
        How far the viewer is raised.

    Returns
    -------
    Floats
        (3, 3), as :class:`strokeseg.outputs.images.scene_renderer.Camera` has it.
    """
    yaw, pitch = np.radians([yaw_deg, pitch_deg])
    right = np.array([np.cos(yaw), np.sin(yaw), 0])
    level = np.array([np.sin(yaw), -np.cos(yaw), 0])
    towards = np.cos(pitch) * level + np.sin(pitch) * np.array([0, 0, 1.0])
    return np.array([right, np.cross(towards, right), towards])


def _draw_axis_letters(image: Image.Image, scene: Scene, camera: scene_renderer.Camera, scan: Scan) -> None:
    """Write L, R, A and P beside the scene; what points to the viewer or away is left out."""
    half_mm = scene_renderer.compute_extent_mm(scene) / 2 + 0.1 * camera.half_mm
    doubt = "" if are_sides_known(scan.remarks) else "?"
    for letter, way in _AXIS_LETTERS.items():
        towards = float(camera.rotation[2] @ way)
        if abs(towards) > 0.9:
            continue
        ((column, row, _),) = camera.project((camera.centre_mm + np.array(way) * half_mm)[None], image.width)
        shade = _LETTER_COLOUR if towards > -0.4 else (104, 112, 122)
        _draw_text(image, (column, row), letter + (doubt if letter in "LR" else ""), "mm", 20, shade)


def _draw_scale_note(image: Image.Image, scene: Scene) -> None:
    if not scene.to_scale:
        margin = image.height / 40
        _draw_text(image, (margin, image.height - margin), "not to scale: pixel spacing unknown", "ls", 30)


def _draw_text(
    image: Image.Image,
    place: tuple[float, float],
    text: str,
    anchor: str,
    share: float,
    shade: tuple[int, int, int] = _LETTER_COLOUR,
) -> None:
    """Write a word whose height is the picture's height over ``share``, but never less than 11 pixels."""
    font = ImageFont.load_default(max(11, min(image.height, _VIEW_SIDE) / share))
    ImageDraw.Draw(image).text(place, text, shade, font, anchor)
