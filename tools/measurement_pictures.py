"""Draw the pictures of docs/measures.md (docs/images/measure-*.webp): `python -m tools.measurement_pictures`.

The head is samples/ge_head.zip, a real head without hemorrhage. Lesions are drawn into it, its brain is displaced and
it is rotated, so that the true values are known. All figures on the pictures are measured.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage
from scipy.spatial.transform import Rotation

import strokeseg
from strokeseg.followup import page, plane_pairs, sampling
from strokeseg.measurements.head import atlas, midplane
from strokeseg.measurements.head.coarse_head import sample_head
from strokeseg.measurements.head.inner_table import InnerTable
from strokeseg.measurements.head.ventricles import find_ventricles
from strokeseg.measurements.lesion.shape import diameter_mm
from strokeseg.outputs.images import midline_image, slice_images
from strokeseg.pipeline import Result
from strokeseg.result import ModelInfo, Timing
from strokeseg.scan import Planes, Scan
from strokeseg.segmentation import models
from strokeseg.segmentation.interval import volume_interval_ml

ROOT = Path(__file__).parent.parent
OUT = ROOT / "docs/images"
BLOOD_HU, NOISE_HU = 66, 4
INK, PAPER = (226, 232, 238), (12, 16, 22)
LONG, ACROSS, FLUID = (255, 120, 200), (120, 235, 140), (92, 190, 255)
GAP, LINE = 8, 22
HEAD = (0.1, 0.1, 0.9, 0.93)


def load_font(size=16):
    return ImageFont.load_default(size)


def make_tile(image, words=(), height=330, crop=None):
    """Crop a picture to shares (left, top, right, bottom), and add lines of text below."""
    if crop is not None:
        image = image.crop([round(part * side) for part, side in zip(crop, 2 * image.size, strict=True)])
    image = image.resize((round(image.width * height / image.height), height), Image.Resampling.LANCZOS)
    if crop is not None:
        draw = ImageDraw.Draw(image)
        for letter, left, anchor in (("R", 4, "lm"), ("L", image.width - 4, "rm")):
            draw.text((left, height * 0.25), letter, slice_images.LETTER_COLOUR, load_font(), anchor)
    whole = Image.new("RGB", (image.width, height + LINE * len(words)), PAPER)
    whole.paste(image)
    for number, text in enumerate(words):
        ImageDraw.Draw(whole).text((2, height + LINE * number + 2), text, INK, load_font())
    return whole


def join_tiles(*tiles):
    whole = Image.new("RGB", (sum(t.width + GAP for t in tiles) - GAP, max(t.height for t in tiles)), PAPER)
    left = 0
    for each in tiles:
        whole.paste(each, (left, 0))
        left += each.width + GAP
    return whole


class SampleHead:
    """The real head with the registered atlas."""

    def __init__(self):
        (self.scan,) = strokeseg.read(ROOT / "samples/ge_head.zip")
        head = sample_head(self.scan, np.zeros(self.scan.shape, dtype=bool))
        plane = midplane.find_midplane(head)
        self.fit = atlas.fit_atlas(head, plane, InnerTable.from_head(head))
        self.fluid = find_ventricles(head, self.fit).fluid
        self.template = self.map_to_template(compute_points_mm(self.scan.planes, self.scan.shape))

    def map_to_template(self, where):
        """Return template mm (x left, y forward, z up) and the depth below the skull, mm, shape (..., 4)."""
        points = self.fit.to_template_mm(where)
        points[..., 0] *= np.sign(self.fit.midplane.distance_mm(where))
        depth = -self.fit.distance_mm("inside", where)
        return np.concatenate([points, depth[..., None]], -1).astype(np.float32)

    def displace(self, shift_mm):
        """Displace the brain to the left, most at the septum and not at the skull."""
        _, y, z, depth = np.moveaxis(self.template, -1, 0)
        off = np.stack([(y - 3) / 66, (z - 8) / 56])
        push = shift_mm * (np.clip(1 - off**2, 0, None) ** 2).prod(0) * np.clip(depth / 25, 0, 1)
        planes, index = self.scan.planes, np.indices(self.scan.shape).astype(np.float32)
        row_mm, column_mm = planes.pixel_spacing_mm
        index[1] -= push * (self.fit.midplane.normal @ planes.column_cosine) / row_mm
        index[2] -= push * (self.fit.midplane.normal @ planes.row_cosine) / column_mm
        hu = ndimage.map_coordinates(self.scan.hu, index, np.float32, order=1, mode="nearest")
        return replace(self.scan, hu=np.rint(hu).astype(np.int16))

    def rotate(self, rotation, shift_mm):
        """Rotate the head, and resample it to slices of 5 mm without tilt; also return their template coordinates."""
        middle = self.fit.origin_mm
        size, step, pixel = 256, 5.0, 0.9
        first = middle + shift_mm - [(size - 1) / 2 * pixel, (size - 1) / 2 * pixel, 70]
        planes = Planes(
            first + np.arange(32)[:, None] * [0, 0, step], np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), (pixel, pixel)
        )
        shape = (32, size, size)
        own = (compute_points_mm(planes, shape) - middle - shift_mm) @ rotation + middle
        where = sampling.lps_to_indices(self.scan.planes, own.reshape(-1, 3))
        hu = sampling.interpolate_linear(self.scan.hu, where, -1000.0).reshape(shape)
        return Scan(np.rint(hu).astype(np.int16), planes), self.map_to_template(own)


def compute_points_mm(planes, shape):
    """Return every pixel's position, LPS mm, shape (slices, rows, columns, 3)."""
    return planes.to_lps_mm(np.indices(shape).reshape(3, -1).T).reshape(*shape, 3)


