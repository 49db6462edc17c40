"""Draw or find inputs that show no head: bodies, phantoms, other modalities, maps, screenshots, photographs, charts."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy import ndimage, spatial

Plane = NDArray[np.float64]
Draw = Callable[[np.random.Generator, Path], Path]

HELD_OUT = ("limbs and necks", "radiographs", "charts and text", "files of packages")
"""Kinds that were neither looked at nor used while the model was made; fixed before it was fitted."""
_PACKAGES = {
    "pydicom": ("data/test_files", (".dcm",)),
    "pynetdicom": ("tests/dicom_files", (".dcm",)),
    "nibabel": ("tests/data", (".nii", ".nii.gz", ".hdr")),
    "nilearn": ("datasets/data", (".nii.gz",)),
    "skimage": ("data", (".png", ".jpg", ".tif")),
}
_HEADS = ("693_J2KI.dcm", "J2K_pixelrep_mismatch.dcm")  # files of pydicom: CT of a head, by their headers


def write_kind(kind: str, folder: Path, count: int) -> Iterator[Path]:
    """Write inputs of one kind.

    Parameters
    ----------
    kind : str
        One of :data:`KINDS`.
    folder : Path
        Empty folder to write into.
    count : int
        Number of inputs.

    Yields
    ------
    Path
        An input: a file, or a folder of pictures.
    """
    if kind == "files of packages":
        yield from find_package_files()[:count]
        return
    yield from (draw(kind, number, folder) for number in range(count))


def draw(kind: str, seed: int, folder: Path) -> Path:
    """Draw one input of a kind into a folder; the seed is its number."""
    return KINDS[kind](np.random.default_rng([seed, sum(kind.encode())]), folder / f"{seed:04d}")


def find_package_files() -> list[Path]:
    """Find the images that installed packages hold, except CT of a head."""
    found = []
    for package, (inside, endings) in _PACKAGES.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        paths = sorted((Path(spec.origin).parent / inside).iterdir())
        found += [path for path in paths if path.name.lower().endswith(endings) and path.name not in _HEADS]
    return found


def _save_volume(hu: NDArray[np.float64], spacing_mm: tuple[float, float, float], path: Path) -> Path:
    """Write (slice, row, column) as NIfTI; the spacing in the same order."""
    path = path.with_suffix(".nii.gz")
    affine = np.diag([-spacing_mm[2], -spacing_mm[1], spacing_mm[0], 1.0])
    nib.Nifti1Image(np.rint(hu).clip(-3000, 30000).astype(np.int16).transpose(2, 1, 0), affine).to_filename(path)
    return path


def _save_picture(values: NDArray[np.float64], path: Path) -> Path:
    """Write values 0 to 1 as an 8-bit picture."""
    path = path.with_suffix(".png")
    Image.fromarray((values.clip(0, 1) * 255).astype(np.uint8)).save(path)
    return path


def _save_scan(
    rng: np.random.Generator, draw_slice: Callable[[float], Plane], height_mm: float, pixel_mm: float, path: Path
) -> Path:
    """Save one slice or a volume in Hounsfield units, or one slice as a picture through a window."""
    form = rng.integers(4)
    if form == 0:
        centre, width = [(40.0, 80.0), (40.0, 120.0), (40.0, 400.0), (50.0, 350.0), (128.0, 256.0)][rng.integers(5)]
        return _save_picture((draw_slice(rng.uniform(0, 1)) - centre + width / 2) / width, path)
    count = 1 if form == 1 else int(rng.integers(6, 16))
    hu = np.stack([draw_slice(place) for place in np.linspace(0, 1, count)])
    return _save_volume(hu, (height_mm / count, pixel_mm, pixel_mm), path)


def _make_grid(side: int, pixel_mm: float) -> tuple[Plane, Plane]:
    """Return the rows' and columns' distances from the centre, mm."""
    across = (np.arange(side) - side / 2 + 0.5) * pixel_mm
    rows, columns = np.meshgrid(across, across, indexing="ij")
    return rows, columns


def _measure_ellipse(rows: Plane, columns: Plane, centre: tuple[float, float], half: tuple[float, float]) -> Plane:
    """Return the distance from an ellipse's centre, 1 on its edge."""
    return np.hypot((rows - centre[0]) / half[0], (columns - centre[1]) / half[1])


