"""Read the node's TOML file and report what is wrong in it, with the place."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from strokeseg.errors import UsageError, describe_field_error
from strokeseg.pacs.settings import NodeSettings

_REMEDY = "Correct the file; docs/pacs.md lists every key."
_FILE_KEYS = ("certificate", "key", "authority")
_MAX_LISTED_ERRORS = 5
Section = TypeVar("Section", bound=BaseModel)


def load_settings(path: Path) -> NodeSettings:
    """Read the node's settings; paths in the file are relative to its folder.

    Parameters
    ----------
    path : Path
        The TOML file.

    Returns
    -------
    NodeSettings
        Validated settings with absolute paths.

    Raises
    ------
    UsageError
        `usage`, if the file cannot be read or is not TOML, if a key is unknown, missing or out of range, or if a
        certificate file does not exist.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})", _REMEDY) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is not valid TOML: {error}", _REMEDY) from None
    try:
        relative = NodeSettings.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {_format_errors(error)}", _REMEDY) from None
    settings = _make_paths_absolute(relative, path.resolve().parent)
    if missing := next(_find_missing_files(settings, ""), None):
        raise UsageError(
            f"{path}: {missing[0]}: file not found: {missing[1]}",
            "Correct the path; it is relative to the folder of the settings file.",
        )
    return settings


def _find_missing_files(section: BaseModel, prefix: str) -> Iterator[tuple[str, Path]]:
    """Yield key and path of certificates, keys and authorities that do not exist."""
    for name in type(section).model_fields:
        value = getattr(section, name)
        if name in _FILE_KEYS and isinstance(value, Path) and not value.is_file():
            yield f"{prefix}{name}", value
        for number, item in enumerate(value if isinstance(value, tuple) else (value,), start=1):
            if isinstance(item, BaseModel):
                is_list = isinstance(value, tuple)
                yield from _find_missing_files(item, f"{prefix}{name}.{number}." if is_list else f"{prefix}{name}.")


def _format_errors(error: ValidationError) -> str:
    details = error.errors(include_url=False, include_input=False)
    lines = []
    for detail in details[:_MAX_LISTED_ERRORS]:
        key = ".".join(str(part + 1 if isinstance(part, int) else part) for part in detail["loc"])
        lines.append(f"{key}: {describe_field_error(detail)}" if key else describe_field_error(detail))
    remaining = len(details) - _MAX_LISTED_ERRORS
    return "; ".join(lines) + (f"; and {remaining} more" if remaining > 0 else "")


def _make_paths_absolute(section: Section, folder: Path) -> Section:
    """Return a copy of the section with absolute paths."""

    def convert(value: object) -> object:
        if isinstance(value, Path):
            return folder / value
        if isinstance(value, BaseModel):
            return _make_paths_absolute(value, folder)
        return tuple(convert(item) for item in value) if isinstance(value, tuple) else value

    return section.model_copy(update={name: convert(getattr(section, name)) for name in type(section).model_fields})
