"""Text form of the report of `strokeseg doctor`."""

from __future__ import annotations

import sys
from typing import Any

from strokeseg.cli import terminal


def format_report(report: dict[str, Any]) -> list[str]:
    """Format a report as lines.

    Parameters
    ----------
    report : dict of str to object
        The report, as `strokeseg doctor --json` prints it.

    Returns
    -------
    list of str
        The lines, without control characters.
    """
    sections = {
        "Machine": _format_machine(report["machine"]) if report["machine"] else [],
        "Packages": [f"{name} {version or 'NOT INSTALLED'}" for name, version in report["packages"].items()],
        "Engines": _format_engines(report["engines"]),
        "--engine auto": [f"{model}: {chosen['engine']}: {chosen['why']}" for model, chosen in report["auto"].items()],
        "First inference": _format_answer(report["answer"]),
        "Compressed DICOM": [
            f"{name}: {'yes' if available else 'NO'}" for name, available in report["decoders"].items()
        ],
        "Models": [f"{name}: {state}" for name, state in report["models"].items()],
        "Folders": [_format_folder(name, folder) for name, folder in report["folders"].items()],
        "Extras (optional)": [_format_extra(name, packages) for name, packages in report["extras"].items()],
        "Input limits": _format_limits(report["bounds"]) if report["bounds"] else [],
    }
    lines = [report["software"]]
    for heading, entries in sections.items():
        lines += ["", heading, *(f"  {entry}" for entry in entries or ["NONE"])]
    if not report["problems"]:
        lines += ["", "The installation is complete."]
    return [terminal.escape_unprintable(line) for line in lines]


_FOLDER_NAMES = {"here": "current"}
_FOLDER_REMEDIES = {
    "here": "; name another folder with -o",
    "models": "; to add models of your own, name another folder with STROKESEG_MODELS",
}


def _format_folder(name: str, folder: dict[str, Any]) -> str:
    state = "" if folder["writable"] else f": NOT WRITABLE{_FOLDER_REMEDIES.get(name, '')}"
    return f"{_FOLDER_NAMES.get(name, name)}: {folder['path']}{state}"


def _format_machine(machine: dict[str, Any]) -> list[str]:
    fast = [f"{bits} by {machine[key]}" for bits, key in (("8-bit", "int8"), ("16-bit", "bf16")) if machine[key]]
    return [
        f"Python {machine['python']} ({sys.executable}) on {machine['platform']}",
        f"{machine['processor']}: {machine['cores']} cores, {machine['memory_gib'] or '?'} GiB of memory",
        f"fast arithmetic: {', '.join(fast) or 'none known'}",
        f"NVIDIA GPU: {'yes' if machine['nvidia'] else 'none'}",
    ]


def _format_engines(engines: dict[str, str]) -> list[str]:
    return [
        f"{name}: {state if state == 'installed' else f'not installed: {state}'}" for name, state in engines.items()
    ]


def _format_answer(answer: dict[str, Any]) -> list[str]:
    if not answer:
        return []
    return [f"{answer['engine']}: loaded in {answer['load_s']:.2f} s, one slice in {answer['first_slice_s']:.2f} s"]


def _format_extra(name: str, packages: dict[str, str | None]) -> str:
    absent = [package for package, version in packages.items() if version is None]
    if packages and not absent:
        return f"{name}: yes"
    state = f"without {', '.join(absent)}" if absent else "unknown"
    return f'{name}: {state}: pip install "strokeseg[{name}]"'


def _format_limits(limits: dict[str, int]) -> list[str]:
    return [
        f"{limits['most_files']:,} files; {limits['most_unpacked_gib']} GiB unpacked, "
        f"and at most {limits['most_times_of_a_zip']} times the size of the zip",
        f"{limits['most_pixels_of_a_slice']:,} pixels per slice, {limits['most_voxels']:,} voxels in total",
    ]
