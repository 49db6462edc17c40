"""`strokeseg doctor`: whether everything that a run needs is there and whole."""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

import typer

from strokeseg.cli import options, terminal
from strokeseg.errors import StrokesegError
from strokeseg.version import __version__

EXAMPLES = """\b
Examples:
  strokeseg doctor
  strokeseg doctor --json > report-a-fault.json
"""

# The compressed transfer syntaxes that scanners and archives send, by the names of the standard.
_SYNTAXES = {
    "1.2.840.10008.1.2.4.50": "JPEG baseline",
    "1.2.840.10008.1.2.4.70": "JPEG lossless",
    "1.2.840.10008.1.2.4.80": "JPEG-LS lossless",
    "1.2.840.10008.1.2.4.90": "JPEG 2000 lossless",
    "1.2.840.10008.1.2.5": "RLE lossless",
}


def doctor(as_json: options.AsJson = False) -> None:
    """Check this installation: packages, engine, decoders, networks; and name the bounds of an input.

    Ends with exit code 3 and says what to do where something that a run needs is missing or damaged. Nothing of a
    patient is read or shown, so the answer can go into a report of a fault.
    """
    problems: list[str] = []
    found = {
        "software": f"strokeseg {__version__}",
        "machine": _machine(),
        "packages": _tried(_packages, problems),
        "engines": _tried(_engines, problems),
        "decoders": _tried(_decoders, problems),
        "models": _tried(_models, problems),
        "training": _tried(_training, []),
        "bounds": _tried(_bounds, problems),
        "problems": problems,
    }
    if as_json:
        terminal.data(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        terminal.data("\n".join(_lines(found)))
    for problem in problems:
        terminal.note(f"problem: {problem}")
    if problems:
        terminal.note("remedy: Install StrokeSeg again: pip install --force-reinstall strokeseg")
        raise typer.Exit(terminal.REFUSED)


def _tried(look: Callable[[list[str]], dict[str, Any]], problems: list[str]) -> dict[str, Any]:
    """Look at a part of the installation; that it cannot even be loaded is a problem and no reason to stop."""
    try:
        return look(problems)
    except ImportError as error:
        problems.append(f"{look.__name__.strip('_')}: cannot be loaded: {error}")
        return {}


def _machine() -> dict[str, Any]:
    memory = None
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = round(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30, 1)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_gib": memory,
    }


def _requirements(extra: str | None) -> list[str]:
    """Give the names of the packages that StrokeSeg, or one of its extras, requires."""
    names = []
    for line in metadata.requires("strokeseg") or []:
        wanted, _, condition = line.partition(";")
        if (f"extra == '{extra}'" in condition.replace('"', "'")) if extra else not condition:
            names.append(re.split(r"[^\w.-]", wanted.strip())[0])
    return names


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _packages(problems: list[str]) -> dict[str, Any]:
    versions = {name: _version(name) for name in _requirements(None)}
    problems += [f"the package {name} is not installed" for name, version in versions.items() if version is None]
    return versions


def _engines(_: list[str]) -> dict[str, Any]:
    import onnxruntime

    return {"onnxruntime": onnxruntime.get_available_providers()}


def _decoders(problems: list[str]) -> dict[str, bool]:
    from pydicom.pixels.decoders.base import get_decoder

    available = {name: get_decoder(uid).is_available for uid, name in _SYNTAXES.items()}
    missing = [name for name, there in available.items() if not there]
    if missing:
        problems.append(f"compressed DICOM cannot be read: {', '.join(missing)}")
    return available


def _models(problems: list[str]) -> dict[str, str]:
    from strokeseg.infer import models

    states = {}
    for name in models.names():
        try:
            card, _ = models.weights(name)
            states[name] = f"whole, version {card.version}, sha256 {card.sha256[:12]}"
        except StrokesegError as error:
            states[name] = str(error)
            problems.append(f"{error.message} [{error.code}]")
    if "default" not in states:
        chosen = "" if models.folder() == models.SHIPPED else f", which {models.FOLDER_VARIABLE} names"
        problems.append(f"no network named 'default' in {models.folder()}{chosen}")
    return states


def _training(_: list[str]) -> dict[str, str | None]:
    return {package: _version(package) for package in _requirements("train")}


def _bounds(_: list[str]) -> dict[str, int]:
    from strokeseg.read import archive

    return {
        "most_files": archive.MOST_FILES,
        "most_unpacked_gib": archive.MOST_BYTES // 2**30,
        "most_times_of_a_zip": archive.MOST_RATIO,
        "most_pixels_of_a_slice": archive.MOST_PIXELS,
        "most_voxels": archive.MOST_VOXELS,
    }


def _lines(found: dict[str, Any]) -> list[str]:
    """Put what was found in lines; a missing package of an extra is no problem, only said."""
    machine, bounds = found["machine"], found["bounds"]
    absent = [name for name, version in found["training"].items() if version is None]
    sections = {
        "Packages": [f"{name} {version or 'NOT INSTALLED'}" for name, version in found["packages"].items()],
        "Engine": [f"{name}: {', '.join(offers)}" for name, offers in found["engines"].items()],
        "Compressed DICOM": [f"{name}: {'yes' if there else 'NO'}" for name, there in found["decoders"].items()],
        "Networks": [f"{name}: {state}" for name, state in found["models"].items()],
        "Training (optional)": [f'without {", ".join(absent)}: pip install "strokeseg[train]"'] if absent else ["yes"],
        "Bounds of an input": [
            f"{bounds['most_files']:,} files; {bounds['most_unpacked_gib']} GiB unpacked, "
            f"and at most {bounds['most_times_of_a_zip']} times the zip's size",
            f"{bounds['most_pixels_of_a_slice']:,} pixels a slice, {bounds['most_voxels']:,} voxels in all",
        ]
        if bounds
        else [],
    }
    lines = [
        found["software"],
        f"Python {machine['python']} ({sys.executable}) on {machine['platform']}",
        f"{machine['cores']} cores, {machine['memory_gib'] or '?'} GiB of memory",
    ]
    for heading, entries in sections.items():
        lines += ["", heading, *(f"  {entry}" for entry in entries or ["NONE"])]
    if not found["problems"]:
        lines += ["", "All that a run needs is there."]
    return [terminal.printable(line) for line in lines]
