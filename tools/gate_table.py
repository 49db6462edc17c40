"""Write the table of docs/gate.md: the analytic head, as scanners and exports give it, by StrokeSeg and by others.

`make gate-table`. Every reader gets the same DICOM files; the bleed is the largest piece between 50 and 100 HU in
what it gives back, its volume and centre by that reader's own spacing and affine. The truth is the ellipsoid's formula.
"""

import contextlib
import logging
import sys
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import dicom2nifti
import nibabel
import numpy as np
import SimpleITK
from dicom2nifti import settings
from dicom2nifti.exceptions import ConversionError, ConversionValidationError
from scipy import ndimage

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from phantoms import head_series  # noqa: E402
from strokeseg.errors import InputError  # noqa: E402
from strokeseg.reading import read_one  # noqa: E402

PAGE = ROOT / "docs/gate.md"
EVEN = tuple(np.arange(-56.0, 62.0, 2.5))
GEOMETRY = head_series.Geometry(z_mm=EVEN, shape=(132, 116), spacing_mm=(1.5, 1.45))
Bleed = tuple[float, np.ndarray]


def bleed(values: np.ndarray, voxel_ml: float, to_lps: Callable[[np.ndarray], np.ndarray]) -> Bleed:
    """Measure the largest connected piece: where a reader interpolates, the skull's rim has values of blood too."""
    pieces, _ = ndimage.label((values > 50) & (values < 100))
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    marked = np.argwhere(pieces == max(1, int(sizes.argmax())))
    return len(marked) * voxel_ml, to_lps(marked.mean(axis=0)) if len(marked) else np.full(3, np.inf)


def by_strokeseg(folder: Path) -> Bleed:
    return head_series.measure_lesion(read_one(folder))


def by_simpleitk(folder: Path) -> Bleed:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    values = SimpleITK.GetArrayFromImage(image)

    def to_lps(index: np.ndarray) -> np.ndarray:
        return np.array(image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index[::-1]]))

    return bleed(values, float(np.prod(image.GetSpacing())) / 1000, to_lps)


def by_dicom2nifti(folder: Path) -> Bleed:
    with tempfile.TemporaryDirectory() as out:
        file = Path(out) / "head.nii.gz"
        dicom2nifti.dicom_series_to_nifti(str(folder), str(file), reorient_nifti=False)
        image = nibabel.load(file)
        values = image.get_fdata()
    affine = image.affine
    return bleed(
        values,
        abs(float(np.linalg.det(affine))) / 1000,
        lambda index: nibabel.affines.apply_affine(affine, index) * [-1, -1, 1],
    )


def by_dicom2nifti_resampled(folder: Path) -> Bleed:
    """With its checks off and its resampling on, as its README has it for tilted and uneven series."""
    checks = ("orthogonal", "slice_increment", "slicecount")
    for check in checks:
        getattr(settings, f"disable_validate_{check}")()
    settings.enable_resampling()
    settings.set_resample_spline_interpolation_order(1)
    settings.set_resample_padding(-1000)
    try:
        return by_dicom2nifti(folder)
    finally:
        settings.disable_resampling()
        for check in checks:
            getattr(settings, f"enable_validate_{check}")()


READERS = {
    "StrokeSeg": by_strokeseg,
    "SimpleITK": by_simpleitk,
    "dicom2nifti": by_dicom2nifti,
    "dicom2nifti, resampling": by_dicom2nifti_resampled,
}


def series(folder: Path, geometry: head_series.Geometry, **options: object) -> Path:
    return head_series.write_series(folder, head_series.make_datasets(geometry), **options)


def with_missing(folder: Path, geometry: head_series.Geometry) -> Path:
    return series(folder, replace(geometry, z_mm=tuple(z for z in geometry.z_mm if not -40 < z < -34)))


def with_twins(folder: Path, geometry: head_series.Geometry) -> Path:
    series(folder, geometry)
    for number in (20, 21):
        (folder / f"twin{number}.dcm").write_bytes((folder / f"IM{number:04}.dcm").read_bytes())
    return folder


def with_scout(folder: Path, geometry: head_series.Geometry) -> Path:
    series(folder, geometry)
    head_series.write(head_series.make_localizer(), folder / "scout.dcm")
    return folder


def shuffled(folder: Path, geometry: head_series.Geometry) -> Path:
    order = np.random.default_rng(0).permutation(len(geometry.z_mm))
    return series(folder, geometry, order=[int(i) for i in order])


CASES = {
    "even, straight": (series, GEOMETRY),
    "names shuffled": (shuffled, GEOMETRY),
    "tilt 10°": (series, replace(GEOMETRY, tilt_deg=10.0)),
    "tilt 25°": (series, replace(GEOMETRY, tilt_deg=25.0)),
    "2 mm below, 5 mm above": (
        series,
        replace(GEOMETRY, z_mm=(*np.arange(-56.0, 5.0, 2.0), *np.arange(9.0, 62.0, 5.0))),
    ),
    "tilt 15°, 2 and 5 mm": (
        series,
        replace(GEOMETRY, tilt_deg=15.0, z_mm=(*np.arange(-56.0, 5.0, 2.0), *np.arange(9.0, 62.0, 5.0))),
    ),
    "two slices missing beside the bleed": (with_missing, GEOMETRY),
    "two slices twice": (with_twins, GEOMETRY),
    "a scout of the same series": (with_scout, GEOMETRY),
    "feet first": (series, replace(GEOMETRY, row_sign=-1)),
    "prone": (series, replace(GEOMETRY, row_sign=-1, column_sign=-1)),
}


def cell(reader: Callable[[Path], Bleed], folder: Path) -> str:
    try:
        volume, centre = reader(folder)
    except InputError as error:
        return f"refuses: {error.code}"
    except (ConversionError, ConversionValidationError) as error:
        return (
            f"refuses: {str(error).lower().replace('_', ' ').partition('/')[2] or str(error).lower().replace('_', ' ')}"
        )
    except Exception as error:
        return f"fails: {type(error).__name__}"
    if volume == 0:
        return "no bleed in it"
    apart = float(np.linalg.norm(centre - head_series.LESION_CENTRE_MM))
    return f"{100 * (volume / head_series.LESION_ML - 1):+.1f} %, {apart:.1f} mm"


def table() -> str:
    lines = [f"| quirk | {' | '.join(READERS)} |", "|---" * (len(READERS) + 1) + "|"]
    for name, (make, geometry) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            made = make(Path(folder) / "series", geometry)
            lines.append(f"| {name} | {' | '.join(cell(reader, made) for reader in READERS.values())} |")
    return "\n".join(lines)


def main() -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    with contextlib.redirect_stdout(sys.stderr):
        made = table()
    print(made)
    if PAGE.exists():
        head, _, rest = PAGE.read_text().partition("<!-- table -->\n")
        page = f"{head}<!-- table -->\n{made}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
