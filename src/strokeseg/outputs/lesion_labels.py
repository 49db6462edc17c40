"""What the numbers of a labelled volume mean: names and colours, as 3D Slicer and ITK-SNAP read them."""

from __future__ import annotations

from pathlib import Path

SLICER_NAME = "lesions.ctbl"
ITKSNAP_NAME = "lesions_itksnap.txt"

# Reds and yellows first, as blood is drawn elsewhere; neighbours in the list are far apart.
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
    """Name the lesion with this id."""
    return f"Hemorrhage {number}"


def get_lesion_rgb(number: int) -> tuple[int, int, int]:
    """Return the colour (0 to 255 each) of the lesion with this id, from 1 on; after ten they come again."""
    return _COLOURS[(number - 1) % len(_COLOURS)]


def save(folder: Path, count: int) -> dict[str, str]:
    """Write `lesions.ctbl` and `lesions_itksnap.txt` for lesions 1 to ``count``.

    Returns
    -------
    dict of str to str
        The names of the files.
    """
    (folder / SLICER_NAME).write_text(format_slicer_table(count), "ascii")
    (folder / ITKSNAP_NAME).write_text(format_itksnap_labels(count), "ascii")
    return {"lesion_colours": SLICER_NAME, "lesion_labels": ITKSNAP_NAME}


def format_slicer_table(count: int) -> str:
    """Return a colour table of 3D Slicer: a line a label: number, name without spaces, red, green, blue, alpha."""
    lines = ["# Color table of StrokeSeg: the labels of lesions.nii.gz", "0 Background 0 0 0 0"]
    for number in range(1, count + 1):
        lines.append(
            f"{number} {name_lesion(number).replace(' ', '_')} {' '.join(map(str, get_lesion_rgb(number)))} 255"
        )
    return "\n".join(lines) + "\n"


def format_itksnap_labels(count: int) -> str:
    """Give label descriptions of ITK-SNAP: number, red, green, blue, alpha (0 to 1), shown, shown in 3D, "name"."""
    lines = [
        "# Label descriptions of StrokeSeg: the labels of lesions.nii.gz",
        _format_itksnap_line(0, (0, 0, 0), 0, "Clear Label"),
    ]
    lines += [
        _format_itksnap_line(number, get_lesion_rgb(number), 1, name_lesion(number)) for number in range(1, count + 1)
    ]
    return "\n".join(lines) + "\n"


def _format_itksnap_line(number: int, colour: tuple[int, int, int], shown: int, label: str) -> str:
    red, green, blue = colour
    return f'{number:5} {red:5} {green:4} {blue:4} {shown:8} {shown:2} {shown:2}    "{label}"'