def mark_ellipsoid(template, centre, half, uneven=1.0):
    """Mark an ellipsoid with bumps at a position of the template."""
    off = (template[..., :3] - np.float32(centre)) / np.float32(half)
    angle = np.arctan2(off[..., 1], off[..., 0])
    return (off**2).sum(-1) < (1 + uneven * (0.1 * np.cos(3 * angle + 1) + 0.06 * np.sin(5 * angle))) ** 2


def mark_crescent(template, side, long=28.0, thick=9.0):
    """Mark a layer below the skull, on the left (1) or the right (-1)."""
    x, y, z, depth = np.moveaxis(template, -1, 0)
    return (depth > 1) & (depth < thick - (((y + 20) / long) ** 2 + ((z - 30) / 14) ** 2) * 4) & (side * x > 10)


def add_blood(scan, mask):
    """Add blood with the blurred edge of a CT to a scan."""
    share = np.stack([ndimage.gaussian_filter(plane.astype(np.float32), 1.2) for plane in mask])
    noise = np.random.default_rng(0).normal(0, NOISE_HU, mask.shape)
    return replace(scan, hu=np.rint(scan.hu + share * (BLOOD_HU + noise - scan.hu)).astype(np.int16))


def draw_volume(real):
    """Draw planimetry on slices of two thicknesses, and the interval."""
    mask = mark_ellipsoid(real.template, (27, 0, 4), (13, 20, 24))
    scan = add_blood(real.scan, mask)
    marked_slices = np.flatnonzero(mask.any((1, 2)))
    chosen_slices = marked_slices[np.linspace(0, len(marked_slices) - 1, 5).astype(int)][1:4]
    tiles = []
    for index in chosen_slices:
        cm2 = mask[index].sum() * scan.planes.pixel_area_mm2 / 100
        weight = scan.weights_mm[index]
        words = [f"{cm2:.1f} sq cm x {weight:.1f} mm = {cm2 * weight / 10:.1f} ml"]
        tiles.append(make_tile(slice_images.draw_key_slice(scan, mask, int(index)), words, crop=HEAD))
    findings = strokeseg.measure(scan, mask)
    # A synthetic probability map that falls off over 3 mm at the edge, as a network's does.
    share = np.stack([ndimage.gaussian_filter(plane.astype(np.float32), 3.0) for plane in mask])
    calibration = models.load_card("default").calibration.volume
    low, high, level, _ = volume_interval_ml(findings.volume_ml, share, mask, scan, calibration)
    tiles.append(draw_interval(findings.volume_ml, low, high, level, len(marked_slices), tiles[0].height))
    return join_tiles(*tiles)


