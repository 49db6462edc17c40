"""A head CT exactly as it was acquired: Hounsfield units and the plane of every slice.

Frames and orders used everywhere: arrays are (slice, row, column); points are LPS millimetres (x to the patient's left,
y to the back, z to the head), as in DICOM. Nothing is resampled here. A tilted gantry is just planes whose step from
slice to slice is not along their normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from strokeseg.result import Remark

Floats = NDArray[np.float64]
Pixels = TypeVar("Pixels", bound="NDArray[Any]")

# What a picture without a stated spacing is drawn at. It is no measure: the 3D scene is labelled "not to scale", and
# nothing in mm or ml is given.
NOMINAL_FIELD_OF_VIEW_MM = 230.0
NOMINAL_STEP_MM = 5.0


_COSINE_TOLERANCE = 0.01  # of direction cosines, as headers write them


def _make_read_only(values: Pixels) -> Pixels:
    """Let nobody write into what is handed out again and again."""
    values.flags.writeable = False
    return values


@dataclass(frozen=True)
class Planes:
    """Where every slice lies in the patient.

    Parameters
    ----------
    positions_mm : Floats
        (slices, 3), LPS mm of the centre of each slice's first pixel; sorted along ``normal``.
    row_cosine : Floats
        (3,), LPS unit vector along a row, the way the column index grows.
    column_cosine : Floats
        (3,), LPS unit vector along a column, the way the row index grows.
    pixel_spacing_mm : tuple of (float, float)
        (between rows, between columns), mm.
    thickness_mm : float, optional
        Nominal slice thickness, mm, or None where it is not known; only a single slice's weight uses it.
    """

    positions_mm: Floats
    row_cosine: Floats
    column_cosine: Floats
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: float | None = None

    def describe_fault(self) -> str | None:
        """Say in one sentence why no length can be measured here, or None: a Scan may be made of any numbers."""
        lengths = np.asarray(self.pixel_spacing_mm, dtype=np.float64)
        if lengths.shape != (2,) or not (np.isfinite(lengths) & (lengths > 0)).all():
            return "the pixel spacing must be two lengths above 0"
        axes = np.array([self.row_cosine, self.column_cosine], dtype=np.float64)
        if axes.shape != (2, 3) or not (np.abs(axes @ axes.T - np.eye(2)) < _COSINE_TOLERANCE).all():
            return "the row and the column cosine must be unit vectors at right angles"
        if not np.isfinite(self.positions_mm).all():
            return "the position of a slice is not finite"
        if not (self.gaps_mm > 0).all():
            first = int(np.argmin(self.gaps_mm > 0))
            return f"slice {first + 1} does not lie above slice {first} along the normal"
        return None

    @cached_property
    def normal(self) -> Floats:
        """The unit normal, LPS: row cosine x column cosine."""
        return _make_read_only(np.cross(self.row_cosine, self.column_cosine))

    @cached_property
    def along_normal_mm(self) -> Floats:
        """(slices,), each slice's place along the normal, mm."""
        return _make_read_only(self.positions_mm @ self.normal)

    @cached_property
    def gaps_mm(self) -> Floats:
        """(slices - 1,), distances between neighbours along the normal, mm."""
        return _make_read_only(np.diff(self.along_normal_mm))

    @cached_property
    def weights_mm(self) -> Floats:
        """(slices,), each slice's share of the axis, mm: half the distance to each neighbour along the normal.

        An end slice reaches as far outwards as inwards. At a gap that :attr:`missing` marks, a slice reaches at most
        0.75 times the ordinary step, so that no slice stands for tissue that was never imaged. A single slice weighs
        its thickness, or 0 where that is not known.
        """
        gaps = self.gaps_mm
        if gaps.size == 0:
            return _make_read_only(np.array([self.thickness_mm or 0.0]))
        half = gaps / 2
        half[self.gaps_with_missing_slices] = 0.75 * np.median(gaps[~self.gaps_with_missing_slices])
        return _make_read_only(np.concatenate([half[:1], half]) + np.concatenate([half, half[-1:]]))

    @cached_property
    def gaps_with_missing_slices(self) -> NDArray[np.bool_]:
        """(slices - 1,), True at a gap in which slices are missing.

        Such a gap is 1.7 times wider than the gaps on both sides, or one of two on end that are so. Three wide gaps are
        a second ordinary step (thin below, thick above), and none of them is missing a slice. The first and the last
        gap are held against their one neighbour.
        """
        gaps = self.gaps_mm
        if gaps.size < 3:
            return _make_read_only(np.zeros(gaps.size, dtype=bool))

        def wide(index: int, other: int) -> bool:
            return 0 <= other < gaps.size and gaps[index] > 1.7 * gaps[other]

        inner = [
            (wide(i, i - 1) and (wide(i, i + 1) or wide(i, i + 2))) or (wide(i, i - 2) and wide(i, i + 1))
            for i in range(1, gaps.size - 1)
        ]
        return _make_read_only(np.array([wide(0, 1), *inner, wide(gaps.size - 1, gaps.size - 2)]))

    @property
    def tilt_deg(self) -> float:
        """The angle between the step from slice to slice and the normal, degrees, from positions alone."""
        if len(self.positions_mm) < 2:
            return 0.0
        step = self.positions_mm[-1] - self.positions_mm[0]
        length = float(np.linalg.norm(step))
        if length == 0:
            return 0.0
        across = step - (step @ self.normal) * self.normal
        return float(np.degrees(np.arctan2(np.linalg.norm(across), abs(step @ self.normal))))

    @property
    def pixel_area_mm2(self) -> float:
        """The area of one pixel, mm²."""
        return self.pixel_spacing_mm[0] * self.pixel_spacing_mm[1]

    def turn_upright(self, pixels: Pixels) -> Pixels:
        """Turn slices face up, the patient's left on the right; a second call turns them back.

        Only whole axes are flipped, so nothing is resampled.

        Parameters
        ----------
        pixels : Pixels
            (..., rows, columns), on these planes.
        """
        rows = slice(None, None, -1 if self.column_cosine[1] < 0 else 1)
        columns = slice(None, None, -1 if self.row_cosine[0] < 0 else 1)
        return pixels[..., rows, columns]  # type: ignore[return-value]

    def to_lps_mm(self, indices: Any) -> Floats:
        """Map (slice, row, column) indices to LPS mm; a fractional slice lies between its neighbours' planes.

        Parameters
        ----------
        indices : object
            (n, 3), in the order (slice, row, column); may be fractional, and may reach outside the scan by any
            amount: beyond the ends the last step goes on.

        Returns
        -------
        Floats
            (n, 3), LPS mm.
        """
        indices = np.atleast_2d(np.asarray(indices, dtype=np.float64))
        count = len(self.positions_mm)
        if count == 1:
            origin = self.positions_mm[0] + indices[:, :1] * (self.thickness_mm or 1.0) * self.normal
        else:
            low = np.clip(np.floor(indices[:, 0]).astype(int), 0, count - 2)
            part = (indices[:, 0] - low)[:, None]
            origin = (1 - part) * self.positions_mm[low] + part * self.positions_mm[low + 1]
        row_mm, column_mm = self.pixel_spacing_mm
        return np.asarray(
            origin + indices[:, 1:2] * row_mm * self.column_cosine + indices[:, 2:3] * column_mm * self.row_cosine
        )