def _add_texture(rng: np.random.Generator, hu: Plane, blur_px: float = 0.7) -> Plane:
    noise = ndimage.gaussian_filter(rng.normal(0, 1, hu.shape), rng.uniform(0.3, 1.2))
    return ndimage.gaussian_filter(hu, blur_px) + rng.uniform(3, 25) * noise / noise.std()


def _draw_spine(rows: Plane, columns: Plane, hu: Plane, row: float, size: float) -> None:
    body = _measure_ellipse(rows, columns, (row, 0), (size * 0.8, size))
    hu[body < 1], hu[body < 0.85] = 600, 220
    hu[_measure_ellipse(rows, columns, (row + 1.7 * size, 0), (size * 0.9, size * 0.9)) < 1] = 550
    hu[_measure_ellipse(rows, columns, (row + 1.5 * size, 0), (size * 0.5, size * 0.55)) < 1] = 30
    for side in (-1, 1):
        hu[_measure_ellipse(rows, columns, (row + 1.6 * size, side * 1.6 * size), (3, size * 0.8)) < 1] = 450


def _draw_wall(
    rng: np.random.Generator, rows: Plane, columns: Plane, half: tuple[float, float], fat_mm: float
) -> tuple[Plane, Plane]:
    """Draw skin, fat and muscle; return the picture and the distance from the inner wall."""
    outside = _measure_ellipse(rows, columns, (0, 0), half)
    hu = np.where(outside < 1, rng.uniform(-115, -85), -1000.0)
    hu[(outside < 1) & (outside > 0.985)] = 20
    muscle = _measure_ellipse(rows, columns, (0, 0), (half[0] - fat_mm, half[1] - fat_mm))
    hu[muscle < 1] = rng.uniform(40, 65)
    return hu, _measure_ellipse(rows, columns, (0, 0), (half[0] - fat_mm - 14, half[1] - fat_mm - 14))


def _draw_blobs(
    rng: np.random.Generator, rows: Plane, columns: Plane, hu: Plane, where: NDArray[np.bool_], count: int, level: float
) -> None:
    for _ in range(count):
        centre = (rng.uniform(rows.min(), rows.max()) * 0.5, rng.uniform(columns.min(), columns.max()) * 0.5)
        half = (rng.uniform(8, 35), rng.uniform(8, 35))
        blob = where & (_measure_ellipse(rows, columns, centre, half) < 1)
        hu[blob] = level + rng.uniform(-15, 15)


def draw_chest(rng: np.random.Generator, path: Path) -> Path:
    """Draw a chest: ribs, lungs, heart, spine, arms beside it or not."""
    pixel_mm, side = rng.uniform(1.6, 2.6), 192
    half = (rng.uniform(95, 130), rng.uniform(130, 190))
    fat_mm, ribs, seed = rng.uniform(5, 30), rng.integers(7, 13), int(rng.integers(2**31))
    heart, vessels = rng.uniform(0.35, 0.6), rng.uniform() < 0.5
    rows, columns = _make_grid(side, pixel_mm)

    def draw_slice(place: float) -> Plane:
        own = np.random.default_rng([seed, int(place * 1000)])
        hu, wall = _draw_wall(own, rows, columns, half, fat_mm)
        angle = np.arctan2(rows / half[0], columns / half[1])
        hu[(wall > 0.97) & (wall < 1.07) & (np.cos(ribs * angle + 9 * place) > own.uniform(-0.2, 0.4))] = 450
        for sign in (-1, 1):
            lung = _measure_ellipse(rows, columns, (-5, sign * half[1] * 0.42), (half[0] * 0.62, half[1] * 0.34))
            hu[lung < 1] = own.uniform(-880, -780)
        middle = _measure_ellipse(rows, columns, (-10, 12), (half[0] * heart, half[1] * heart * 0.7))
        hu[middle < 1] = own.uniform(130, 250) if vessels else own.uniform(35, 55)
        _draw_spine(rows, columns, hu, half[0] * 0.42, own.uniform(15, 20))
        return _add_texture(own, hu)

    return _save_scan(rng, draw_slice, rng.uniform(60, 350), pixel_mm, path)


