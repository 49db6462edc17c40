"""Write the table of docs/gate.md: StrokeSeg and other readers on DICOM series of the analytic head.

`make gate-table` runs it. Every reader gets the same DICOM files. The lesion is the largest component between 50 and
100 HU in the values that a reader returns; volume and centre follow from the reader's own spacing and affine. The truth
is the ellipsoid's formula.
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
Measurement = tuple[float, np.ndarray]


def measure_lesion(values: np.ndarray, voxel_ml: float, to_lps: Callable[[np.ndarray], np.ndarray]) -> Measurement:
    """Measure the largest component: where a reader interpolates, the rim of the skull has values of blood too."""
    labels, _ = ndimage.label((values > 50) & (values < 100))
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    lesion = np.argwhere(labels == max(1, int(sizes.argmax())))
    return len(lesion) * voxel_ml, to_lps(lesion.mean(axis=0)) if len(lesion) else np.full(3, np.inf)


def read_with_strokeseg(folder: Path) -> Measurement:
    return head_series.measure_lesion(read_one(folder))


def read_with_simpleitk(folder: Path) -> Measurement:
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    image = reader.Execute()
    values = SimpleITK.GetArrayFromImage(image)

    def to_lps(index: np.ndarray) -> np.ndarray:
        return np.array(image.TransformContinuousIndexToPhysicalPoint([float(i) for i in index[::-1]]))

    return measure_lesion(values, float(np.prod(image.GetSpacing())) / 1000, to_lps)


def read_with_dicom2nifti(folder: Path) -> Measurement:
    with tempfile.TemporaryDirectory() as out:
        file = Path(out) / "head.nii.gz"
        dicom2nifti.dicom_series_to_nifti(str(folder), str(file), reorient_nifti=False)
        image = nibabel.load(file)
        values = image.get_fdata()
    affine = image.affine
    return measure_lesion(
        values,
        abs(float(np.linalg.det(affine))) / 1000,
        lambda index: nibabel.affines.apply_affine(affine, index) * [-1, -1, 1],
    )


def read_with_resampling(folder: Path) -> Measurement:
    """Read with checks off and resampling on, as the README of dicom2nifti recommends for tilted and uneven series."""
    checks = ("orthogonal", "slice_increment", "slicecount")
    for check in checks:
        getattr(settings, f"disable_validate_{check}")()
    settings.enable_resampling()
    settings.set_resample_spline_interpolation_order(1)
    settings.set_resample_padding(-1000)
    try:
        return read_with_dicom2nifti(folder)
    finally:
        settings.disable_resampling()
        for check in checks:
            getattr(settings, f"enable_validate_{check}")()


READERS = {
    "StrokeSeg": read_with_strokeseg,
    "SimpleITK": read_with_simpleitk,
    "dicom2nifti": read_with_dicom2nifti,
    "dicom2nifti, resampling": read_with_resampling,
}


def write_series(folder: Path, geometry: head_series.Geometry, **options: object) -> Path:
    return head_series.write_series(folder, head_series.make_datasets(geometry), **options)


def write_without_two_slices(folder: Path, geometry: head_series.Geometry) -> Path:
    return write_series(folder, replace(geometry, z_mm=tuple(z for z in geometry.z_mm if not -40 < z < -34)))


def write_with_duplicates(folder: Path, geometry: head_series.Geometry) -> Path:
    write_series(folder, geometry)
    for number in (20, 21):
        (folder / f"duplicate{number}.dcm").write_bytes((folder / f"IM{number:04}.dcm").read_bytes())
    return folder


def write_with_localizer(folder: Path, geometry: head_series.Geometry) -> Path:
    write_series(folder, geometry)
    head_series.write(head_series.make_localizer(), folder / "scout.dcm")
    return folder


def write_shuffled(folder: Path, geometry: head_series.Geometry) -> Path:
    order = np.random.default_rng(0).permutation(len(geometry.z_mm))
    return write_series(folder, geometry, order=[int(i) for i in order])


CASES = {
    "even, straight": (write_series, GEOMETRY),
    "names shuffled": (write_shuffled, GEOMETRY),
    "tilt 10°": (write_series, replace(GEOMETRY, tilt_deg=10.0)),
    "tilt 25°": (write_series, replace(GEOMETRY, tilt_deg=25.0)),
    "2 mm below, 5 mm above": (
        write_series,
        replace(GEOMETRY, z_mm=(*np.arange(-56.0, 5.0, 2.0), *np.arange(9.0, 62.0, 5.0))),
    ),
    "tilt 15°, 2 and 5 mm": (
        write_series,
        replace(GEOMETRY, tilt_deg=15.0, z_mm=(*np.arange(-56.0, 5.0, 2.0), *np.arange(9.0, 62.0, 5.0))),
    ),
    "two slices missing beside the lesion": (write_without_two_slices, GEOMETRY),
    "two slices twice": (write_with_duplicates, GEOMETRY),
    "a scout of the same series": (write_with_localizer, GEOMETRY),
    "feet first": (write_series, replace(GEOMETRY, row_sign=-1)),
    "prone": (write_series, replace(GEOMETRY, row_sign=-1, column_sign=-1)),
}


def measure_cell(reader: Callable[[Path], Measurement], folder: Path) -> str:
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
        return "no lesion in it"
    distance_mm = float(np.linalg.norm(centre - head_series.LESION_CENTRE_MM))
    return f"{100 * (volume / head_series.LESION_ML - 1):+.1f} %, {distance_mm:.1f} mm"


def make_table() -> str:
    lines = [f"| series | {' | '.join(READERS)} |", "|---" * (len(READERS) + 1) + "|"]
    for name, (write, geometry) in CASES.items():
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder) / "series", geometry)
            lines.append(f"| {name} | {' | '.join(measure_cell(reader, path) for reader in READERS.values())} |")
    return "\n".join(lines)


def main() -> None:
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    SimpleITK.ProcessObject.SetGlobalWarningDisplay(False)
    with contextlib.redirect_stdout(sys.stderr):
        table = make_table()
    print(table)
    if PAGE.exists():
        head, _, rest = PAGE.read_text().partition("<!-- table -->\n")
        page = f"{head}<!-- table -->\n{table}\n<!-- end -->{rest.partition('<!-- end -->')[2]}"
        PAGE.write_text(page)


if __name__ == "__main__":
    main()