@dataclass(frozen=True, repr=False)
class SourceFrame:
    """The stored frame that a slice was read from.

    Parameters
    ----------
    sop_class, sop_uid : str
        Of its object; empty where the file does not say.
    number : int or None
        Of the frame, from 1, in a multi-frame object; None in an object of one frame.
    position_mm : tuple of (float, float, float)
        LPS mm of the centre of its first stored pixel.
    """

    sop_class: str
    sop_uid: str
    number: int | None
    position_mm: tuple[float, float, float]


@dataclass(frozen=True, repr=False)
class DicomSource:
    """The DICOM objects that a scan was read from: what objects made from it must repeat, and no more.

    It holds who the patient is. Nothing may look into it but the DICOM writers, and the comparison for patient number
    and study date; and it never shows itself.

    Parameters
    ----------
    attributes : tuple of tuple of (str, str)
        (keyword, text) of the patient and the study, and of lossy compression; what is missing is left out.
    malformed : tuple of str
        Keywords of attributes that were there, but not in a form that may be repeated.
    frame_of_reference_uid : str
        Empty where there is none, or not one alone.
    frames : tuple of SourceFrame
        One a slice, in the scan's order.
    row_cosine, column_cosine, pixel_spacing_mm, thickness_mm : tuple of (float, float, float)
        Of the stored frames, as in :class:`Planes`.
    transposed, mirrored : bool, default: False
        How the scan's pixels came from the stored ones: rows and columns changed places, then every row was turned
        end for end.
    fault : str, default: ""
        Why no object can be made from it, in words; empty where one can.
    deidentified : bool, default: False
        Whether the patient's attributes were emptied and all UIDs replaced.
    """

    attributes: tuple[tuple[str, str], ...]
    malformed: tuple[str, ...]
    frame_of_reference_uid: str
    frames: tuple[SourceFrame, ...]
    row_cosine: tuple[float, float, float]
    column_cosine: tuple[float, float, float]
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: float | None
    transposed: bool = False
    mirrored: bool = False
    fault: str = ""
    deidentified: bool = False

    def __repr__(self) -> str:
        return f"Source({len(self.frames)} frames)"

    def attribute(self, keyword: str) -> str:
        """Return an attribute's text; empty where there is none."""
        return dict(self.attributes).get(keyword, "")

    def to_stored(self, pixels: Pixels) -> Pixels:
        """Turn slices on the scan's grid back to how their frames are stored.

        Parameters
        ----------
        pixels : Pixels
            (..., rows, columns) of the scan.

        Returns
        -------
        Pixels
            (..., rows, columns) of the stored frames, a view.
        """
        turned = pixels[..., ::-1] if self.mirrored else pixels
        return turned.swapaxes(-1, -2) if self.transposed else turned  # type: ignore[return-value]