def draw_abdomen(rng: np.random.Generator, path: Path) -> Path:
    """Draw an abdomen or a pelvis: organs with or without contrast medium in fat, ribs or a pelvic ring, a spine."""
    pixel_mm, side = rng.uniform(1.5, 2.5), 192
    half = (rng.uniform(85, 140), rng.uniform(120, 195))
    fat_mm, seed, is_pelvis = rng.uniform(4, 40), int(rng.integers(2**31)), rng.uniform() < 0.35
    organs = rng.uniform(35, 130)
    rows, columns = _make_grid(side, pixel_mm)

    def draw_slice(place: float) -> Plane:
        own = np.random.default_rng([seed, int(place * 1000)])
        hu, wall = _draw_wall(own, rows, columns, half, fat_mm)
        inside = wall < 0.95
        hu[inside] = -95 if own.uniform() < 0.7 else 35
        _draw_blobs(own, rows, columns, hu, inside, int(own.integers(10, 40)), organs)
        liver = _measure_ellipse(rows, columns, (-15, -half[1] * 0.35), (half[0] * 0.6, half[1] * 0.45))
        hu[inside & (liver < 1)] = organs
        _draw_blobs(own, rows, columns, hu, inside, int(own.integers(0, 8)), -600)
        angle = np.arctan2(rows / half[0], columns / half[1])
        if is_pelvis:
            hu[(wall > 0.72) & (wall < 0.85) & (np.abs(columns) > 30)] = 500
        else:
            ribs = np.cos(own.integers(7, 13) * angle + 9 * place) > own.uniform(0, 0.6)
            hu[(wall > 0.96) & (wall < 1.06) & ribs] = 450
        _draw_spine(rows, columns, hu, half[0] * 0.4, own.uniform(17, 23))
        return _add_texture(own, hu)

    return _save_scan(rng, draw_slice, rng.uniform(60, 350), pixel_mm, path)


def draw_limb(rng: np.random.Generator, path: Path) -> Path:
    """Draw an arm, a thigh, a knee, both legs or a neck."""
    pixel_mm, side = rng.uniform(0.5, 1.6), 192
    extent = side * pixel_mm / 2
    part, seed = rng.integers(4), int(rng.integers(2**31))
    rows, columns = _make_grid(side, pixel_mm)

    def draw_one(own: np.random.Generator, hu: Plane, centre: tuple[float, float], radius: float) -> None:
        limb = _measure_ellipse(rows, columns, centre, (radius, radius * own.uniform(0.85, 1.15)))
        hu[limb < 1], hu[limb < own.uniform(0.7, 0.93)] = -95, own.uniform(45, 65)
        for _ in range(int(own.integers(1, 3))):
            at = (centre[0] + own.uniform(-0.25, 0.25) * radius, centre[1] + own.uniform(-0.25, 0.25) * radius)
            bone = _measure_ellipse(rows, columns, at, (radius * own.uniform(0.15, 0.5),) * 2)
            hu[bone < 1] = 1200
            hu[bone < own.uniform(0.5, 0.92)] = own.choice([-60.0, 40.0, 250.0])

    def draw_slice(place: float) -> Plane:
        own = np.random.default_rng([seed, int(place * 1000)])
        hu = np.full(rows.shape, -1000.0)
        if part == 3:
            neck = _measure_ellipse(rows, columns, (0, 0), (extent * 0.6, extent * 0.65))
            hu[neck < 1], hu[neck < 0.88] = -90, 55
            hu[_measure_ellipse(rows, columns, (-extent * 0.25, 0), (9, 10)) < 1] = -1000
            _draw_spine(rows, columns, hu, 0, own.uniform(9, 13))
        else:
            places = [-0.45, 0.45] if part == 2 else [0.0]
            for offset in places:
                draw_one(own, hu, (0.0, offset * extent), extent * (0.38 if part == 2 else own.uniform(0.5, 0.85)))
        return _add_texture(own, hu)

    return _save_scan(rng, draw_slice, rng.uniform(40, 300), pixel_mm, path)


