"""A result in a notebook: a summary as HTML, the lesions as a pandas table, and an interactive viewer."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup, escape
from numpy.typing import NDArray

from strokeseg.errors import UsageError
from strokeseg.imaging.components import Labels
from strokeseg.outputs.images import slice_images
from strokeseg.outputs.report import wording
from strokeseg.outputs.report.texts import load_texts
from strokeseg.outputs.volumes import nifti
from strokeseg.outputs.volumes.regular_grid import make_regular
from strokeseg.result import Lesion, ResultDocument
from strokeseg.scan import Scan
from strokeseg.scan_options import BRAIN_WINDOW

if TYPE_CHECKING:
    from ipyniivue import NiiVue
    from pandas import DataFrame

_IMAGE_SIDE = 320
_REMEDY = "Install it: pip install 'strokeseg[notebook]'."
_OPACITY = 0.5


def render_html(document: ResultDocument, scan: Scan, mask: NDArray[np.bool_], labels: Labels) -> str:
    """Render a short summary: one sentence, the main figures, the warnings and the slice that shows the largest lesion.

    The HTML has no scripts, loads nothing, and all text is escaped.

    Parameters
    ----------
    document : ResultDocument
        The result.
    scan : Scan
        The scan.
    mask : ndarray of bool, shape (slices, rows, columns)
        Mask of all lesions on the grid of the scan.
    labels : ndarray of int, shape (slices, rows, columns)
        0 is background, 1 the largest lesion.

    Returns
    -------
    str
        HTML.
    """
    texts = load_texts()
    index = slice_images.choose_key_slices(labels)[0]
    image, buffer = slice_images.draw_key_slice(scan, mask, index), io.BytesIO()
    image.thumbnail((_IMAGE_SIDE, _IMAGE_SIDE))
    image.save(buffer, "JPEG", quality=85)
    source = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    alt = texts("notebook.alt", number=index + 1, count=len(mask))
    rows = Markup().join(
        Markup('<tr><th scope="row" style="text-align:left">{}</th><td style="text-align:left">{} {}</td></tr>').format(
            figure.label,
            texts("not_measured") if figure.value is None else figure.value,
            figure.unit if figure.value else "",
        )
        for figure in wording.list_figures(document, texts)
    )
    warnings = Markup().join(
        Markup("<li>{}</li>").format(remark.message) for remark in document.remarks if remark.severity == "warning"
    )
    parts = [
        Markup('<div style="display:flex;flex-wrap:wrap;gap:1.5em;align-items:flex-start">'),
        Markup('<img src="{}" alt="{}" width="{}" height="{}">').format(source, alt, image.width, image.height),
        Markup('<div style="flex:1 1 20em;max-width:40em">'),
        Markup("<p><strong>{}</strong></p>").format(wording.summarize(document, texts)),
        Markup("<table>{}</table>").format(rows) if rows else Markup(),
        Markup("<ul>{}</ul>").format(warnings) if warnings else Markup(),
        Markup("<p><small>{} {}</small></p></div></div>").format(texts("research"), document.disclaimer),
    ]
    return str(escape(Markup().join(parts)))


def make_frame(document: ResultDocument) -> DataFrame:
    """Return the lesions as a table with one row each, indexed by lesion id.

    Columns are the fields of `result.json`. Fields with several values have several columns (``first_slice``,
    ``last_slice``, ``centroid_x_mm``, ...: LPS); values that were not measured are missing. Without any lesion the
    table has no rows.

    Parameters
    ----------
    document : ResultDocument
        The result.

    Returns
    -------
    DataFrame
        The table.

    Raises
    ------
    UsageError
        `usage`, if pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise UsageError("to_frame: pandas is not installed", _REMEDY) from None
    rows = [_flatten_lesion(lesion) for lesion in document.findings.lesions]
    names = list(dict.fromkeys(name for row in rows for name in row)) or list(_flatten_lesion(_NO_LESION))
    return pandas.DataFrame(rows, columns=names).set_index("id")


def open_viewer(scan: Scan, labels: Labels) -> NiiVue:
    """Open a scan with its lesions in an interactive widget: three planes and a 3D rendering.

    Parameters
    ----------
    scan : Scan
        The scan.
    labels : ndarray of int, shape (slices, rows, columns)
        On the grid of the scan; 1 is the largest lesion.

    Returns
    -------
    NiiVue
        Ipyniivue's widget; a notebook shows it where it is the last value of a cell.

    Raises
    ------
    UsageError
        `usage`, if ipyniivue is not installed.
    """
    try:
        from ipyniivue import NiiVue, SliceType
    except ImportError:
        raise UsageError("view: ipyniivue is not installed", _REMEDY) from None
    with tempfile.TemporaryDirectory() as folder:
        files = nifti.save(Path(folder), scan, make_regular(scan, labels))
        ct, lesions = ((Path(folder) / files[name]).read_bytes() for name in ("ct", "lesion_volume"))
    centre, width = BRAIN_WINDOW
    widget = NiiVue()
    widget.load_volumes(
        [
            {"name": files["ct"], "data": ct, "cal_min": centre - width / 2, "cal_max": centre + width / 2},
            {"name": files["lesion_volume"], "data": lesions, "colormap": "red", "opacity": _OPACITY, "cal_min": 0.5},
        ]
    )
    widget.set_slice_type(SliceType.MULTIPLANAR)
    return widget


_NO_LESION = Lesion(id=1, pixels=1, slices=(0, 0), probability=None, volume_ml=None)


def _flatten_lesion(lesion: Lesion) -> dict[str, Any]:
    row = lesion.model_dump()
    first, last = row.pop("slices")
    centroid = row.pop("centroid_lps_mm") or (None, None, None)
    signs, types = row.pop("signs") or {}, row.pop("type_probabilities") or {}
    row |= {"first_slice": first, "last_slice": last}
    row |= {f"centroid_{axis}_mm": value for axis, value in zip("xyz", centroid, strict=True)}
    row |= {f"sign_{name}": is_present for name, is_present in signs.items()}
    row |= {f"p_{name}": share for name, share in types.items()}
    return row
