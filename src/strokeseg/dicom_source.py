"""Attributes and frames of the DICOM objects that a scan was read from, for DICOM outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeVar

from numpy.typing import NDArray

Pixels = TypeVar("Pixels", bound="NDArray[Any]")


@dataclass(frozen=True, repr=False)
class SourceFrame:
    """The stored frame that a slice was read from.

    Attributes
    ----------
    sop_class, sop_uid : str
        UIDs of its object; empty if the file does not state them.
    number : int or None
        Number of the frame, from 1, in a multi-frame object; None in an object of one frame.
    position_mm : tuple of (float, float, float)
        LPS mm of the centre of its first stored pixel.
    """

    sop_class: str
    sop_uid: str
    number: int | None
    position_mm: tuple[float, float, float]


@dataclass(frozen=True, repr=False)
class DicomSource:
    """What DICOM objects made from a scan must repeat of its DICOM files, and nothing else.

    It identifies the patient. Only the DICOM writers may use it, and the comparison for patient number and study date;
    its repr shows nothing of it.

    Attributes
    ----------
    attributes : tuple of (str, str)
        (keyword, text) of patient and study attributes, and of lossy compression; missing ones are left out.
    malformed : tuple of str
        Keywords of attributes that are present but not in a form that may be repeated.
    frame_of_reference_uid : str
        Empty if there is none, or more than one.
    frames : tuple of SourceFrame
        One for each slice, in the scan's order.
    row_cosine, column_cosine : tuple of (float, float, float)
        Direction cosines of the stored frames, as in :class:`~strokeseg.scan.Planes`.
    pixel_spacing_mm : tuple of (float, float)
        (between rows, between columns) of the stored frames, mm.
    thickness_mm : float or None
        Slice thickness, mm; None if unknown.
    transposed, mirrored : bool, default False
        How the scan's pixels follow from the stored ones: rows and columns were exchanged, then every row was reversed.
    fault : str, default ""
        Why no object can be made from it; empty if one can.
    deidentified : bool, default False
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
        return f"DicomSource({len(self.frames)} frames)"

    def attribute(self, keyword: str) -> str:
        """Return an attribute's text; empty if it is missing."""
        return dict(self.attributes).get(keyword, "")

    def to_stored(self, pixels: Pixels) -> Pixels:
        """Convert slices on the scan's grid to the orientation of the stored frames.

        Parameters
        ----------
        pixels : ndarray, shape (..., rows, columns)
            Pixels on the scan's grid.

        Returns
        -------
        ndarray, shape (..., stored rows, stored columns)
            A view of the pixels.
        """
        unmirrored = pixels[..., ::-1] if self.mirrored else pixels
        return unmirrored.swapaxes(-1, -2) if self.transposed else unmirrored  # type: ignore[return-value]
