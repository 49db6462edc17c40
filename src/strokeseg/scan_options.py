"""What a caller states about a scan and chooses for it, and the text forms of it that all faces share."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

WINDOW_FORM = "CENTRE,WIDTH in Hounsfield units, as 40,80"
SPACING_FORM = "SLICE,ROW,COLUMN in mm, as 5,0.45,0.45"
_LIMIT = 1e5


class Window(NamedTuple):
    """A grey-level window in Hounsfield units."""

    centre: float
    width: float


class Spacing(NamedTuple):
    """Distances between slices, rows and columns in mm."""

    slice: float
    row: float
    column: float


class SliceOrder(StrEnum):
    """Which picture of a stack is the lowest slice."""

    auto = "auto"
    lowest_first = "lowest-first"
    highest_first = "highest-first"


class OperatingPointName(StrEnum):
    """A choice between missed hemorrhages and false alarms."""

    sensitive = "sensitive"
    balanced = "balanced"
    specific = "specific"


class PictureOptions(NamedTuple):
    """What the caller states about pictures, which do not state it themselves.

    Attributes
    ----------
    window : tuple of (float, float), optional
        (centre, width), HU; estimated by default.
    spacing_mm : tuple of (float, float, float), optional
        (slice, row, column); None if unknown.
    order : SliceOrder, default "auto"
        Direction of a stack; found from the anatomy by default.
    """

    window: tuple[float, float] | None = None
    spacing_mm: tuple[float, float, float] | None = None
    order: str = SliceOrder.auto


BRAIN_WINDOW = Window(40.0, 80.0)
"""The window of the networks' input, which all training sets cover, and of the output images."""


def parse_window(text: str) -> Window:
    """Parse a window such as "40,80".

    Parameters
    ----------
    text : str
        Centre and width, separated by a comma.

    Returns
    -------
    Window
        The window.

    Raises
    ------
    ValueError
        If the text has another form, or the width is not above 0.
    """
    window = Window(*_parse_numbers(text, 2, WINDOW_FORM))
    if window.width <= 0:
        raise ValueError(f"{text[:40]!r}: the width must be above 0")
    return window


def parse_spacing(text: str) -> Spacing:
    """Parse a spacing such as "5,0.45,0.45".

    Parameters
    ----------
    text : str
        Distances between slices, rows and columns in mm, separated by commas.

    Returns
    -------
    Spacing
        The spacing.

    Raises
    ------
    ValueError
        If the text has another form, or a distance is not above 0.
    """
    spacing = Spacing(*_parse_numbers(text, 3, SPACING_FORM))
    if min(spacing) <= 0:
        raise ValueError(f"{text[:40]!r}: every distance must be above 0 mm")
    return spacing


def parse_order(text: str) -> SliceOrder:
    """Parse an order of slices.

    Parameters
    ----------
    text : str
        "auto", "lowest-first" or "highest-first".

    Returns
    -------
    SliceOrder
        The order.

    Raises
    ------
    ValueError
        If the text is none of them.
    """
    try:
        return SliceOrder(text.strip().lower())
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not one of {', '.join(SliceOrder)}") from None


def _parse_numbers(text: str, count: int, form: str) -> list[float]:
    try:
        numbers = [float(number) for number in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(abs(number) < _LIMIT for number in numbers):
        raise ValueError(f"{text[:40]!r} is not {form}")
    return numbers