def draw_interval(middle, low, high, level, slices, height):
    """Draw the volume with its interval as a vertical bar."""
    picture = Image.new("RGB", (190, height), PAPER)
    draw, most = ImageDraw.Draw(picture), 5 * np.ceil(high * 1.1 / 5)
    top, bottom, left = 40, height - 60, 44

    def at(ml):
        return bottom - (bottom - top) * ml / most

    for ml in np.linspace(0, most, 6):
        draw.line((left, at(ml), left + 6, at(ml)), INK)
        draw.text((left - 6, at(ml)), f"{ml:.0f}", INK, load_font(13), "rm")
    draw.line((left, top, left, bottom), INK)
    draw.text((left, top - 8), "ml", INK, load_font(13), "ms")
    draw.rectangle((left + 24, at(high), left + 44, at(low)), (70, 80, 92))
    draw.line((left + 18, at(middle), left + 50, at(middle)), slice_images.OUTLINE_COLOUR, 3)
    draw.text((left + 56, at(middle)), f"{middle:.1f} ml", slice_images.OUTLINE_COLOUR, load_font(), "lm")
    draw.text((left + 56, at(high)), f"{high:.1f}", INK, load_font(13), "lm")
    draw.text((left + 56, at(low)), f"{low:.1f}", INK, load_font(13), "lm")
    draw.text((8, height - 44), f"all {slices} slices added", INK, load_font(13))
    draw.text((8, height - 24), f"grey: interval at {level:.0%}", INK, load_font(13))
    return picture


