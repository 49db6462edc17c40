"""docs/conformance.md: the conformance statement (PS3.2), drawn from the tables that the node itself uses.

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
    (scp.SUCCESS, "stored: on the disk and in the database, or the very same instance is there already"),
    (scp.DUPLICATE_INSTANCE, "another instance of this UID is there; the first is kept"),
    (scp.NOT_AUTHORIZED, "the peer may not send (`may` in the settings)"),
    (scp.OUT_OF_RESOURCES, "no space, or disk or database do not answer now: send it again later"),
    (scp.DATASET_MISMATCH, "UIDs are missing, or class or instance are not those of the request"),
    (scp.CANNOT_UNDERSTAND, "the data set cannot be parsed"),
]


def render_page() -> str:
    """Return the page."""
    local = LocalEntity()
    parts = [
        _HEAD,
        "## Storage, as SCP\n",
        _format_table(("SOP class", "UID"), _list_names(ACCEPTED_CLASSES)),
        "Each in these transfer syntaxes, proposed in any order:\n",
        _format_table(("transfer syntax", "UID"), _list_names(ACCEPTED_SYNTAXES)),
        "Answers to C-STORE:\n",
        _format_table(("status", "meaning"), ((f"{status:04X}H", text) for status, text in _STATUS_MEANINGS)),
        "## Storage, as SCU\n",
        _format_table(("SOP class", "UID"), _list_names(SENT_CLASSES)),
        _format_table(("transfer syntax", "UID"), _list_names(SENT_SYNTAXES)),
        f"Any status of 0000H or B0xxH counts as stored; all others are tried again for {local.keep_days:g} days.\n",
        "## Other services\n",
        _format_table(("service", "SCU", "SCP", "UID"), _list_services()),
        "## Associations\n",
        _format_table(("what", "value"), _list_association_limits(local)),
        _TAIL,
    ]
    return "\n".join(parts)


def _list_services() -> Iterable[tuple[str, ...]]:
    yield (_VERIFICATION[0], "yes", "yes", _VERIFICATION[1])
    yield (_COMMITMENT[0], "yes, where `commit = true`", "yes, for peers that may `commit`", _COMMITMENT[1])
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
        "must be those of the settings; any other is rejected (source 1, reasons 3 and 7)",
    )
    yield (
        "peers' addresses",
        "must be the peer's `host` or one of `from_addresses`; any other is rejected (source 1, reason 3)",
    )
    yield (
        "associations at once",
        f"{local.most_associations} (setting `most_associations`); more are rejected (source 3, reason 2)",
    )
    yield (
        "largest object",
        f"{local.most_object_mb} MB (setting `most_object_mb`); a larger one is aborted while it comes in",
    )
    yield ("asynchronous operations", "not negotiated")
    yield ("time-out of the network", f"{local.network_timeout_s:g} s (setting `network_timeout_s`)")
    yield ("security", "TLS 1.2 or newer, with client certificates where `authority` is set")
    yield ("extended character sets", "data sets are stored as they came; results carry the input's own character set")
    yield ("statuses that count as stored", ", ".join(f"{status:04X}H" for status in scu.STORED_STATUSES))


def _list_names(table: dict[str, str]) -> Iterable[tuple[str, str]]:
    """Return the standard's names; of what pydicom does not know yet, its keyword in words."""
    for keyword, uid in table.items():
        known = UID(uid).name
        yield (known if known != uid else re.sub(r"(?<=[a-z])(?=[A-Z])", " ", keyword), uid)


def _format_table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows), ""])


_HEAD = """# DICOM conformance statement

In the order of PS3.2. Drawn by `python -m strokeseg.pacs.conformance` from the tables that the node itself uses; do not
edit. Research use; StrokeSeg is no medical device.

## Overview

StrokeSeg's node receives CT series, segments intracranial hemorrhage, and sends segmentations, structured reports,
secondary captures and encapsulated PDF into the study that the series belongs to. What it makes is described
in [dicom-outputs.md](dicom-outputs.md); how it is set up in [pacs.md](pacs.md).

It is one application entity. It takes associations of listed peers and opens some of its own: to deliver, to answer
storage commitment, and to fetch a patient's earlier study.
"""

_TAIL = """## Identity

SOP instance UIDs of results are functions of input, model and version: a result that is sent again is the same object.
A later slice makes other input, and so other objects.
"""


if __name__ == "__main__":
    print(render_page(), end="")
