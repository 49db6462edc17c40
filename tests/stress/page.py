"""Write docs/reliability.md from benchmarks/reliability.json: `python -m stress page`."""

import json
import textwrap
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIGURES, PAGE = ROOT / "benchmarks/reliability.json", ROOT / "docs/reliability.md"
HEAD = """# Reliability

`cd tests && python -m stress page` writes this page from `benchmarks/reliability.json`; do not edit it. Each section
names the command that measures its figures, run in `tests/`; `--json ../benchmarks/reliability.json` stores them. Short
forms of all of them run in `make test`, in `tests/test_stress.py`.
"""
TEXTS = {
    "stops": (
        "Stops",
        "python -m stress stops --count 200",
        """A process is stopped at random moments, also while it starts, and started again: by SIGTERM and by SIGKILL in
        turn. Studies and series arrive meanwhile. Lost: an instance or study that was answered with success and has no
        result. Twice: two results, or two studies of one upload. Half: a file that is missing or differs from its
        SHA-256.""",
    ),
    "connections": (
        "Connections",
        "python -m stress connections --count 300",
        """Connections from another address, without a token, to a server that may open 1,024 files. Silent ones send
        nothing; slow ones send the head of an upload and then a byte every 5 s. Another user's study is sent
        meanwhile.""",
    ),
    "memory": (
        "Memory",
        "python -m stress memory --size 500",
        """Bodies without a token, with and without a stated length. The last column is the most memory that the server
        has held so far; the bound is 400 MB.""",
    ),
    "surroundings": (
        "Disk, clock, storage folder",
        "python -m stress surroundings",
        """The disk is filled while a study is segmented; the clock is set back by an hour while the server runs and
        again after a kill; a worker with process numbers of its own, as in another container, uses the same storage
        folder.""",
    ),
    "power-cut": (
        "Power cuts",
        "python -m stress power-cut",
        """`strace` records what a program writes, syncs, renames and removes. After every system call, each state that
        a file system may have kept is written into a folder and opened by the code that opens it after a restart. A
        fault is a result, journal entry or instance that was promised and is not whole.""",
    ),
}


def render(figures):
    """Return the page."""
    parts = [HEAD]
    for name, (title, command, text) in TEXTS.items():
        parts.append(f"## {title}\n\n`{command}`\n\n{_fill(text)}\n")
        if name not in figures:
            parts.append("Not measured yet.\n")
            continue
        figure = figures[name]
        rows = [{key: _format(value) for key, value in row.items()} for row in figure["rows"]]
        keys = list(dict.fromkeys(key for row in rows for key in row))
        lines = ["| " + " | ".join(key.replace("_", " ") for key in keys) + " |", "|" + "---|" * len(keys)]
        lines += ["| " + " | ".join(row.get(key, "") for key in keys) + " |" for row in rows]
        if name == "stops":
            count = sum(row.get("SIGTERM", 0) + row.get("SIGKILL", 0) for row in figure["rows"])
            parts.append(f"{count} stops were made.\n")
        parts.append("\n".join(lines) + "\n")
        note = f" {figure['note']}" if figure.get("note") else ""
        parts.append(_fill(f"Measured on {figure['date']}, {figure['machine']}.{note}") + "\n")
    return "\n".join(parts)


def _format(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {number}" for key, number in value.items())
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return str(value)


def _fill(text):
    return textwrap.fill(" ".join(text.split()), 120, break_long_words=False, break_on_hyphens=False)


def write():
    PAGE.write_text(render(json.loads(FIGURES.read_text())))
