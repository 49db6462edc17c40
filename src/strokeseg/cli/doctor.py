"""`strokeseg doctor`: check the installation."""

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
  strokeseg doctor --json > bug-report.json
"""


class Problem(NamedTuple):
    """A fault of the installation and its remedy."""

    problem: str
    remedy: str


Problems = list[Problem]

_REINSTALL = "Install StrokeSeg again: pip install --force-reinstall strokeseg"


def doctor(as_json: options.JsonOption = False) -> None:
    """Check this installation: packages, engines, decoders, models, folders; and list the input limits.

    Shows which engine --engine auto chooses on this machine, and why, and runs the default model once. Ends with exit
    code 3 if something is missing or damaged, with a remedy for each problem. No patient data are read or shown, so the
    output can go into a bug report.
    """
    problems: Problems = []
    report = {
        "software": f"strokeseg {__version__}",
        "machine": _run_check("machine", _describe_machine, problems),
        "packages": _run_check("packages", _check_packages, problems),
        "engines": _run_check("engines", _list_engines, problems),
        "decoders": _run_check("decoders", _check_decoders, problems),
        "models": _run_check("models", _check_models, problems),
        "auto": _run_check("auto", _explain_auto_engine, problems),
        "answer": _run_check("answer", _run_first_inference, problems),
        "folders": _run_check("folders", _check_folders, problems),
        "extras": {extra: _find_extra_versions(extra) for extra in ("openvino", "train")},
        "bounds": _run_check("bounds", _list_input_limits, problems),
        "problems": [problem._asdict() for problem in problems],
    }
    if as_json:
        terminal.print_data(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        terminal.print_data("\n".join(format_report(report)))
    for problem, remedy in problems:
        terminal.print_note(f"problem: {problem}")
        terminal.print_note(f"remedy: {remedy}")
    if problems:
        raise typer.Exit(terminal.REFUSED)


def _run_check(section: str, check: Callable[[Problems], dict[str, Any]], problems: Problems) -> dict[str, Any]:
    """Run the check of a section; report a failure to import or read as a problem and continue."""
    try:
        return check(problems)
    except ImportError as error:
        problems.append(Problem(f"{section}: cannot be loaded: {error}", _REINSTALL))
    except OSError as error:
        problems.append(Problem(f"{section}: cannot be read: {error}", "Check the permissions, or move the file."))
    return {}


def _describe_machine(_: Problems) -> dict[str, Any]:
    from strokeseg.segmentation.engines import cpu_features

    hardware, memory = cpu_features.detect_hardware(), cpu_features.usable_memory_bytes()
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": hardware.processor,
        "cores": hardware.cores,
        "memory_gib": None if memory is None else round(memory / 2**30, 1),
        "flags": list(hardware.flags),
        "int8": hardware.int8_instructions,
        "bf16": hardware.bf16_instructions,
        "nvidia": hardware.nvidia_gpu,
    }


def _read_requirements(extra: str | None) -> dict[str, str]:
    """Return the packages that StrokeSeg, or one of its extras, requires, with their minimum versions."""
    minimum_versions = {}
    for line in metadata.requires("strokeseg") or []:
        requirement, _, condition = line.partition(";")
        if (f"extra == '{extra}'" in condition.replace('"', "'")) if extra else not condition:
            name, *_ = re.split(r"[^\w.-]", requirement.strip())
            minimum_versions[name] = requirement.partition(">=")[2].partition(",")[0].strip()
    return minimum_versions


def _find_version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _is_older(version: str, minimum: str) -> bool:
    """Return whether a version is below the minimum, by the first three numbers of each."""
    numbers = [[int(number) for number in re.findall(r"\d+", text)[:3]] for text in (version, minimum)]
    return numbers[0] < numbers[1]


def _check_packages(problems: Problems) -> dict[str, Any]:
    versions = {}
    for name, minimum in _read_requirements(None).items():
        versions[name] = version = _find_version(name)
        if version is None:
            problems.append(Problem(f"the package {name} is not installed", f'pip install "{name}>={minimum}"'))
        elif minimum and _is_older(version, minimum):
            sentence = f"the package {name} has version {version}; {minimum} or later is required"
            problems.append(Problem(sentence, f'pip install --upgrade "{name}>={minimum}"'))
    return versions


def _find_extra_versions(name: str) -> dict[str, str | None]:
    return {package: _find_version(package) for package in _read_requirements(name)}


def _list_engines(_: Problems) -> dict[str, Any]:
    """Return for every engine "installed" or the command that installs it."""
    from strokeseg.segmentation.engines import selection

    installed = selection.list_installed()
    return {
        name: "installed" if name in installed else selection.INSTALL_INSTRUCTIONS[name]
        for name in selection.ENGINES
        if name != "auto"
    }


def _explain_auto_engine(_: Problems) -> dict[str, Any]:
    """Return for every model the engine that `auto` chooses, and why.

    Networks with a damaged card are left out: :func:`_check_models` reports them.
    """
    from strokeseg.segmentation import models
    from strokeseg.segmentation.engines import cpu_features, selection

    choices = {}
    for name in models.list_names():
        try:
            choice = selection.select_engine(
                models.load_card(name).precision, cpu_features.detect_hardware(), selection.list_installed()
            )
        except StrokesegError:
            continue
        choices[name] = {"engine": choice.engine, "why": choice.reason}
    return choices


def _run_first_inference(problems: Problems) -> dict[str, Any]:
    """Run the default model on an empty slice, which needs every part of the installation to work."""
    import numpy as np

    from strokeseg.segmentation import load_engine

    try:
        start = time.perf_counter()
        engine = load_engine()
        loaded = time.perf_counter()
        logits = engine.logits(np.full((1, 1, engine.card.size, engine.card.size), -1, np.float32))
        end = time.perf_counter()
    except StrokesegError as error:
        problem = Problem(f"{error.message} [{error.code}]", error.remedy)
        if problem not in problems and error.code != "unknown-model":  # _check_models has reported it
            problems.append(problem)
        return {}
    if not np.isfinite(logits).all():
        problems.append(Problem(f"the default model returns values that are not numbers on {engine.name}", _REINSTALL))
    return {"engine": engine.name, "load_s": round(loaded - start, 3), "first_slice_s": round(end - loaded, 3)}


def _check_folders(problems: Problems) -> dict[str, Any]:
    """Return the folders that a run writes to, and whether each is writable."""
    from strokeseg.segmentation import models

    user_folder = models.list_folders()[-1]
    nearest = next((path for path in (user_folder, *user_folder.parents) if os.path.exists(path)), user_folder)
    paths = {"here": Path.cwd(), "models": nearest, "temporary": Path(tempfile.gettempdir())}
    folders = {name: {"path": str(path), "writable": _is_writable(path)} for name, path in paths.items()}
    if not folders["temporary"]["writable"]:
        sentence = f"the folder for temporary files is not writable: {paths['temporary']}"
        problems.append(Problem(sentence, "Free space in it, or name another folder with TMPDIR."))
    return folders


def _is_writable(folder: Path) -> bool:
    """Write a file to find out: permissions do not show a full or read-only disk."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(b"0" * 4096)
            file.flush()
    except OSError:
        return False
    return True


