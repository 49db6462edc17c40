"""Read the node's one TOML file, and say in words and with its place what is wrong in it."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from strokeseg.errors import UsageError
from strokeseg.pacs.settings import NodeSettings

_REMEDY = "Correct the file; docs/pacs.md lists every key."
_FILE_KEYS = ("certificate", "key", "authority")
SettingsPart = TypeVar("SettingsPart", bound=BaseModel)


def load_settings(path: Path) -> NodeSettings:
    """Read the node's file; paths in it are relative to its folder.

    Raises
    ------
    UsageError
        `usage`: it cannot be read, is no TOML, a key is unknown, missing or out of its bounds, or a certificate is
        gone.
    """
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})", _REMEDY) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: is no TOML: {error}", _REMEDY) from None
    try:
        settings = NodeSettings.model_validate(found)
    except ValidationError as error:
        raise UsageError(f"{path}: {_format_errors(error)}", _REMEDY) from None
    found_at = _make_paths_absolute(settings, path.resolve().parent)
    if missing := next(_find_missing_files(found_at, ""), None):
        raise UsageError(
            f"{path}: {missing[0]}: there is no file {missing[1]}",
            "Correct the path; it begins at the folder of the settings.",
        )
    return found_at


def _find_missing_files(part: BaseModel, where: str) -> Iterator[tuple[str, Path]]:
    """Find certificates, keys and authorities that are not there."""
    for name in type(part).model_fields:
        value = getattr(part, name)
        if name in _FILE_KEYS and isinstance(value, Path) and not value.is_file():
            yield f"{where}{name}", value
        for number, item in enumerate(value if isinstance(value, tuple) else (value,), start=1):
            if isinstance(item, BaseModel):
                yield from _find_missing_files(
                    item, f"{where}{name}.{number}." if isinstance(value, tuple) else f"{where}{name}."
                )


def _format_errors(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False)
    lines = []
    for item in found[:5]:
        where = ".".join(str(part + 1 if isinstance(part, int) else part) for part in item["loc"])
        lines.append(f"{where}: {item['msg']}" if where else str(item["msg"]))
    return "; ".join(lines) + (f"; and {len(found) - 5} more" if len(found) > 5 else "")


def _make_paths_absolute(part: SettingsPart, folder: Path) -> SettingsPart:
    """Return the same with every path made absolute."""

    def of(value: object) -> object:
        if isinstance(value, Path):
            return folder / value
        if isinstance(value, BaseModel):
            return _make_paths_absolute(value, folder)
        return tuple(of(item) for item in value) if isinstance(value, tuple) else value

    return part.model_copy(update={name: of(getattr(part, name)) for name in type(part).model_fields})
