"""Page docs/types.md, rendered from the figures in `measurements/lesion/types.json`."""

from __future__ import annotations

from typing import Any

from benchmarks.annotated_slices import ABBREVIATIONS, CODES
from benchmarks.page import render_template


def render_page(content: dict[str, Any]) -> str:
    """Render docs/types.md.

    Parameters
    ----------
    content : dict of str to object
        The content of types.json.

    Returns
    -------
    str
        The page.
    """
    figures = content["figures"]
    low, high = figures["intervals"][-1]
    epidural = CODES.index("EDH")
    return render_template(
        "types.md.j2",
        figures=figures,
        test=content.get("test"),
        codes=CODES,
        names={code: name for name, code in ABBREVIATIONS.items()},
        macro_f1=f"{figures['macro_f1']:.2f} ({low:.2f}–{high:.2f})",
        epidural_without_ctich=figures["patients"][epidural] - figures["by_source"]["ctich_train"][epidural],
    )
