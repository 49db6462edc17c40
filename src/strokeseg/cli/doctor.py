"""`strokeseg doctor`: whether everything that a run needs is there and whole."""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
import time
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import typer

from strokeseg.cli import options, terminal
from strokeseg.cli.doctor_report import format_report
from strokeseg.errors import StrokesegError
from strokeseg.version import __version__

EXAMPLES = """\b
Examples:
  strokeseg doctor
  strokeseg doctor --json > report-a-fault.json
"""


class Problem(NamedTuple):
    """What is wrong, and what mends it."""

    problem: str
    remedy: str


Problems = list[Problem]

_REINSTALL = "Install StrokeSeg again: pip install --force-reinstall strokeseg"


def doctor(as_json: options.JsonOption = False) -> None:
    """Check this installation: packages, engines, decoders, networks, folders; and name the bounds of an input.

    Says which engine --engine auto takes here, and why, and has the default network answer once. Ends with exit code 3
    where something that a run needs is missing or damaged, and says of each what mends it. Nothing of a patient is
    read or shown, so the answer can go into a report of a fault.
    """
    problems: Problems = []
    found = {
        "software": f"strokeseg {__version__}",
        "machine": _run_check(_machine, problems),
        "packages": _run_check(_packages, problems),
        "engines": _run_check(_engines, problems),
        "decoders": _run_check(_decoders, problems),
        "models": _run_check(_models, problems),
        "auto": _run_check(_auto, problems),
        "answer": _run_check(_answer, problems),
        "folders": _run_check(_folders, problems),
        "extras": {extra: _extra(extra) for extra in ("openvino", "train")},
        "bounds": _run_check(_bounds, problems),
        "problems": [problem._asdict() for problem in problems],
    }
    if as_json:
        terminal.print_data(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        terminal.print_data("\n".join(format_report(found)))
    for problem, remedy in problems:
        terminal.print_note(f"problem: {problem}")
        terminal.print_note(f"remedy: {remedy}")
    if problems:
        raise typer.Exit(terminal.REFUSED)


def _run_check(look: Callable[[Problems], dict[str, Any]], problems: Problems) -> dict[str, Any]:
    """Look at a part of the installation; that it cannot even be loaded is a problem and no reason to stop."""
    try:
        return look(problems)
    except ImportError as error:
        problems.append(Problem(f"{look.__name__.strip('_')}: cannot be loaded: {error}", _REINSTALL))
    except OSError as error:
        problems.append(
            Problem(f"{look.__name__.strip('_')}: cannot be read: {error}", "Allow it to be read, or move it.")
        )
    return {}


def _machine(_: Problems) -> dict[str, Any]:
    from strokeseg.segmentation.engines import cpu_features

    able, memory = cpu_features.detect_hardware(), cpu_features.usable_memory_bytes()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": able.processor,
        "cores": able.cores,
        "memory_gib": None if memory is None else round(memory / 2**30, 1),
        "flags": list(able.flags),
        "int8": able.int8_instructions,
        "bf16": able.bf16_instructions,
        "nvidia": able.nvidia_gpu,
    }


def _read_requirements(extra: str | None) -> dict[str, str]:
    """Return the packages that StrokeSeg, or one of its extras, requires, with the least version of each."""
    found = {}
    for line in metadata.requires("strokeseg") or []:
        wanted, _, condition = line.partition(";")
        if (f"extra == '{extra}'" in condition.replace('"', "'")) if extra else not condition:
            name, *_ = re.split(r"[^\w.-]", wanted.strip())
            found[name] = wanted.partition(">=")[2].partition(",")[0].strip()
    return found


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _is_older(version: str, least: str) -> bool:
    """Return whether a version lies below the least one, by the numbers that both state."""
    numbers = [[int(number) for number in re.findall(r"\d+", text)[:3]] for text in (version, least)]
    return numbers[0] < numbers[1]


def _packages(problems: Problems) -> dict[str, Any]:
    versions = {}
    for name, least in _read_requirements(None).items():
        versions[name] = version = _find_version(name)
        if version is None:
            problems.append(Problem(f"the package {name} is not installed", f'pip install "{name}>={least}"'))
        elif least and _is_older(version, least):
            sentence = f"the package {name} has version {version}, needed is {least} or later"
            problems.append(Problem(sentence, f'pip install --upgrade "{name}>={least}"'))
    return versions


def _extra(name: str) -> dict[str, str | None]:
    return {package: _find_version(package) for package in _read_requirements(name)}


