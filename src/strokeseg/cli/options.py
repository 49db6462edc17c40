"""The options that several commands share, each with its help and the form that it is read in."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, NamedTuple

import typer


class Window(NamedTuple):
    """A grey-level window, Hounsfield units."""

    centre: float
    width: float


class Spacing(NamedTuple):
    """The distances between slices, rows and columns, mm."""

    slice: float
    row: float
    column: float


class EngineName(StrEnum):
    """What runs the network; the names of :data:`strokeseg.segmentation.engines.onnxruntime.ENGINES`."""

    auto = "auto"
    onnxruntime = "onnxruntime"
    openvino = "openvino"
    openvino_bf16 = "openvino-bf16"
    cuda = "cuda"
    tensorrt = "tensorrt"
    coreml = "coreml"
    directml = "directml"


def parse_window(text: str) -> Window:
    """Read "40,80"."""
    return Window(*_parse_numbers(text, 2, "CENTRE,WIDTH in Hounsfield units, as 40,80"))


def parse_spacing(text: str) -> Spacing:
    """Read "5,0.45,0.45"."""
    numbers = _parse_numbers(text, 3, "SLICE,ROW,COLUMN in mm, as 5,0.45,0.45")
    if min(numbers) <= 0:
        raise typer.BadParameter(f"{text!r}: every distance must be above 0 mm")
    return Spacing(*numbers)


def _parse_numbers(text: str, count: int, form: str) -> list[float]:
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(abs(number) < 1e5 for number in numbers):
        raise typer.BadParameter(f"{text!r} is not {form}")
    return numbers


def parse_names(text: str) -> tuple[str, ...]:
    """Read "json,nifti"; what the names may be is not known here."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


InputArgument = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        show_default=False,
        help="A DICOM folder, zip or file; a volume as NIfTI, NRRD or MetaImage; a picture (PNG, JPEG, TIFF, ...), or "
        "a folder or zip of pictures, which is read as one stack in the order of the names.",
    ),
]
ModelOption = Annotated[
    str, typer.Option("--model", metavar="NAME", help="Network to use; `strokeseg models list` shows which there are.")
]
EngineOption = Annotated[
    EngineName, typer.Option("--engine", metavar="NAME", help=f"{', '.join(EngineName)}; see docs/engines.md.")
]
ThreadsOption = Annotated[
    int, typer.Option("--threads", min=0, max=1024, metavar="N", help="Processor threads; 0 is all cores.")
]
FlipOption = Annotated[
    bool, typer.Option("--flip", help="Answer every slice also mirrored and take the mean; takes twice as long.")
]
SpacingOption = Annotated[
    Spacing | None,
    typer.Option(
        "--spacing",
        parser=parse_spacing,
        metavar="SLICE,ROW,COLUMN",
        show_default=False,
        help="Pictures only: mm between slices, rows and columns, as 5,0.45,0.45. Without it nothing is given in mm "
        "or ml.",
    ),
]
WindowOption = Annotated[
    Window | None,
    typer.Option(
        "--window",
        parser=parse_window,
        metavar="CENTRE,WIDTH",
        show_default=False,
        help="Pictures only: the window that they were made with, as 40,80. Estimated where not given.",
    ),
]
SeriesOption = Annotated[
    str | None,
    typer.Option(
        "--series",
        metavar="UID",
        show_default=False,
        help="DICOM only: the series instance UID, or how it begins, where the input holds several; "
        "`strokeseg inspect` lists them.",
    ),
]
NativeOption = Annotated[
    bool,
    typer.Option(
        "--native",
        help="Also write CT and mask as NIfTI on the planes as acquired: nothing is resampled, and a tilted gantry "
        "becomes a sheared affine.",
    ),
]
SkullOption = Annotated[
    bool, typer.Option("--skull", help="Also draw the skull: in the 3D scene, and as STL, PLY or OBJ.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else there.")]

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        show_default="data.root of the configuration",
        help="Folder of the data sets.",
    ),
]