def draw_phantom(rng: np.random.Generator, path: Path) -> Path:
    """Draw a phantom: water or plastic, in a shell or not, with rods, bars or a ring of teeth."""
    pixel_mm, side = rng.uniform(0.7, 1.3), 192
    radius = rng.uniform(0.35, 0.9) * side * pixel_mm / 2
    body, shell = rng.choice([-100.0, 0.0, 0.0, 5.0, 90.0, 120.0]), rng.choice([0.0, 120.0, 350.0, 900.0])
    seed, design, rods = int(rng.integers(2**31)), rng.integers(4), int(rng.integers(0, 9))
    rows, columns = _make_grid(side, pixel_mm)

    def draw_slice(place: float) -> Plane:
        own = np.random.default_rng([seed, int(place * 1000)])
        hu = np.full(rows.shape, -1000.0)
        disc = np.hypot(rows, columns) / radius
        hu[disc < 1], hu[disc < 0.94] = shell, body
        if design == 1:
            hu[(np.abs(rows) < radius * 0.6) & (np.abs(columns) < radius * 0.6) & ((columns // 6) % 2 == 0)] = 900
        if design == 2:
            hu[disc < 0.94] = -1000
        fixed = np.random.default_rng(seed)
        for number in range(rods):
            angle, size = 2 * np.pi * number / rods, fixed.uniform(0.05, 0.2) * radius
            at = (0.6 * radius * np.sin(angle), 0.6 * radius * np.cos(angle))
            value = fixed.choice([-1000.0, -200.0, -35.0, 30.0, 60.0, 120.0, 340.0, 990.0])
            hu[_measure_ellipse(rows, columns, at, (size, size)) < 1] = value
        if design == 3:
            hu[(disc > 0.7) & (disc < 0.8)] = 700
        return _add_texture(own, hu, 0.5)

    return _save_scan(rng, draw_slice, rng.uniform(20, 200), pixel_mm, path)


@cache
def _read_template() -> tuple[Plane, Plane, Plane]:
    """Return grey matter, white matter (0 to 1) and the distance from the brain in mm, (slice, row, column) at 2 mm.

    They are of the ICBM 152 template in nilearn, or of a drawn brain without nilearn.
    """
    spec = importlib.util.find_spec("nilearn")
    if spec is not None and spec.origin is not None:
        folder, name = Path(spec.origin).parent / "datasets/data", "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
        maps = [nib.load(folder / name.format(tissue)).get_fdata() for tissue in ("gm", "wm")]  # type: ignore[attr-defined]
        grey, white = (each[::2, ::2, ::2].transpose(2, 1, 0)[:, ::-1] / each.max() for each in maps)
    else:
        z, y, x = np.mgrid[-1:1:90j, -1:1:110j, -1:1:100j]
        brain = (x**2 + y**2 + z**2 < 0.8).astype(float)
        grey, white = brain * (0.5 + 0.5 * np.sin(12 * x) * np.cos(9 * y)), brain * 0.3
    near = ndimage.binary_closing(grey + white > 0.1, iterations=2)
    return grey, white, 2 * ndimage.distance_transform_edt(~near)


def draw_mr(rng: np.random.Generator, path: Path) -> Path:
    """Draw magnetic resonance of a head: bright or dark fat, a dark skull, brain with any contrast, a smooth bias."""
    grey, white, out = _read_template()
    levels = rng.uniform(0.15, 1, 3)  # of grey and white matter and fluid
    fluid = np.clip(1 - grey - white, 0, 1) * (out < 4)
    values = levels[0] * grey + levels[1] * white + levels[2] * fluid
    values += rng.uniform(0, 0.08) * ((out >= 4) & (out < 9))
    values += rng.choice([0.05, 0.4, 1.3]) * ((out >= 9) & (out < rng.uniform(12, 20))) * (rng.uniform() < 0.75)
    bias = ndimage.gaussian_filter(rng.normal(0, 1, (6, 6, 6)), 1)
    bias = ndimage.zoom(bias / max(1e-6, np.abs(bias).max()), np.array(values.shape) / 6, order=1)
    values = np.abs(values * (1 + rng.uniform(0, 0.4) * bias) + rng.normal(0, rng.uniform(0.005, 0.05), values.shape))
    first = int(rng.integers(15, 75))
    if rng.uniform() < 0.5:
        plane = ndimage.zoom(values[first], 2, order=1)
        return _save_picture(plane / np.percentile(plane, 99.5), path)
    scale = float(rng.choice([100, 255, 800, 2000, 4000]))
    sampled = values[5:90:3] if rng.uniform() < 0.7 else values[first : first + 1]
    sampled = ndimage.zoom(sampled, (1, 2, 2), order=1)
    return _save_volume(scale * sampled, (6.0, 1.0, 1.0), path)


def draw_map(rng: np.random.Generator, path: Path) -> Path:
    """Draw a map of labels or probabilities of a brain: an atlas, a tissue map, a mask, a statistic."""
    grey, white, _ = _read_template()
    design, brain = rng.integers(5), grey + white > 0.2
    if design == 0:
        values = 255 * (grey if rng.uniform() < 0.5 else white)
    elif design == 1:
        seeds = rng.uniform(0, 1, (int(rng.integers(10, 200)), 3)) * brain.shape
        places = np.stack(np.nonzero(brain), 1)
        values = np.zeros(brain.shape)
        values[tuple(places.T)] = (1 + spatial.KDTree(seeds).query(places)[1]) * rng.uniform(1, 6)
    elif design == 2:
        values = np.float64(rng.choice([1, 40, 100, 255])) * brain.astype(np.float64)
    elif design == 3:
        noise = ndimage.gaussian_filter(rng.normal(0, 1, brain.shape), 5)
        values = rng.uniform(3, 60) * noise / noise.std() * brain
    else:
        values = 3.0 * (grey > 0.5) + 2.0 * (white > 0.5) + 1.0 * (brain & (grey < 0.5) & (white < 0.5))
        values *= rng.uniform(1, 40)
    if rng.uniform() < 0.3:
        plane = values[int(rng.integers(20, 60))].repeat(2, 0).repeat(2, 1)
        return _save_picture(plane / max(1e-6, plane.max()), path)
    return _save_volume(values[5:90:3].repeat(2, 1).repeat(2, 2), (6.0, 1.0, 1.0), path)


def draw_screenshot(rng: np.random.Generator, path: Path) -> Path:
    """Draw a screenshot of a viewer: tool bars, panels with round or textured pictures, text."""
    width, height = int(rng.integers(500, 1400)), int(rng.integers(350, 900))
    image = Image.new("L", (width, height), int(rng.choice([0, 20, 45, 240])))
    draw = ImageDraw.Draw(image)
    count_x, count_y = int(rng.integers(1, 4)), int(rng.integers(1, 3))
    top = int(rng.integers(0, 80))
    for x in range(count_x):
        for y in range(count_y):
            box = (
                x * width // count_x + 4,
                top + y * (height - top) // count_y + 4,
                (x + 1) * width // count_x - 4,
                top + (y + 1) * (height - top) // count_y - 4,
            )
            side = max(8, min(box[2] - box[0], box[3] - box[1]))
            noise = ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), rng.uniform(1, 9))
            rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
            distance = np.hypot(rows / rng.uniform(0.5, 0.9), columns / rng.uniform(0.5, 0.9))
            picture = np.where(distance < 1, rng.uniform(60, 150) + 40 * noise / noise.std(), 0)
            picture[(distance > rng.uniform(0.75, 0.95)) & (distance < 1)] = rng.choice([60, 160, 255])
            patch = Image.fromarray(picture.clip(0, 255).astype(np.uint8))
            image.paste(patch, ((box[0] + box[2] - side) // 2, (box[1] + box[3] - side) // 2))
            draw.rectangle(box, outline=int(rng.integers(60, 255)), width=int(rng.integers(1, 4)))
    for _ in range(int(rng.integers(5, 30))):
        at = (int(rng.integers(0, width)), int(rng.integers(0, height)))
        draw.text(at, "".join(chr(c) for c in rng.integers(65, 91, 12)), fill=int(rng.integers(120, 256)))
    return _save_picture(np.asarray(image, float) / 255, path)


def draw_pattern(rng: np.random.Generator, path: Path) -> Path:
    """Draw a test pattern: bars, rings, a zone plate, a checkerboard, ramps, or noise."""
    side, design = int(rng.integers(200, 700)), rng.integers(8)
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    radius = np.hypot(rows, columns)
    if design == 0:
        values = 0.5 + 0.5 * np.cos(rng.uniform(20, 200) * radius**2)
    elif design == 1:
        values = ((rows * rng.integers(3, 20)).astype(int) + (columns * rng.integers(3, 20)).astype(int)) % 2 * 1.0
    elif design == 2:
        values = np.floor(rng.integers(4, 18) * (columns + 1) / 2) / 18
    elif design == 3:
        values = rng.uniform(0, 1, radius.shape)
    elif design == 4:
        values = ndimage.gaussian_filter(rng.normal(0, 1, radius.shape), rng.uniform(1, 30))
        values = (values - values.min()) / np.ptp(values)
    elif design == 5:
        values = np.where(radius < 0.9, rng.uniform(0.2, 0.7), 0.0)
        values[(radius > 0.85) & (radius < 0.9)] = 1
        values[(np.abs(rows) < 0.5) & (np.abs(columns) < 0.5)] = np.round(4 * columns[0][None] + 4)[0].mean() / 8
        for number in range(8):
            at = 0.65 * np.array([np.sin(number * np.pi / 4), np.cos(number * np.pi / 4)])
            values[np.hypot(rows - at[0], columns - at[1]) < 0.1] = number / 7
    elif design == 6:
        values = 0.5 + 0.5 * np.sign(np.sin(rng.uniform(10, 80) * radius))
    else:
        values = np.full(radius.shape, 0.45)
        values[(np.abs(rows) > 0.8) | (np.abs(columns) > 0.8)] = 1
        for step in np.linspace(-0.7, 0.7, 11):
            values[(np.abs(columns - step) < 0.05) & (np.abs(rows) < 0.1)] = (step + 0.7) / 1.4
    return _save_picture(values + rng.normal(0, rng.choice([0, 0.02]), values.shape), path)


def draw_photograph(rng: np.random.Generator, path: Path) -> Path:
    """Draw what a camera sees: faces, plates, fruit, clouds, or a part of a photograph of scikit-learn."""
    side, design = int(rng.integers(200, 600)), rng.integers(3)
    spec = importlib.util.find_spec("sklearn")
    if design == 0 and spec is not None and spec.origin is not None:
        name = str(rng.choice(["china.jpg", "flower.jpg"]))
        image = Image.open(Path(spec.origin).parent / "datasets/images" / name).convert("L")
        left, top = int(rng.integers(0, 340)), int(rng.integers(0, 127))
        return _save_picture(np.asarray(image.crop((left, top, left + 300, top + 300)), float) / 255, path)
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    cloud = ndimage.gaussian_filter(rng.normal(0, 1, (side, side)), side / rng.uniform(8, 40))
    cloud /= cloud.std()
    values = 0.3 + 0.12 * cloud
    for _ in range(int(rng.integers(1, 6)) if design == 1 else 1):
        half = rng.uniform(0.2, 0.8, 2)
        distance = _measure_ellipse(
            rows, columns, (float(rng.uniform(-0.4, 0.4)), float(rng.uniform(-0.4, 0.4))), (half[0], half[1])
        )
        light = rng.uniform(0.3, 0.9) * np.sqrt(np.clip(1.3 - (distance**2), 0, None))
        values = np.where(distance < 1, light * (1 + 0.1 * cloud), values)
        if rng.uniform() < 0.5:
            values[(distance > rng.uniform(0.8, 0.95)) & (distance < 1)] = rng.uniform(0.7, 1)
    if design == 2:
        for sign in (-1, 1):
            values[_measure_ellipse(rows, columns, (-0.1, sign * 0.2), (0.05, 0.1)) < 1] = 0.1
        values[_measure_ellipse(rows, columns, (0.25, 0), (0.04, 0.18)) < 1] = 0.2
    return _save_picture(values, path)


def draw_radiograph(rng: np.random.Generator, path: Path) -> Path:
    """Draw a radiograph or a localizer: a chest, a hand, a skull from the front or the side; as HU or as a picture."""
    side, design = int(rng.integers(250, 500)), rng.integers(4)
    rows, columns = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]

    def thickness(centre: tuple[float, float], half: tuple[float, float]) -> Plane:
        return np.sqrt(np.clip(1 - _measure_ellipse(rows, columns, centre, half) ** 2, 0, None))

    if design == 0:
        values = thickness((0.2, 0), (1.3, 0.85)) * 0.8
        for sign in (-1, 1):
            values -= 0.5 * thickness((-0.05, sign * 0.4), (0.6, 0.28))
            for rib in np.linspace(-0.6, 0.5, 9):
                near = np.abs(rows - rib - 0.25 * (columns * sign) ** 2)
                values += 0.1 * (near < 0.025) * (columns * sign > 0.08) * (np.abs(columns) < 0.7)
        values += 0.35 * (np.abs(columns) < 0.08)
    elif design == 1:
        values = np.zeros(rows.shape)
        for finger in np.linspace(-0.6, 0.6, 5):
            values += 0.25 * (np.abs(columns - finger * (0.6 - 0.5 * rows)) < 0.1) * (rows > -0.85) * (rows < 0.2)
            values += 0.5 * (np.abs(columns - finger * (0.6 - 0.5 * rows)) < 0.045) * (rows > -0.8) * (rows < 0.3)
        values += 0.6 * thickness((0.5, 0), (0.4, 0.45))
    else:
        half = (0.8, 0.62) if design == 2 else (0.65, 0.8)
        outer = thickness((-0.1, 0), half)
        inner = thickness((-0.1, 0), (half[0] - 0.05, half[1] - 0.05))
        values = 0.4 * outer + 1.4 * (outer - inner)
        values += 0.4 * thickness((0.45, 0.1), (0.3, 0.3)) + 0.3 * (np.abs(columns) < 0.1) * (rows > 0.5)
        for sign in (-1, 1):
            values -= 0.25 * thickness((0.15, sign * 0.25), (0.14, 0.16))
    values = ndimage.gaussian_filter(values, 1) + rng.normal(0, 0.02, values.shape)
    values = (values - values.min()) / np.ptp(values)
    if rng.uniform() < 0.2:
        values = 1 - values
    if rng.uniform() < 0.5:
        return _save_picture(values, path)
    low, high = float(rng.choice([-1024, -200, -100])), float(rng.choice([200, 800, 1500]))
    return _save_volume((low + (high - low) * values)[None], (5.0, 0.6, 0.6), path)


def draw_chart(rng: np.random.Generator, path: Path) -> Path:
    """Draw a page of text, a table, a pie, a plot, or a form."""
    width, height = int(rng.integers(300, 900)), int(rng.integers(300, 900))
    paper, ink = (255, 0) if rng.uniform() < 0.6 else (0, 255)
    image = Image.new("L", (width, height), paper)
    draw = ImageDraw.Draw(image)
    design = rng.integers(5)
    if design == 0:
        for y in range(20, height - 20, int(rng.integers(12, 22))):
            draw.text((20, y), "".join(chr(c) for c in rng.integers(97, 123, width // 8)), fill=ink)
    elif design == 1:
        for x in range(10, width, int(rng.integers(40, 120))):
            draw.line((x, 10, x, height - 10), fill=ink)
        for y in range(10, height, int(rng.integers(18, 60))):
            draw.line((10, y, width - 10, y), fill=ink)
            draw.text((14, y + 2), str(rng.integers(10**6)), fill=ink)
    elif design == 2:
        side, start = min(width, height), 0.0
        for part in rng.dirichlet(np.ones(int(rng.integers(2, 9)))):
            shade = int(rng.integers(40, 230))
            draw.pieslice((20, 20, side - 20, side - 20), start, start + 360 * part, fill=shade, outline=ink, width=4)
            start += 360 * part
    elif design == 3:
        draw.rectangle((40, 20, width - 20, height - 40), outline=ink, width=3)
        for _ in range(int(rng.integers(1, 5))):
            curve = (height / 2 + np.cumsum(rng.normal(0, height / 40, 60))).tolist()
            points = [(40 + i * (width - 60) / 59, value) for i, value in enumerate(curve)]
            draw.line(points, fill=int(rng.integers(60, 200)), width=3)
    else:
        for x in range(50, width - 60, 50):
            top = int(rng.integers(40, height - 60))
            draw.rectangle((x, top, x + 35, height - 40), fill=int(rng.integers(60, 200)), outline=ink, width=2)
        draw.ellipse((30, 20, width - 30, height - 20), outline=ink, width=int(rng.integers(2, 12)))
    return _save_picture(np.asarray(image, float) / 255, path)


KINDS: dict[str, Draw] = {
    "chests": draw_chest,
    "abdomens and pelvises": draw_abdomen,
    "phantoms": draw_phantom,
    "magnetic resonance": draw_mr,
    "label and probability maps": draw_map,
    "screenshots": draw_screenshot,
    "test patterns and noise": draw_pattern,
    "photographs": draw_photograph,
    "limbs and necks": draw_limb,
    "radiographs": draw_radiograph,
    "charts and text": draw_chart,
    "files of packages": lambda rng, path: find_package_files()[int(path.name)],
}
"""The kinds by name, each drawn from a random generator into a path without an ending."""