def _engines(_: Problems) -> dict[str, Any]:
    """Say of every engine whether its package is there, or what installs it."""
    from strokeseg.segmentation.engines import selection

    there = selection.list_installed()
    return {
        name: "installed" if name in there else selection.INSTALL_INSTRUCTIONS[name]
        for name in selection.ENGINES
        if name != "auto"
    }


def _auto(_: Problems) -> dict[str, Any]:
    """Say which engine `auto` takes for every network, and why; a damaged card has its problem already."""
    from strokeseg.segmentation import models
    from strokeseg.segmentation.engines import cpu_features, selection

    found = {}
    for name in models.list_names():
        try:
            chosen = selection.select_engine(
                models.load_card(name).precision, cpu_features.detect_hardware(), selection.list_installed()
            )
        except StrokesegError:
            continue
        found[name] = {"engine": chosen.engine, "why": chosen.reason}
    return found


def _answer(problems: Problems) -> dict[str, Any]:
    """Have the default network answer an empty slice: the surest check that all of it works together."""
    import numpy as np

    from strokeseg.segmentation import load_engine

    try:
        begun = time.perf_counter()
        engine = load_engine()
        loaded = time.perf_counter()
        logits = engine.logits(np.full((1, 1, engine.card.size, engine.card.size), -1, np.float32))
        done = time.perf_counter()
    except StrokesegError as error:
        problem = Problem(f"{error.message} [{error.code}]", error.remedy)
        if problem not in problems and error.code != "unknown-model":  # which _models has told already
            problems.append(problem)
        return {}
    if not np.isfinite(logits).all():
        problems.append(Problem(f"the default network answers with no numbers on {engine.name}", _REINSTALL))
    return {"engine": engine.name, "load_s": round(loaded - begun, 3), "first_slice_s": round(done - loaded, 3)}


def _folders(problems: Problems) -> dict[str, Any]:
    """Say where a run may write; results go to a folder here if none is named."""
    from strokeseg.segmentation import models

    own = models.list_folders()[-1]
    nearest = next((folder for folder in (own, *own.parents) if os.path.exists(folder)), own)
    places = {"here": Path.cwd(), "models": nearest, "temporary": Path(tempfile.gettempdir())}
    found = {name: {"path": str(path), "writable": _is_writable(path)} for name, path in places.items()}
    if not found["temporary"]["writable"]:
        sentence = f"nothing can be written to the folder for temporary files, {places['temporary']}"
        problems.append(Problem(sentence, "Free space there, or name another folder with TMPDIR."))
    return found


def _is_writable(folder: Path) -> bool:
    """Try it: permissions do not tell of a full or read-only disk."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0" * 4096)
            file.flush()
    except OSError:
        return False
    return True


def _decoders(problems: Problems) -> dict[str, bool]:
    from strokeseg.reading.dicom import decoding

    available = decoding.list_decoders()
    missing = [name for name, there in available.items() if not there]
    if missing:
        sentence = f"compressed DICOM cannot be read: {', '.join(missing)}"
        problems.append(Problem(sentence, "pip install --force-reinstall imagecodecs"))
    return available


def _models(problems: Problems) -> dict[str, str]:
    from strokeseg.segmentation import models

    states = {}
    for name in models.list_names():
        try:
            card, _ = models.load_weights(name)
            states[name] = f"whole, version {card.version}, sha256 {card.sha256[:12]}"
        except StrokesegError as error:
            states[name] = str(error)
            problems.append(Problem(f"{error.message} [{error.code}]", error.remedy))
    if "default" not in states:
        chosen = f", which {models.FOLDER_VARIABLE} names" if models.SHIPPED_FOLDER not in models.list_folders() else ""
        remedy = (
            f"Unset {models.FOLDER_VARIABLE}, or put default.onnx and default.json there." if chosen else _REINSTALL
        )
        problems.append(Problem(f"no network named 'default' in {models.list_folders()[0]}{chosen}", remedy))
    return states


def _bounds(_: Problems) -> dict[str, int]:
    from strokeseg.reading import input_file

    return {
        "most_files": input_file.MAX_FILES,
        "most_unpacked_gib": input_file.MAX_BYTES // 2**30,
        "most_times_of_a_zip": input_file.MAX_COMPRESSION_RATIO,
        "most_pixels_of_a_slice": input_file.MAX_PIXELS,
        "most_voxels": input_file.MAX_VOXELS,
    }
