"""Choose the rule of the settings that matches a series, and report why the others do not match."""

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
    """Attributes of a series that the rules match; texts are empty and numbers None if the headers lack them.

    Attributes
    ----------
    body_part : str, default: ""
        Body Part Examined, (0018,0015).
    description : str, default: ""
        Series and study description, (0008,103E) and (0008,1030), joined.
    kernel : str, default: ""
        Convolution kernel, (0018,1210).
    thickness_mm : float, optional
        Median slice thickness in mm, (0018,0050).
    slices : int, default: 0
        Number of instances, or of frames in multi-frame instances.
    sender : str, default: ""
        Name of the peer.
    """

    body_part: str = ""
    description: str = ""
    kernel: str = ""
    thickness_mm: float | None = None
    slices: int = 0
    sender: str = ""


@dataclass(frozen=True)
class Decision:
    """The rule that matches a series.

    Attributes
    ----------
    rule : Rule or None
        The rule; None if no rule matches.
    reasons : tuple of str
        One line for each rule that was checked: why it matches, or why not.
    """

    rule: Rule | None
    reasons: tuple[str, ...]


def read_attributes(headers: Iterable[Dataset], sender: str) -> SeriesAttributes:
    """Read the attributes that the rules match from the headers of a series."""
    first: Dataset | None = None
    thickness: list[float] = []
    slices = 0
    for header in headers:
        first = first if first is not None else header
        slices += _read_number(header, "NumberOfFrames", 1)
        if (value := _read_number(header, "SliceThickness", 0.0)) > 0:
            thickness.append(value)
    if first is None:
        return SeriesAttributes(sender=sender)
    return SeriesAttributes(
        body_part=_read_text(first, "BodyPartExamined"),
        description=" ".join(
            filter(None, (_read_text(first, "SeriesDescription"), _read_text(first, "StudyDescription")))
        ),
        kernel=_read_text(first, "ConvolutionKernel"),
        thickness_mm=sorted(thickness)[len(thickness) // 2] if thickness else None,
        slices=slices,
        sender=sender,
    )


def choose_rule(rules: Sequence[Rule], series: SeriesAttributes) -> Decision:
    """Choose the first rule that matches a series.

    Parameters
    ----------
    rules : sequence of Rule
        Rules in the order of the settings.
    series : SeriesAttributes
        Attributes of the series.

    Returns
    -------
    Decision
        The rule and the reasons.
    """
    reasons: list[str] = []
    for rule in rules:
        mismatch = _find_mismatch(rule.match, series)
        if mismatch is None:
            reasons.append(f"{rule.name}: matches, {rule.do}")
            return Decision(rule, tuple(reasons))
        reasons.append(f"{rule.name}: {mismatch}")
    return Decision(None, (*reasons, "no rule matches: the series is ignored"))


def _find_mismatch(match: SeriesMatch, series: SeriesAttributes) -> str | None:
    """Return why a series does not match, or None if it does."""
    required_patterns = (
        ("body part", match.body_part, series.body_part),
        ("description", match.description, series.description),
        ("kernel", match.kernel, series.kernel),
    )
    for name, pattern, text in required_patterns:
        if pattern is not None and not re.search(pattern, text, re.IGNORECASE):
            return f"the {name} {text!r} does not match {pattern!r}"
    excluded_patterns = (
        ("description", match.not_description, series.description),
        ("kernel", match.not_kernel, series.kernel),
    )
    for name, pattern, text in excluded_patterns:
        if pattern is not None and re.search(pattern, text, re.IGNORECASE):
            return f"the {name} {text!r} matches {pattern!r}, which is excluded"
    if match.sender and series.sender not in match.sender:
        return f"the sender {series.sender!r} is not one of {', '.join(match.sender)}"
    ranges = (("thickness", match.thickness_mm, series.thickness_mm), ("slices", match.slices, series.slices))
    for name, limits, value in ranges:
        if limits is not None and (value is None or not limits[0] <= value <= limits[1]):
            shown = "unknown" if value is None else f"{value:g}"
            return f"{name}: {shown}, not within {limits[0]:g} to {limits[1]:g}"
    return None


def _read_text(header: Dataset, name: str) -> str:
    value = header.get(name, "")
    parts = value if isinstance(value, MultiValue) else [value]
    return " ".join(str(part) for part in parts if part is not None).strip()


def _read_number(header: Dataset, name: str, default: Number) -> Number:
    try:
        return type(default)(header.get(name, default))
    except (TypeError, ValueError):
        return default
