"""Render docs/conformance.md, the conformance statement (PS3.2), from the tables that the node itself uses.

::

    python -m strokeseg.pacs.conformance > docs/conformance.md
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pydicom.uid import UID
from pynetdicom import PYNETDICOM_IMPLEMENTATION_UID, PYNETDICOM_IMPLEMENTATION_VERSION, sop_class
from pynetdicom.sop_class import StorageCommitmentPushModel, Verification  # type: ignore[attr-defined]

from strokeseg.pacs import scp, scu
from strokeseg.pacs.settings import LocalEntity
from strokeseg.pacs.sop_classes import ACCEPTED_CLASSES, ACCEPTED_SYNTAXES, SENT_CLASSES, SENT_SYNTAXES

_VERIFICATION = ("Verification", str(Verification))
_COMMITMENT = ("Storage Commitment Push Model", str(StorageCommitmentPushModel))
_QUERY_MODELS = [f"StudyRootQueryRetrieveInformationModel{verb}" for verb in ("Find", "Move", "Get")]
_STATUS_MEANINGS = [
    (scp.SUCCESS, "stored on the disk and in the database, or the identical instance was already stored"),
    (scp.DUPLICATE_INSTANCE, "another instance has this UID; the first one is kept"),
    (scp.NOT_AUTHORIZED, "the peer is not allowed to send (`may` in the settings)"),
    (scp.OUT_OF_RESOURCES, "no disk space, or disk or database do not answer: send the instance again later"),
    (scp.DATASET_MISMATCH, "UIDs are missing or invalid, or SOP class or instance differ from the request"),
    (
        scp.CANNOT_UNDERSTAND,
        "the data set cannot be parsed, or is deflated and inflates to more than the largest object",
    ),
]


def render_page() -> str:
    """Render the page as Markdown."""
    local = LocalEntity()
    parts = [
        _HEAD,
        "## Storage, as SCP\n",
        _format_table(("SOP class", "UID"), _list_names(ACCEPTED_CLASSES)),
        "Each is accepted in these transfer syntaxes, in any order of proposal:\n",
        _format_table(("transfer syntax", "UID"), _list_names(ACCEPTED_SYNTAXES)),
        "Answers to C-STORE:\n",
        _format_table(("status", "meaning"), ((f"{status:04X}H", text) for status, text in _STATUS_MEANINGS)),
        "## Storage, as SCU\n",
        _format_table(("SOP class", "UID"), _list_names(SENT_CLASSES)),
        _format_table(("transfer syntax", "UID"), _list_names(SENT_SYNTAXES)),
        f"A status of 0000H or B0xxH means stored; after any other, sending is retried for {local.keep_days:g} days.\n",
        "## Other services\n",
        _format_table(("service", "SCU", "SCP", "UID"), _list_services()),
        "## Associations\n",
        _format_table(("item", "value"), _list_association_limits(local)),
        _TAIL,
    ]
    return "\n".join(parts)


def _list_services() -> Iterable[tuple[str, ...]]:
    yield (_VERIFICATION[0], "yes", "yes", _VERIFICATION[1])
    yield (_COMMITMENT[0], "yes, if `commit = true`", "yes, for peers with `commit` in `may`", _COMMITMENT[1])
    for name in _QUERY_MODELS:
        uid = str(getattr(sop_class, name))
        yield (UID(uid).name, "yes, for priors", "no", uid)
    yield ("QIDO-RS, WADO-RS, STOW-RS", "yes", "no", "")


def _list_association_limits(local: LocalEntity) -> Iterable[tuple[str, str]]:
    yield ("application context", "1.2.840.10008.3.1.1.1")
    yield ("implementation class UID", PYNETDICOM_IMPLEMENTATION_UID)
    yield ("implementation version name", PYNETDICOM_IMPLEMENTATION_VERSION)
    yield (
        "called and calling AE titles",
        "must match the settings; others are rejected (source 1, reasons 3 and 7)",
    )
    yield (
        "peers' addresses",
        "must be the peer's `host` or one of `from_addresses`; others are rejected (source 1, reason 3)",
    )
    yield (
        "simultaneous associations",
        f"{local.most_associations} (setting `most_associations`); more are rejected (source 3, reason 2)",
    )
    yield (
        "largest object",
        f"{local.most_object_mb} MB (setting `most_object_mb`); while a larger one arrives, the association is aborted",
    )
    yield ("asynchronous operations", "not negotiated")
    yield ("network timeout", f"{local.network_timeout_s:g} s (setting `network_timeout_s`)")
    yield ("security", "TLS 1.2 or newer, with client certificates where `authority` is set")
    yield ("extended character sets", "data sets are stored unchanged; results have the character set of the input")
    yield ("statuses that mean stored", ", ".join(f"{status:04X}H" for status in scu.STORED_STATUSES))


def _list_names(uids: dict[str, str]) -> Iterable[tuple[str, str]]:
    """Yield names and UIDs; if pydicom does not know the standard's name, its keyword in words."""
    for keyword, uid in uids.items():
        name = UID(uid).name
        yield (name if name != uid else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", keyword), uid)


def _format_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), ""])


_HEAD = """# DICOM conformance statement

The order follows PS3.2. This page is generated by `python -m strokeseg.pacs.conformance` from the tables that the node
itself uses; do not edit it. StrokeSeg is for research use and is not a medical device.

## Overview

StrokeSeg's node receives CT series, segments intracranial hemorrhage, and sends segmentations, structured reports,
secondary captures and encapsulated PDF into the study of the series. [dicom-outputs.md](dicom-outputs.md) describes
these objects, and [pacs.md](pacs.md) how to set up the node.

The node is one application entity. It accepts associations from listed peers. It opens associations to deliver results,
to report storage commitment, and to fetch a patient's earlier study.
"""

_TAIL = """## Identity

The SOP instance UIDs of results are functions of input, model and version: a result that is sent again is the same
object. A late slice changes the input and therefore leads to new objects.
"""


if __name__ == "__main__":
    print(render_page(), end="")
