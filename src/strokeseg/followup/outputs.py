"""The files of a comparison: `change.json`, its JSON Schema, a page, and images of matched planes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from strokeseg.errors import UsageError
from strokeseg.followup.document import ChangeDocument, json_schema
from strokeseg.followup.page import PAGE_NAME, render_html
from strokeseg.followup.plane_pairs import PlanePairs, draw_pair
from strokeseg.outputs.folder import OutputFolder

FORMATS = ("json", "report", "keys")
"""All formats that can be written; "json" is always written."""

DOCUMENT_NAME, SCHEMA_NAME = "change.json", "change.schema.json"
_OUTPUT_NAMES = re.compile(r"change\.json|change\.schema\.json|change\.html|change_\d+\.png")


class _ComparisonFolder(OutputFolder):
    """An output folder whose earlier files are those listed by an earlier `change.json`."""

    output_names = _OUTPUT_NAMES

    def _list_earlier_files(self) -> set[str]:
        try:
            document = json.loads((self.out / DOCUMENT_NAME).read_text("utf-8"))
            if not document["schema"].startswith("strokeseg.change/"):
                return set()
            listed = {DOCUMENT_NAME, *document["files"].values()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return set()
        return {name for name in listed if self.output_names.fullmatch(str(name)) and (self.out / name).is_file()}


def check(out: str | Path, formats: Sequence[str]) -> None:
    """Check, before any work is done, that the comparison can be written; this leaves no files behind.

    Parameters
    ----------
    out : str or Path
        Folder of the comparison, which need not exist yet.
    formats : sequence of str
        Some of :data:`FORMATS`.

    Raises
    ------
    UsageError
        `usage`, for an unknown format.
    NotWritable, DiskFull
        `not-writable`, `disk-full`, as :func:`strokeseg.outputs.check`.
    """
    if unknown := [name for name in formats if name not in FORMATS]:
        raise UsageError(
            f"unknown format: {', '.join(repr(name) for name in unknown)}", f"Known formats: {', '.join(FORMATS)}."
        )
    names = [DOCUMENT_NAME, SCHEMA_NAME]
    names += [PAGE_NAME] if "report" in formats else []
    names += ["change_1.png"] if "keys" in formats else []
    with _ComparisonFolder(Path(out)) as folder:
        folder.refuse_foreign_files(names)
        (folder.staging / "probe").write_bytes(b"\0" * 4096)


def save(out: str | Path, document: ChangeDocument, pairs: PlanePairs, formats: Sequence[str]) -> ChangeDocument:
    """Write the files of a comparison into a folder, all of them or none, `change.json` last.

    Files listed by an earlier `change.json` are removed; all other files stay.

    Parameters
    ----------
    out : str or Path
        Folder; created if missing.
    document : ChangeDocument
        The comparison; its files are added.
    pairs : PlanePairs
        The planes to show.
    formats : sequence of str
        Some of :data:`FORMATS`.

    Returns
    -------
    ChangeDocument
        The document as written, with its files.

    Raises
    ------
    UsageError, NotWritable, DiskFull
        As :func:`check`.
    """
    check(out, formats)
    with _ComparisonFolder(Path(out)) as output_folder:
        folder = output_folder.staging
        files = {"change": DOCUMENT_NAME, "schema": SCHEMA_NAME}
        if "keys" in formats:
            for number in range(len(pairs.slices)):
                files[f"change_{number + 1}"] = f"change_{number + 1}.png"
                draw_pair(pairs, number).save(folder / files[f"change_{number + 1}"], compress_level=6)
        if "report" in formats:
            files["report"] = PAGE_NAME
        document = document.model_copy(update={"files": files})
        if "report" in formats:
            (folder / PAGE_NAME).write_text(render_html(document, pairs), "utf-8")
        (folder / SCHEMA_NAME).write_text(json.dumps(json_schema(), indent=2) + "\n", "utf-8")
        (folder / DOCUMENT_NAME).write_text(document.model_dump_json(indent=2) + "\n", "utf-8")
        output_folder.commit(list(files.values()), last=DOCUMENT_NAME)
    return document
