"""Draw the small pictures of docs/gate.md from the analytic head of the tests: `make gate-pictures`."""

import sys
import tempfile
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image, ImageDraw

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from benchmarks import non_heads  # noqa: E402
from phantoms import head_series  # noqa: E402

OUT = ROOT / "docs/images/gate"
SIDE = 200
PIXEL_MM = 1.1
PLANE, BAD, GOOD = (90, 170, 255), (255, 90, 80), (120, 220, 120)


def to_picture(hu, centre=40.0, width=160.0):
    """Show a plane (rows, columns) through a window, as an RGB picture of SIDE pixels."""
    shown = np.clip((np.asarray(hu, float) - centre + width / 2) / width, 0, 1) * 255
    return Image.fromarray(shown.astype(np.uint8)).convert("RGB").resize((SIDE, SIDE), Image.Resampling.BILINEAR)


def make_axial(z=9.0, seed=0, noise=6.0):
    """Make a slice of the head with ventricles and noise, HU, on a square of SIDE pixels of 1.1 mm."""
    across = (np.arange(SIDE) - SIDE / 2 + 0.5) * PIXEL_MM
    points = np.stack([*np.meshgrid(across, across), np.full((SIDE, SIDE), z)], axis=-1)
    hu = head_series.head_hu(points).astype(float)
    for side in (-1, 1):
        hu[head_series.inside_ellipsoid(points, (7, 22, 20), (10 * side, 0, z)) & (hu == 35)] = 8
    skin = head_series.inside_ellipsoid(points, (79, 97, 100)) & (hu < -900)
    hu[skin] = 30
    return hu + np.random.default_rng(seed).normal(0, noise, hu.shape)


def make_side_view():
    """Make a sagittal section of the head in HU, the face to the left."""
    across = (np.arange(SIDE) - SIDE / 2 + 0.5) * PIXEL_MM
    y, z = np.meshgrid(across, -across)
    return head_series.head_hu(np.stack([np.full_like(y, 20.0), y, z], axis=-1))


def draw_planes(positions, tilt_deg=0.0, extra=(), reach=92.0):
    """Draw the side view with the planes of the slices as lines; ``extra`` are further (position, colour)."""
    picture = to_picture(make_side_view())
    draw = ImageDraw.Draw(picture)
    slope = np.tan(np.radians(tilt_deg))
    for position, colour in [*((z, PLANE) for z in positions), *extra]:
        ends = [(SIDE / 2 + y / PIXEL_MM, SIDE / 2 - (position + y * slope) / PIXEL_MM) for y in (-reach, reach)]
        draw.line(ends, fill=colour, width=2 if colour != PLANE else 1)
    return picture


def join_pictures(*pictures):
    whole = Image.new("RGB", (sum(p.width for p in pictures) + 6 * (len(pictures) - 1), SIDE), (255, 255, 255))
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width + 6
    return whole