def find_abc2_lines(scan, plane):
    """Find line A, the longest, and B, the longest unbroken one perpendicular to it; (2, 2) each, (row, column).

    B is found pixel by pixel, for display only; the figure is the measurement's own.
    """
    row_mm, column_mm = scan.planes.pixel_spacing_mm
    length, along = diameter_mm(plane, (row_mm, column_mm))
    rows, columns = np.nonzero(plane)
    mm = np.column_stack([rows * row_mm, columns * column_mm])
    far = mm @ along
    a = np.array([mm[far.argmin()], mm[far.argmax()]])
    across = np.array([-along[1], along[0]])
    best = np.zeros((2, 2))
    for point in mm[:: max(1, len(mm) // 400)]:
        reach = np.arange(-length, length, 0.2)
        at = np.rint((point + reach[:, None] * across) / (row_mm, column_mm)).astype(int)
        inside = plane[np.clip(at[:, 0], 0, plane.shape[0] - 1), np.clip(at[:, 1], 0, plane.shape[1] - 1)]
        parts, _ = ndimage.label(inside)
        own = np.flatnonzero(parts == parts[len(reach) // 2])
        if parts[len(reach) // 2] and np.ptp(reach[own]) > np.linalg.norm(best[1] - best[0]):
            best = point + reach[own[[0, -1]], None] * across
    return a / (row_mm, column_mm), best / (row_mm, column_mm)


def draw_abc2(real):
    """Draw A, B and C of a compact lesion, where ABC/2 is accurate, and of a crescent, where it is not."""
    compact = mark_ellipsoid(real.template, (30, -6, 10), (17, 21, 19), uneven=0.3)
    tiles = []
    for mask in (compact, mark_crescent(real.template, -1, 52, 10)):
        scan = add_blood(real.scan, mask)
        lesion = max(strokeseg.measure(scan, mask).lesions, key=lambda each: each.volume_ml)
        areas = mask.sum((1, 2))
        index = int(areas.argmax())
        image = slice_images.draw_key_slice(scan, mask, index)
        scale = image.width / mask.shape[2]
        for line, colour in zip(find_abc2_lines(scan, mask[index]), (LONG, ACROSS), strict=True):
            image = slice_images.draw_outlines(image, [(line[:, ::-1] + 0.5) * scale], colour, 5)
        share = areas / areas.max()
        counted = (share > 0.75) + 0.5 * ((share >= 0.25) & (share <= 0.75))
        words = [
            f"pink A, green B; C = {float(counted @ scan.weights_mm):.0f} mm",
            f"ABC/2 = {lesion.abc2_ml:.1f} ml, planimetry {lesion.volume_ml:.1f} ml",
        ]
        tiles.append(make_tile(image, words, crop=HEAD))
    return join_tiles(*tiles)


def draw_sides(real):
    """Draw side and location of lesions at known positions."""
    masks = [
        mark_ellipsoid(real.template, (27, 0, 4), (11, 15, 12)),
        mark_ellipsoid(real.template, (-38, 32, 28), (12, 14, 14)),
        mark_crescent(real.template, 1),
        mark_ellipsoid(real.template, (-24, -62, -36), (13, 13, 11)),
    ]
    tiles = []
    for mask in masks:
        scan = add_blood(real.scan, mask)
        findings = strokeseg.measure(scan, mask)
        lesion = findings.lesions[0]
        index = int(mask.sum((1, 2)).argmax())
        tiles.append(
            make_tile(
                slice_images.draw_key_slice(scan, mask, index),
                [f"{lesion.side}, {lesion.tentorium}", lesion.place],
                height=250,
                crop=HEAD,
            )
        )
    return join_tiles(*tiles)


def draw_shift(real):
    """Draw the ideal midline and the septum of the head, and of the head with its brain displaced by 9 mm."""
    mask = mark_ellipsoid(real.template, (-38, -4, 12), (15, 24, 20))
    scans = ((real.scan, np.zeros_like(mask)), (add_blood(real.displace(9.0), mask), mask))
    return join_tiles(
        *(make_tile(midline_image.draw_midline_shift(*each, strokeseg.measure(*each)), height=400) for each in scans)
    )


def draw_ventricles(real):
    """Draw the fluid of the ventricles, and blood that fills the left ventricle."""
    scan = real.scan
    step, pixel = sample_head(scan, np.zeros(scan.shape, dtype=bool)).samples.slice_step, 4
    fluid = np.zeros(scan.shape, dtype=bool)
    whole = real.fluid.repeat(pixel, 1).repeat(pixel, 2)
    assert step == 1
    fluid[:, : whole.shape[1], : whole.shape[2]] = whole
    dark = ndimage.gaussian_filter(scan.hu.astype(np.float32), (0, 1, 1)) < 20
    x, y = real.template[..., 0], real.template[..., 1]
    horns = fluid & dark & (x > 1.5) & (x < 20) & (y > -32)
    mask = ndimage.binary_opening(horns, np.ones((1, 3, 3)))
    filled = add_blood(real.scan, mask)
    findings = strokeseg.measure(filled, mask)
    index = int(mask.sum((1, 2)).argmax())
    before = slice_images.draw_key_slice(scan, np.zeros_like(mask), index)
    before = slice_images.draw_outlines(
        before, slice_images.trace_outlines(scan, fluid[index] & dark[index], before.size), FLUID
    )
    share = f"{findings.ventricular_share:.0%}"
    return join_tiles(
        make_tile(before, ["blue: fluid of the ventricles"], crop=HEAD),
        make_tile(
            slice_images.draw_key_slice(filled, mask, index),
            [f"{findings.intraventricular_ml:.1f} ml of blood in them, {share}"],
            crop=HEAD,
        ),
    )


def draw_growth(real):
    """Draw a lesion that grew, in a head with another position on the later scan."""
    centre, half = np.array((-28, -4, 6)), np.array((12, 18, 14))
    early = mark_ellipsoid(real.template, centre, half)
    scan, template = real.rotate(Rotation.from_euler("zyx", (14, -4, 6), degrees=True).as_matrix(), (6, -8, 5))
    late = mark_ellipsoid(template, centre, 1.2 * half)
    sides = [make_result(add_blood(*side), side[1]) for side in ((real.scan, early), (scan, late))]
    comparison = strokeseg.compare(*sides)
    slices = plane_pairs.choose_slices(*sides, comparison.alignment, comparison.change)[-1:]
    image = plane_pairs.draw_pair(plane_pairs.make_plane_pairs(*sides, comparison.alignment, slices), 0)
    return make_tile(image, [page.summarize(comparison.change)], height=400)


def make_result(scan, mask):
    """Build the result of a network that outlines all of the blood."""
    info = ModelInfo(name="drawn", version="1", sha256="0" * 64, engine="none", precision="none", threshold=0.5)
    return Result(scan, mask.astype(np.float16), mask, strokeseg.measure(scan, mask), info, Timing())


PICTURES = {
    "volume": draw_volume,
    "abc2": draw_abc2,
    "place": draw_sides,
    "midline": draw_shift,
    "ventricles": draw_ventricles,
    "growth": draw_growth,
}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    real = SampleHead()
    for name, draw in PICTURES.items():
        path = OUT / f"measure-{name}.webp"
        image = draw(real)
        image.save(path, quality=82, method=6)
        print(path.relative_to(ROOT), image.size, path.stat().st_size)


if __name__ == "__main__":
    main()
