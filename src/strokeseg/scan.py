"""A head CT as it was acquired: Hounsfield units and the plane of every slice.

Frames and orders used everywhere: arrays are (slice, row, column); points are LPS mm (x to the patient's left, y to the
back, z to the head), as in DICOM. Nothing is resampled here. A tilted gantry gives planes whose step from slice to
slice is not along their normal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strokeseg.dicom_source import DicomSource, Pixels
from strokeseg.result import Remark

Floats = NDArray[np.float64]

# Size at which a picture without a stated spacing is shown. It is not a measurement: the 3D scene is labelled "not to
# scale", and nothing in mm or ml is given.
NOMINAL_FIELD_OF_VIEW_MM = 230.0
NOMINAL_STEP_MM = 5.0

_COSINE_TOLERANCE = 0.01  # direction cosines in headers are rounded
_MIN_GAPS_OF_A_STEP = 3
_MAX_GAP_THICKNESSES = 1.5
_MAX_GAP_MM = 10.0


def _make_read_only(values: Pixels) -> Pixels:
    """Protect an array that is cached and shared from being changed."""
    values.flags.writeable = False
    return values


@dataclass(frozen=True)
class Planes:
    """Planes of all slices in the patient.

    Attributes
    ----------
    positions_mm : ndarray of float64, shape (slices, 3)
        LPS mm of the centre of each slice's first pixel; sorted along ``normal``.
    row_cosine : ndarray of float64, shape (3,)
        LPS unit vector along a row, in the direction of rising column indices.
    column_cosine : ndarray of float64, shape (3,)
        LPS unit vector along a column, in the direction of rising row indices.
    pixel_spacing_mm : tuple of (float, float)
        (between rows, between columns), mm.
    thickness_mm : float, optional
        Nominal slice thickness, mm; None if unknown. Only the weights of a single slice and of key slices use it.
    """

    positions_mm: Floats
    row_cosine: Floats
    column_cosine: Floats
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: float | None = None

    def describe_fault(self) -> str | None:
        """Describe why lengths cannot be measured on these planes; None if they can. A Scan accepts any numbers."""
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
        """Unit normal, LPS, shape (3,): row cosine x column cosine."""
        return _make_read_only(np.cross(self.row_cosine, self.column_cosine))

    @cached_property
    def along_normal_mm(self) -> Floats:
        """Position of each slice along the normal, mm, shape (slices,)."""
        return _make_read_only(self.positions_mm @ self.normal)

    @cached_property
    def gaps_mm(self) -> Floats:
        """Distance between neighbouring slices along the normal, mm, shape (slices - 1,)."""
        return _make_read_only(np.diff(self.along_normal_mm))

    @cached_property
    def weights_mm(self) -> Floats:
        """Share of the axis of each slice, mm, shape (slices,): half the distance to each neighbour along the normal.

        An end slice extends as far outwards as inwards. At a gap marked by :attr:`gaps_with_missing_slices`, a slice
        extends :attr:`reach_mm`, so that no slice represents tissue that was never imaged. The weight of a single slice
        is its thickness, or 0 if unknown.
        """
        gaps = self.gaps_mm
        if gaps.size == 0:
            return _make_read_only(np.array([self.thickness_mm or 0.0]))
        half = gaps / 2
        half[self.gaps_with_missing_slices] = self.reach_mm
        return _make_read_only(np.concatenate([half[:1], half]) + np.concatenate([half, half[-1:]]))

    @cached_property
    def gaps_with_missing_slices(self) -> NDArray[np.bool_]:
        """Whether slices are missing in each gap, shape (slices - 1,).

        Such a gap is more than 1.7 times wider than the gaps on both sides; two such gaps may follow each other. Three
        wide gaps in a row are a second usual step (thin slices below, thick ones above), without missing slices. The
        first and the last gap are compared with their one neighbour. Of two or three slices no step is usual: a gap
        counts if it is more than 1.5 times the slice thickness, or more than 10 mm if that is unknown.
        """
        gaps = self.gaps_mm
        if gaps.size < _MIN_GAPS_OF_A_STEP:
            limit_mm = _MAX_GAP_THICKNESSES * self.thickness_mm if self.thickness_mm else _MAX_GAP_MM
            return _make_read_only(gaps > limit_mm)

        def wider(index: int, other: int) -> bool:
            return 0 <= other < gaps.size and gaps[index] > 1.7 * gaps[other]

        inner = [
            (wider(i, i - 1) and (wider(i, i + 1) or wider(i, i + 2))) or (wider(i, i - 2) and wider(i, i + 1))
            for i in range(1, gaps.size - 1)
        ]
        return _make_read_only(np.array([wider(0, 1), *inner, wider(gaps.size - 1, gaps.size - 2)]))

    @property
    def has_key_slices(self) -> bool:
        """Whether these are two or three slices far apart, chosen from a scan: they give no volume of the head."""
        return self.gaps_mm.size < _MIN_GAPS_OF_A_STEP and bool(self.gaps_with_missing_slices.any())

    @property
    def reach_mm(self) -> float:
        """How far a slice extends into a gap with missing slices, mm.

        0.75 times the usual step; of key slices half the slice thickness, 0 if unknown.
        """
        if self.has_key_slices or self.gaps_with_missing_slices.all():
            return (self.thickness_mm or 0.0) / 2
        return 0.75 * float(np.median(self.gaps_mm[~self.gaps_with_missing_slices]))

    @property
    def tilt_deg(self) -> float:
        """Angle between the step from slice to slice and the normal, degrees, from positions alone."""
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
        """Area of one pixel, mm²."""
        return self.pixel_spacing_mm[0] * self.pixel_spacing_mm[1]

    def turn_upright(self, pixels: Pixels) -> Pixels:
        """Flip slices so that the face is up and the patient's left on the right; a second call flips them back.

        Only whole axes are flipped; nothing is resampled.

        Parameters
        ----------
        pixels : ndarray, shape (..., rows, columns)
            Pixels on these planes.

        Returns
        -------
        ndarray, shape (..., rows, columns)
            A view of the pixels.
        """
        rows = slice(None, None, -1 if self.column_cosine[1] < 0 else 1)
        columns = slice(None, None, -1 if self.row_cosine[0] < 0 else 1)
        return pixels[..., rows, columns]  # type: ignore[return-value]

    def to_lps_mm(self, indices: Any) -> Floats:
        """Map (slice, row, column) indices to LPS mm; a fractional slice lies between its neighbours' planes.

        Parameters
        ----------
        indices : array-like, shape (n, 3)
            In the order (slice, row, column); may be fractional, and may lie outside the scan: the last step continues
            beyond the ends.

        Returns
        -------
        ndarray of float64, shape (n, 3)
            LPS mm.
        """
        indices = np.atleast_2d(np.asarray(indices, dtype=np.float64))
        count = len(self.positions_mm)
        if count == 1:
            origin = self.positions_mm[0] + indices[:, :1] * (self.thickness_mm or 1.0) * self.normal
        else:
            low = np.clip(np.floor(indices[:, 0]).astype(int), 0, count - 2)
            fraction = (indices[:, 0] - low)[:, None]
            origin = (1 - fraction) * self.positions_mm[low] + fraction * self.positions_mm[low + 1]
        row_mm, column_mm = self.pixel_spacing_mm
        return np.asarray(
            origin + indices[:, 1:2] * row_mm * self.column_cosine + indices[:, 2:3] * column_mm * self.row_cosine
        )


@dataclass(frozen=True)
class Scan:
    """A head CT with the plane of every slice.

    Attributes
    ----------
    hu : ndarray of int16, shape (slices, rows, columns)
        Hounsfield units; for pictures an estimate from their grey levels.
    planes : Planes
        Planes of the slices; nominal if ``spacing_known`` is False.
    calibrated : bool, default True
        False for pictures, whose grey levels are not Hounsfield units.
    spacing_known : bool, default True
        False for pictures without a stated spacing: then nothing in mm or ml may be given.
    kind : {"dicom", "nifti", "nrrd", "metaimage", "pictures", "array"}, default "array"
        Kind of the input.
    series_uid : str, optional
        DICOM series instance UID.
    series_name : str, optional
        Name that selects this scan in its input: the UID, with ":2" for the second of several volumes in one series.
    sop_instance_uids : tuple of str, default ()
        UID of each slice, in the order of the slices; empty if there are none.
    window : tuple of (float, float), optional
        Given or estimated (centre, width) of pictures, HU.
    remarks : tuple of Remark, default ()
        Findings and repairs on reading.
    source : DicomSource, optional
        Attributes of a DICOM series for DICOM outputs; None for other kinds.
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
    series_name: str | None = field(default=None, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.hu.ndim != 3 or self.hu.dtype != np.int16:
            raise ValueError(f"hu must be int16 (slices, rows, columns), not {self.hu.dtype} {self.hu.shape}")
        if len(self.planes.positions_mm) != len(self.hu):
            raise ValueError(f"{len(self.hu)} slices but {len(self.planes.positions_mm)} planes")

    @property
    def shape(self) -> tuple[int, int, int]:
        """Shape (slices, rows, columns)."""
        return (self.hu.shape[0], self.hu.shape[1], self.hu.shape[2])

    @property
    def pixel_spacing_mm(self) -> tuple[float, float] | None:
        """(between rows, between columns), mm; None if unknown."""
        return self.planes.pixel_spacing_mm if self.spacing_known else None

    @property
    def weights_mm(self) -> Floats | None:
        """Share of the axis of each slice, mm, shape (slices,); None if unknown."""
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
        hu : array-like, shape (slices, rows, columns) or (rows, columns)
            Hounsfield units, any number type; rounded to int16.
        spacing_mm : sequence of float, optional
            (slice, row, column), mm; None if unknown.
        calibrated : bool, default True
            False if the values are grey levels, not Hounsfield units.
        kind : str, default "array"
            Kind of the input.

        Returns
        -------
        Scan
            The scan, not checked by the gate.

        Raises
        ------
        ValueError
            If the array is not two- or three-dimensional, is empty, contains NaN, or a spacing is not above zero.
        """
        values = np.asarray(hu)
        values = values[None] if values.ndim == 2 else values
        if values.ndim != 3 or values.size == 0:
            raise ValueError(f"hu must be (slices, rows, columns) or (rows, columns), not {np.shape(hu)}")
        if values.dtype.kind not in "iuf" or not np.isfinite(values).all():
            raise ValueError("hu must contain finite real numbers only")
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
        rounded = np.clip(np.rint(values), -32768, 32767).astype(np.int16)
        return cls(rounded, planes, calibrated=calibrated, spacing_known=spacing_mm is not None, kind=kind)