def make_chest():
    """Make a chest: ribs around lungs, HU."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    out = np.hypot(columns / 92, rows / 66)
    hu = np.where(out < 1, -100.0, -1000.0)
    hu[out < 0.9] = 50
    angle = np.arctan2(rows, columns)
    hu[(out > 0.8) & (out < 0.87) & (np.cos(16 * angle) > 0)] = 500
    for side in (-1, 1):
        hu[np.hypot((columns - 42 * side) / 30, rows / 44) < 1] = -850
    hu[np.hypot(rows - 44, columns) < 12] = 400
    return hu


def draw_kinds():
    """Draw one input of each kind without a head that is not held out, side by side."""
    pictures = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in non_heads.KINDS:
            if kind not in non_heads.HELD_OUT:
                pictures.append(show_input(non_heads.draw(kind, 1000, Path(folder))))
    half = SIDE // 2 - 1
    whole = Image.new("RGB", (4 * half + 6, SIDE), (255, 255, 255))
    for number, picture in enumerate(pictures):
        column, row = number % 4, number // 4
        whole.paste(picture.resize((half, half)), (column * (half + 2), row * (half + 2)))
    return whole


def show_input(path):
    if path.suffix == ".png":
        return Image.open(path).convert("RGB")
    volume = np.asarray(nibabel.load(path).dataobj, float)
    plane = volume[:, :, volume.shape[2] // 2].T
    low, high = (-160, 240) if plane.min() < -500 else (plane.min(), plane.max() or 1)
    return to_picture(plane, (low + high) / 2, high - low)


def draw_head_on_body():
    """Draw a head on a body from the front, the planes of the body in another colour."""
    picture = Image.new("RGB", (SIDE, SIDE))
    draw = ImageDraw.Draw(picture)
    for box, colour in (((20, 105, 180, 260), 90), ((84, 70, 116, 120), 90), ((62, 8, 138, 96), 230)):
        draw.ellipse(box, fill=(colour,) * 3)
    draw.ellipse((68, 14, 132, 90), fill=(120,) * 3)
    for y in range(12, SIDE, 8):
        draw.line((10, y, 190, y), fill=PLANE if y < 105 else BAD)
    return picture


def make_vessels():
    hu = make_axial()
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for row, column in [(70, 100), (88, 72), (88, 128), (110, 100), (130, 85), (60, 108), (118, 130)]:
        hu[np.hypot(rows - row, columns - column) < 2.5] = 240
    return hu


def make_metal():
    hu = make_axial()
    rows, columns = np.mgrid[:SIDE, :SIDE]
    angle, distance = np.arctan2(rows - 95, columns - 120), np.hypot(rows - 95, columns - 120)
    hu += 130 * np.cos(24 * angle) * np.exp(-distance / 35) * (hu > -300)
    hu[distance < 4] = 9000
    return hu


def make_writing():
    picture = to_picture(make_axial())
    ImageDraw.Draw(picture).text((3, 2), "SE 3  IM 17  W 80", fill=(255, 255, 255))
    return picture


def make_coloured_mark():
    picture = to_picture(make_axial())
    ImageDraw.Draw(picture).ellipse((62, 60, 140, 130), outline=(255, 40, 40), width=2)
    return picture


def draw_pictures():
    even, fine = np.arange(-60.0, 61.0, 8.0), np.arange(-60.0, 61.0, 4.0)
    uneven = (*np.arange(-60.0, 1.0, 5.0), *np.arange(10.0, 61.0, 10.0))
    gap = [z for z in even if not -1 < z - 4 < 9]
    head = make_axial()
    doubled = (head + np.roll(head, 7, axis=1)) / 2
    return {
        "left-out": join_pictures(to_picture(make_side_view(), 400, 2000), to_picture(head)),
        "several-series": join_pictures(draw_planes(fine), draw_planes(fine, 12)),
        "gantry-tilt": draw_planes(even, 18),
        "uneven-spacing": draw_planes(uneven),
        "missing-slices": draw_planes(gap, extra=[(4.0, BAD), (12.0, BAD)]),
        "duplicate-slices": draw_planes(even, extra=[(4.0, GOOD), (5.5, GOOD)]),
        "other-size": join_pictures(to_picture(head), to_picture(head).resize((120, 120)).crop((0, -40, 120, 160))),
        "hounsfield-offset": join_pictures(to_picture(head + 1024), to_picture(head)),
        "not-head": to_picture(make_chest(), 40, 400),
        "not-head-kinds": draw_kinds(),
        "cut-to-head": draw_head_on_body(),
        "contrast-medium": to_picture(make_vessels(), 60, 240),
        "sharp-kernel": to_picture(head + np.random.default_rng(1).normal(0, 40, head.shape), 40, 160),
        "metal": to_picture(make_metal()),
        "motion": to_picture(doubled),
        "single-slice": draw_planes([4.0]),
        "thick-slices": draw_planes(np.arange(-60.0, 61.0, 20.0)),
        "burnt-in-text": make_writing(),
        "coloured-overlay": make_coloured_mark(),
    }


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    for name, picture in draw_pictures().items():
        picture.quantize(48, dither=Image.Dither.NONE).save(OUT / f"{name}.png", optimize=True)
        print(OUT.relative_to(ROOT) / f"{name}.png", picture.size)


if __name__ == "__main__":
    main()
