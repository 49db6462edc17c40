"""Options that several commands share, with their help texts and parsers."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from strokeseg.scan_options import OperatingPointName, SliceOrder, Spacing, Window, parse_spacing, parse_window


class EngineName(StrEnum):
    """Inference engines; the names of :data:`strokeseg.segmentation.engines.selection.ENGINES`."""

    auto = "auto"
    onnxruntime = "onnxruntime"
    openvino = "openvino"
    openvino_bf16 = "openvino-bf16"
    cuda = "cuda"
    tensorrt = "tensorrt"
    coreml = "coreml"
    directml = "directml"


_Value = TypeVar("_Value")


def _make_parser(parse: Callable[[str], _Value]) -> Callable[[str], _Value]:
    """Return a parser that reports a value of the wrong form as typer does."""

    def parse_option(text: str) -> _Value:
        try:
            return parse(text)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None

    return parse_option


def parse_names(text: str) -> tuple[str, ...]:
    """Parse a list of names such as "json,nifti", without duplicates."""
    return tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))


parse_spacing_option = _make_parser(parse_spacing)

InputArgument = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        show_default=False,
        help="A DICOM folder, zip or file; a volume as NIfTI, NRRD or MetaImage; a picture (PNG, JPEG, TIFF, ...), or "
        "a folder or zip of pictures, which is read as one stack in the order of the file names.",
    ),
]
ModelOption = Annotated[
    str, typer.Option("--model", metavar="NAME", help="Model to use; `strokeseg models list` shows the names.")
]
EngineOption = Annotated[
    EngineName, typer.Option("--engine", metavar="NAME", help=f"{', '.join(EngineName)}; see docs/engines.md.")
]
ThreadsOption = Annotated[
    int, typer.Option("--threads", min=0, max=1024, metavar="N", help="Processor threads; 0 means all cores.")
]
FlipOption = Annotated[
    bool, typer.Option("--flip", help="Average the answers for each slice and its mirror image; takes twice as long.")
]
OperatingPointOption = Annotated[
    OperatingPointName,
    typer.Option(
        "--operating-point",
        help="Choice between missed hemorrhages and false alarms; `strokeseg models show` states what each was "
        "measured to do.",
    ),
]
ThresholdOption = Annotated[
    float | None,
    typer.Option(
        "--threshold",
        metavar="P",
        show_default="that of the model",
        help="Probability threshold of the outlines, above 0 and below 1.",
    ),
]
SmallestOption = Annotated[
    float | None,
    typer.Option(
        "--smallest-ml", metavar="ML", show_default="that of the model", help="Leave out lesions smaller than this."
    ),
]
SpacingOption = Annotated[
    Spacing | None,
    typer.Option(
        "--spacing",
        parser=parse_spacing_option,
        metavar="SLICE,ROW,COLUMN",
        show_default=False,
        help="Pictures only: distances between slices, rows and columns in mm, such as 5,0.45,0.45. Without it no "
        "figure is given in mm or ml.",
    ),
]
WindowOption = Annotated[
    Window | None,
    typer.Option(
        "--window",
        parser=_make_parser(parse_window),
        metavar="CENTRE,WIDTH",
        show_default=False,
        help="Pictures only: the window of the pictures, such as 40,80. Estimated by default.",
    ),
]
OrderOption = Annotated[
    SliceOrder,
    typer.Option(
        "--order",
        help="Pictures only: whether the first picture of a stack is the lowest or the highest slice. By default it is "
        "found from the anatomy.",
    ),
]
SeriesOption = Annotated[
    str | None,
    typer.Option(
        "--series",
        metavar="UID",
        show_default=False,
        help="DICOM only: the series instance UID, or its beginning, where the input holds several series; "
        "UID:2 for the second of several volumes in one series; "
        "`strokeseg inspect` lists them.",
    ),
]
NativeOption = Annotated[
    bool,
    typer.Option(
        "--native",
        help="Also write CT and mask as NIfTI on the acquired planes, without resampling; a tilted gantry "
        "becomes a sheared affine.",
    ),
]
SkullOption = Annotated[
    bool, typer.Option("--skull", help="Add the skull to the 3D scene and to STL, PLY or OBJ files.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on stdout.")]

DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        metavar="FOLDER",
        show_default="data.root of the configuration",
        help="Folder of the data sets.",
    ),
]
