"""Write docs/modules.md, the list of all modules with the first line of each: `make module-index`.

A test compares the page with the source, so the list is never out of date.
"""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs/modules.md"
PLACES = (("src/strokeseg", "strokeseg"), ("benchmarks", "benchmarks"), ("tools", "tools"))


def render_index() -> str:
    """Return the page: a table for every package, a row for every module."""
    lines = [
        "# Modules",
        "",
        "The first line of each file's docstring. [architecture.md](architecture.md) explains the structure.",
        "Written by `make module-index`; a test compares it with the source.",
    ]
    for folder, name in PLACES:
        base = ROOT / folder
        packages = sorted({path.parent for path in base.rglob("*.py")}, key=lambda path: path.relative_to(base).parts)
        for package in packages:
            parts = (name, *package.relative_to(base).parts)
            lines += ["", f"## {'.'.join(parts)}", ""]
            if (package / "__init__.py").exists() and (summary := read_summary(package / "__init__.py")):
                lines += [summary, ""]
            rows = [path for path in sorted(package.glob("*.py")) if not path.name.startswith("__")]
            if rows:
                lines += ["| file | holds |", "|---|---|"]
                lines += [f"| `{path.name}` | {read_summary(path)} |" for path in rows]
    return "\n".join(lines) + "\n"


def read_summary(path: Path) -> str:
    """Return the first line of a module's docstring; empty without one."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return text.split("\n\n")[0].replace("\n", " ").replace("|", "\\|")


def main() -> None:
    """Write the page."""
    PAGE.write_text(render_index(), encoding="utf-8")


if __name__ == "__main__":
    main()