@dataclass(frozen=True)
class Scan:
    """A head CT with the plane of every slice.

    Parameters
    ----------
    hu : ndarray of int16, shape (slices, rows, columns)
        Hounsfield units; for pictures an estimate from their grey levels.
    planes : Planes
        Where the slices lie; nominal where ``spacing_known`` is False.
    calibrated : bool, default: True
        False for pictures, whose grey levels are not Hounsfield units.
    spacing_known : bool, default: True
        False for pictures without a stated spacing: then nothing in mm or ml may be said.
    kind : str, default: "array"
        "dicom" | "nifti" | "nrrd" | "metaimage" | "pictures" | "array".
    series_uid : str, optional
        DICOM series instance UID where there is one.
    sop_instance_uids : tuple of str, default: ()
        One a slice where there are some, in the order of the slices.
    window : tuple of (float, float), optional
        (centre, width) that was given or estimated for pictures.
    remarks : tuple of Remark
        What was seen and repaired on reading.
    source : DicomSource or None
        Of a DICOM series, what DICOM outputs need of it; None for anything else.
    """

    hu: NDArray[np.int16]
    planes: Planes
    calibrated: bool = True
    spacing_known: bool = True
    kind: str = "array"
    series_uid: str | None = None
    sop_instance_uids: tuple[str, ...] = ()
    window: tuple[float, float] | None = None
    remarks: tuple[Remark, ...] = field(default_factory=tuple)
    source: DicomSource | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.hu.ndim != 3 or self.hu.dtype != np.int16:
            raise ValueError(f"hu must be int16 (slices, rows, columns), not {self.hu.dtype} {self.hu.shape}")
        if len(self.planes.positions_mm) != len(self.hu):
            raise ValueError(f"{len(self.hu)} slices but {len(self.planes.positions_mm)} planes")

    @property
    def shape(self) -> tuple[int, int, int]:
        """(slices, rows, columns)."""
        return (self.hu.shape[0], self.hu.shape[1], self.hu.shape[2])

    @property
    def pixel_spacing_mm(self) -> tuple[float, float] | None:
        """(between rows, between columns), mm, or None where it is not known."""
        return self.planes.pixel_spacing_mm if self.spacing_known else None

    @property
    def weights_mm(self) -> Floats | None:
        """(slices,), each slice's share of the axis, mm, or None where it is not known."""
        if not self.spacing_known or not np.all(self.planes.weights_mm > 0):
            return None
        return self.planes.weights_mm

    def with_remarks(self, *remarks: Remark) -> Scan:
        """Return the same scan with further remarks."""
        return replace(self, remarks=self.remarks + remarks)

    @classmethod
    def from_array(
        cls, hu: Any, spacing_mm: Sequence[float] | None = None, *, calibrated: bool = True, kind: str = "array"
    ) -> Scan:
        """Make a scan from an array: axial slices, inferior to superior, rows to the back, columns to the left.

        Parameters
        ----------
        hu : object
            (slices, rows, columns) or (rows, columns), Hounsfield units, any number type; rounded to int16.
        spacing_mm : sequence of float, optional
            (slice, row, column), mm; None where it is not known.
        calibrated : bool, default: True
            False where the values are grey levels and no Hounsfield units.

        Raises
        ------
        ValueError
            If the array is not two- or three-dimensional, is empty, holds NaN, or a spacing is not above zero.
        """
        values = np.asarray(hu)
        values = values[None] if values.ndim == 2 else values
        if values.ndim != 3 or values.size == 0:
            raise ValueError(f"hu must be (slices, rows, columns) or (rows, columns), not {np.shape(hu)}")
        if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise ValueError("hu must hold finite real numbers only")
        if spacing_mm is not None:
            lengths = np.asarray(spacing_mm)
            if lengths.shape != (3,) or lengths.dtype.kind not in "iuf" or not ((lengths > 0) & (lengths < 1e3)).all():
                raise ValueError(f"spacing_mm must be three lengths above 0 (slice, row, column), not {spacing_mm}")
        nominal = NOMINAL_FIELD_OF_VIEW_MM / max(values.shape[1:])
        step, row, column = (
            float(s) for s in ((NOMINAL_STEP_MM, nominal, nominal) if spacing_mm is None else spacing_mm)
        )
        positions = np.zeros((len(values), 3))
        positions[:, 2] = np.arange(len(values)) * step
        planes = Planes(positions, np.array([1.0, 0, 0]), np.array([0, 1.0, 0]), (row, column), step)
        whole = np.clip(np.rint(values), -32768, 32767).astype(np.int16)
        return cls(whole, planes, calibrated=calibrated, spacing_known=spacing_mm is not None, kind=kind)
