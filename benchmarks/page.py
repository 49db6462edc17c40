"""Pages of docs/, rendered from the stored figures by the templates in benchmarks/templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

TEMPLATES = Path(__file__).parent / "templates"


def render_template(name: str, **values: Any) -> str:
    """Render a template.

    Parameters
    ----------
    name : str
        File name of the template, such as "speed.md.j2".
    **values : object
        The template's variables.

    Returns
    -------
    str
        The page, Markdown.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters |= {
        "percent": "{:.0%}".format,
        "seconds": "{:.2f}".format,
        "score": format_score,
        "score_interval": format_score_interval,
        "assumed": format_assumed_spacing,
    }
    return environment.get_template(name).render(**values)


def format_score(score: dict[str, Any] | None) -> str:
    """Return a score of a card with three digits, or a dash where it is missing."""
    return "–" if not score or score["value"] is None else f"{score['value']:.3f}"


def format_score_interval(score: dict[str, Any] | None) -> str:
    """Return a score of a card with its interval, or a dash where it is missing."""
    if not score or score["value"] is None or score["low"] is None:
        return format_score(score)
    between = "–" if score["low"] >= 0 else " to "
    return f"{score['value']:.3f} ({score['low']:.3f}{between}{score['high']:.3f})"


def format_assumed_spacing(spacing_mm: tuple[float, float, float] | None) -> str:
    """Return a spacing (slice, row, column) that is assumed, as "0.45 x 0.45 x 5 mm", or a dash."""
    return "–" if spacing_mm is None else "{1:g} x {2:g} x {0:g} mm".format(*spacing_mm)
