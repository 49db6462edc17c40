"""DICOM headers as plain values, one for each slice. Patient elements are kept undecoded for DICOM outputs only."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from strokeseg.reading.dicom.pixel_data import PixelFormat
from strokeseg.reading.input_file import InputFile

CT_SOP_CLASSES = ("1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.2.1", "1.2.840.10008.5.1.4.1.1.2.2")
DICOMDIR_SOP_CLASS = "1.2.840.10008.1.3.10"
REFORMAT = "reformat"
"""The exclusion reason of a slice that was computed from others, in another plane or thickness."""

_IMAGE_SOP_CLASS_ROOT = "1.2.840.10008.5.1.4.1.1."
_SECONDARY_CAPTURE_ROOT = "1.2.840.10008.5.1.4.1.1.7"


@dataclass(frozen=True)
class SlicePlane:
    """Plane of a slice.

    Attributes
    ----------
    position_mm : ndarray of float64, shape (3,)
        LPS mm of the centre of the first pixel.
    row_cosine, column_cosine : ndarray of float64, shape (3,)
        LPS unit vectors along a row and along a column.
    pixel_spacing_mm : tuple of (float, float)
        (between rows, between columns), mm.
    thickness_mm : float or None
        Slice thickness, mm; None if unknown.
    """

    position_mm: NDArray[np.float64]
    row_cosine: NDArray[np.float64]
    column_cosine: NDArray[np.float64]
    pixel_spacing_mm: tuple[float, float]
    thickness_mm: float | None


@dataclass(frozen=True)
class ConcatenationPart:
    """Position of a file in a concatenation (a multi-frame object split over several files).

    Attributes
    ----------
    uid : str
        UID of the concatenation.
    number : int
        Number of the file, from 1.
    total : int
        Number of files; 0 if not stated.
    """

    uid: str
    number: int
    total: int


@dataclass(frozen=True)
class SliceHeader:
    """Header of one slice: the only slice of a file, or one frame of a multi-frame object.

    Attributes
    ----------
    file : InputFile
        The file.
    sop_class, sop_uid, series_uid : str
        Empty if missing or not a valid UID.
    modality : str
        Empty if missing, "unknown" if invalid.
    image_type : tuple of str
        In capitals.
    shape : tuple of (int, int)
        (rows, columns); (0, 0) if the file holds no image.
    frame_index, frame_count : int
        Index of this frame, from 0, and number of frames in the file.
    plane : SlicePlane or None
        None if missing or not numeric.
    slope, intercept : float or None
        Rescale slope and intercept; None if missing, NaN if not numeric.
    rescale_unit : str
        Unit of the rescaled values if it is not Hounsfield units, else empty.
    sharp_kernel, contrast_medium : bool
        Whether the header names a convolution kernel for bone, and a contrast medium.
    stack_id, acquisition_number : str
        Stack and acquisition to which the frame belongs; empty if not stated.
    concatenation : ConcatenationPart or None
        Position in a concatenation.
    pixel_format : PixelFormat
        Format of the pixel data.
    source_elements : Dataset
        Undecoded elements of patient and study; see :mod:`strokeseg.reading.dicom.source_attributes`.
    """

    file: InputFile
    sop_class: str
    sop_uid: str
    series_uid: str
    modality: str
    image_type: tuple[str, ...]
    shape: tuple[int, int]
    frame_index: int
    frame_count: int
    plane: SlicePlane | None
    slope: float | None
    intercept: float | None
    rescale_unit: str
    sharp_kernel: bool
    contrast_medium: bool
    stack_id: str
    acquisition_number: str
    concatenation: ConcatenationPart | None
    pixel_format: PixelFormat
    source_elements: Dataset = field(repr=False, compare=False)

    @property
    def name(self) -> str:
        """The file's name, with the frame's number if the file holds several frames."""
        return self.file.name if self.frame_count == 1 else f"{self.file.name}, frame {self.frame_index + 1}"

    @property
    def derived(self) -> bool:
        """Whether the slice was computed from other images."""
        return "DERIVED" in self.image_type

    @property
    def exclusion_reason(self) -> str | None:
        """Why the file is not an acquired CT slice, for example "localizer" or "secondary capture"; None if it is."""
        if self.modality not in ("CT", ""):
            return f"modality {self.modality}"
        if 0 in self.shape:
            return "no image"
        if self.sop_class.startswith(_SECONDARY_CAPTURE_ROOT):
            return "secondary capture"
        is_image = self.sop_class.startswith(_IMAGE_SOP_CLASS_ROOT)
        if not self.modality and is_image and self.sop_class not in CT_SOP_CLASSES:
            return "image of another modality"
        if self.pixel_format.samples > 1:
            return "colour picture"
        if "LOCALIZER" in self.image_type:
            return "localizer"
        if "MPR" in self.image_type or {"DERIVED", "REFORMATTED"} <= set(self.image_type):
            return REFORMAT
        return None
