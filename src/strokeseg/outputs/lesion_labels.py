"""Names and colours of the lesions, and the label files of a volume for 3D Slicer and ITK-SNAP."""

from __future__ import annotations

from pathlib import Path

SLICER_NAME = "lesions.ctbl"
ITKSNAP_NAME = "lesions_itksnap.txt"

# Red and yellow first, as in the other outputs; colours next to each other in the list differ strongly.
_COLOURS = (
    (214, 40, 40),
    (255, 190, 11),
    (0, 150, 199),
    (247, 127, 0),
    (131, 56, 236),
    (56, 176, 0),
    (255, 0, 110),
    (144, 190, 109),
    (94, 96, 206),
    (188, 108, 37),
)


def name_lesion(number: int) -> str:
    """Return the name of the lesion with this id."""
    return f"Hemorrhage {number}"


def get_lesion_rgb(number: int) -> tuple[int, int, int]:
    """Return the colour (0 to 255 each) of the lesion with this id, counted from 1; ten colours repeat."""
    return _COLOURS[(number - 1) % len(_COLOURS)]


def save(folder: Path, count: int) -> dict[str, str]:
    """Write `lesions.ctbl` and `lesions_itksnap.txt` for lesions 1 to ``count``.

    Parameters
    ----------
    folder : Path
        Where to write them.
    count : int
        Number of lesions.

    Returns
    -------
    dict of str to str
        File names by key of `result.json`.
    """
    (folder / SLICER_NAME).write_text(format_slicer_table(count), "ascii")
    (folder / ITKSNAP_NAME).write_text(format_itksnap_labels(count), "ascii")
    return {"lesion_colours": SLICER_NAME, "lesion_labels": ITKSNAP_NAME}


def format_slicer_table(count: int) -> str:
    """Return a 3D Slicer colour table with one line per label: number, name without spaces, red, green, blue, alpha."""
    lines = ["# Color table of StrokeSeg: the labels of lesions.nii.gz", "0 Background 0 0 0 0"]
    for number in range(1, count + 1):
        lines.append(
            f"{number} {name_lesion(number).replace(' ', '_')} {' '.join(map(str, get_lesion_rgb(number)))} 255"
        )
    return "\n".join(lines) + "\n"


def format_itksnap_labels(count: int) -> str:
    """Return ITK-SNAP label descriptions: number, red, green, blue, alpha (0 to 1), visible, visible in 3D, "name"."""
    lines = [
        "# Label descriptions of StrokeSeg: the labels of lesions.nii.gz",
        _format_itksnap_line(0, (0, 0, 0), 0, "Clear Label"),
    ]
    lines += [
        _format_itksnap_line(number, get_lesion_rgb(number), 1, name_lesion(number)) for number in range(1, count + 1)
    ]
    return "\n".join(lines) + "\n"


def _format_itksnap_line(number: int, colour: tuple[int, int, int], visible: int, label: str) -> str:
    red, green, blue = colour
    return f'{number:5} {red:5} {green:4} {blue:4} {visible:8} {visible:2} {visible:2}    "{label}"'
