"""Which rule of the settings fits a series, and why the others do not."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydicom.dataset import Dataset
from pydicom.multival import MultiValue

from strokeseg.pacs.settings import Rule, SeriesMatch

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class SeriesAttributes:
    """What the rules ask of a series; text is empty and numbers are None where the headers do not say it.

    Parameters
    ----------
    body_part, description, kernel : str, default: ""
        (0018,0015); (0008,103E) and (0008,1030), joined; (0018,1210).
    thickness_mm : float, optional
        The median of (0018,0050).
    slices : int, default: 0
        Instances, or frames of multi-frame ones.
    sender : str, default: ""
        The peer's name.
    """

    body_part: str = ""
    description: str = ""
    kernel: str = ""
    thickness_mm: float | None = None
    slices: int = 0
    sender: str = ""


@dataclass(frozen=True)
class Decision:
    """The rule that hits, or None, and for each rule that was asked one line that says why or why not."""

    rule: Rule | None
    reasons: tuple[str, ...]


def read_attributes(headers: Iterable[Dataset], sender: str) -> SeriesAttributes:
    """Collect what the rules ask from the headers of a series' instances."""
    first: Dataset | None = None
    thickness: list[float] = []
    slices = 0
    for header in headers:
        first = first if first is not None else header
        slices += _number(header, "NumberOfFrames", 1)
        if (value := _number(header, "SliceThickness", 0.0)) > 0:
            thickness.append(value)
    if first is None:
        return SeriesAttributes(sender=sender)
    return SeriesAttributes(
        body_part=_text(first, "BodyPartExamined"),
        description=" ".join(filter(None, (_text(first, "SeriesDescription"), _text(first, "StudyDescription")))),
        kernel=_text(first, "ConvolutionKernel"),
        thickness_mm=sorted(thickness)[len(thickness) // 2] if thickness else None,
        slices=slices,
        sender=sender,
    )


def choose_rule(rules: Sequence[Rule], series: SeriesAttributes) -> Decision:
    """Return the first rule that fits."""
    reasons: list[str] = []
    for rule in rules:
        against = _find_mismatch(rule.match, series)
        if against is None:
            reasons.append(f"{rule.name}: fits, {rule.do}")
            return Decision(rule, tuple(reasons))
        reasons.append(f"{rule.name}: {against}")
    return Decision(None, (*reasons, "no rule fits: nothing is done with this series"))


def _find_mismatch(match: SeriesMatch, series: SeriesAttributes) -> str | None:
    """Say what of a series does not fit, or None."""
    texts = (("body part", match.body_part, series.body_part), ("description", match.description, series.description))
    for name, pattern, text in (*texts, ("kernel", match.kernel, series.kernel)):
        if pattern is not None and not re.search(pattern, text, re.IGNORECASE):
            return f"the {name} {text!r} does not match {pattern!r}"
    without = (
        ("description", match.not_description, series.description),
        ("kernel", match.not_kernel, series.kernel),
    )
    for name, pattern, text in without:
        if pattern is not None and re.search(pattern, text, re.IGNORECASE):
            return f"the {name} {text!r} matches {pattern!r}, which is excluded"
    if match.sender and series.sender not in match.sender:
        return f"the sender {series.sender!r} is none of {', '.join(match.sender)}"
    numbers = (("thickness", match.thickness_mm, series.thickness_mm), ("slices", match.slices, series.slices))
    for name, bounds, value in numbers:
        if bounds is not None and (value is None or not bounds[0] <= value <= bounds[1]):
            return f"{name}: {'not said' if value is None else f'{value:g}'}, not within {bounds[0]:g} to {bounds[1]:g}"
    return None


def _text(header: Dataset, name: str) -> str:
    value = header.get(name, "")
    parts = value if isinstance(value, MultiValue) else [value]
    return " ".join(str(part) for part in parts if part is not None).strip()


def _number(header: Dataset, name: str, default: Number) -> Number:
    try:
        return type(default)(header.get(name, default))
    except (TypeError, ValueError):
        return default
