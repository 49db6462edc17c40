"""What `strokeseg doctor` found, in lines for a person."""

from __future__ import annotations

import sys
from typing import Any

from strokeseg.cli import terminal


def format_report(found: dict[str, Any]) -> list[str]:
    """Put what was found in lines; a missing package of an extra is no problem, only said."""
    sections = {
        "Machine": _format_machine(found["machine"]) if found["machine"] else [],
        "Packages": [f"{name} {version or 'NOT INSTALLED'}" for name, version in found["packages"].items()],
        "Engines": _format_engines(found["engines"]),
        "--engine auto": [f"{model}: {chosen['engine']}: {chosen['why']}" for model, chosen in found["auto"].items()],
        "First answer": _format_answer(found["answer"]),
        "Compressed DICOM": [f"{name}: {'yes' if there else 'NO'}" for name, there in found["decoders"].items()],
        "Networks": [f"{name}: {state}" for name, state in found["models"].items()],
        "Folders": [
            f"{name}: {folder['path']}{'' if folder['writable'] else ': NOT WRITABLE' + _FOLDER_REMEDIES.get(name, '')}"
            for name, folder in found["folders"].items()
        ],
        "Extras (optional)": [_format_extra(name, packages) for name, packages in found["extras"].items()],
        "Bounds of an input": _format_limits(found["bounds"]) if found["bounds"] else [],
    }
    shown = [found["software"]]
    for heading, entries in sections.items():
        shown += ["", heading, *(f"  {entry}" for entry in entries or ["NONE"])]
    if not found["problems"]:
        shown += ["", "All that a run needs is there."]
    return [terminal.escape_unprintable(line) for line in shown]


_FOLDER_REMEDIES = {
    "here": "; name another folder with -o",
    "models": "; no network of your own can be added, or name another folder with STROKESEG_MODELS",
}


def _format_machine(machine: dict[str, Any]) -> list[str]:
    quick = [f"{bits} by {machine[key]}" for bits, key in (("8-bit", "int8"), ("16-bit", "bf16")) if machine[key]]
    return [
        f"Python {machine['python']} ({sys.executable}) on {machine['platform']}",
        f"{machine['processor']}: {machine['cores']} cores, {machine['memory_gib'] or '?'} GiB of memory",
        f"quick arithmetic: {', '.join(quick) or 'none known'}",
        f"card by NVIDIA: {'yes' if machine['nvidia'] else 'none'}",
    ]


def _format_engines(engines: dict[str, str]) -> list[str]:
    return [f"{name}: {state if state == 'installed' else f'not here: {state}'}" for name, state in engines.items()]


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


def _format_limits(bounds: dict[str, int]) -> list[str]:
    return [
        f"{bounds['most_files']:,} files; {bounds['most_unpacked_gib']} GiB unpacked, "
        f"and at most {bounds['most_times_of_a_zip']} times the zip's size",
        f"{bounds['most_pixels_of_a_slice']:,} pixels a slice, {bounds['most_voxels']:,} voxels in all",
    ]