def _check_decoders(problems: Problems) -> dict[str, bool]:
    from strokeseg.reading.dicom import decoding

    available = decoding.list_decoders()
    missing = [name for name, is_available in available.items() if not is_available]
    if missing:
        sentence = f"compressed DICOM cannot be read: {', '.join(missing)}"
        problems.append(Problem(sentence, "pip install --force-reinstall imagecodecs"))
    return available


def _check_models(problems: Problems) -> dict[str, str]:
    from strokeseg.segmentation import models

    states = {}
    for name in models.list_names():
        try:
            card, _ = models.load_weights(name)
            states[name] = f"intact, version {card.version}, sha256 {card.sha256[:12]}"
        except StrokesegError as error:
            states[name] = str(error)
            problems.append(Problem(f"{error.message} [{error.code}]", error.remedy))
    if "default" not in states:
        source = f", which {models.FOLDER_VARIABLE} names" if models.SHIPPED_FOLDER not in models.list_folders() else ""
        remedy = (
            f"Unset {models.FOLDER_VARIABLE}, or put default.onnx and default.json there." if source else _REINSTALL
        )
        problems.append(Problem(f"no model named 'default' in {models.list_folders()[0]}{source}", remedy))
    return states


def _list_input_limits(_: Problems) -> dict[str, int]:
    from strokeseg.reading import limits

    return {
        "most_files": limits.MAX_FILES,
        "most_unpacked_gib": limits.MAX_UNPACKED_BYTES // 2**30,
        "most_times_of_a_zip": limits.MAX_COMPRESSION_RATIO,
        "most_pixels_of_a_slice": limits.MAX_SLICE_PIXELS,
        "most_voxels": limits.MAX_VOXELS,
    }
