"""`result.json` and its JSON Schema."""

from __future__ import annotations

import json
from pathlib import Path

from strokeseg.result import ResultDocument, build_json_schema

NAME = "result.json"
SCHEMA_NAME = "result.schema.json"


def save(folder: Path, document: ResultDocument) -> None:
    """Write `result.json` and `result.schema.json` into the folder."""
    (folder / SCHEMA_NAME).write_text(json.dumps(build_json_schema(), indent=2) + "\n", "utf-8")
    (folder / NAME).write_text(document.model_dump_json(indent=2) + "\n", "utf-8")
