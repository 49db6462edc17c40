"""New UIDs for old: what a result says of where it comes from, without a way back but for who holds the key.

DICOM PS3.15 table E.1-1 asks for UIDs to be replaced by new ones, alike within a set of instances (action U). A UID is
hashed with a secret key (HMAC-SHA-256) into a UUID-derived one (PS3.5 B.2): the same UID and key give the same new UID
in every file and every run, and without the key nobody can check a guess.

Of what DICOM outputs repeat of the patient and the study nothing stays; name and number become a dummy (action Z) that
follows from the new UID of the study: archives refuse objects without, and two studies of one patient do not share it.
Nothing else of a patient leaves `read/`.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from dataclasses import replace

from strokeseg.errors import UsageError
from strokeseg.scan import DicomSource, Scan

MIN_KEY_BYTES = 16


def derive_uid(uid: str, key: bytes) -> str:
    """Return the UID that stands for another under a key, always the same."""
    digest = hmac.new(key, uid.encode(), hashlib.sha256).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def deidentify(scan: Scan, key: bytes) -> Scan:
    """Replace the UIDs of the series, its slices, its study and its frame of reference; empty the patient's attributes.

    Raises
    ------
    UsageError
        `usage`, for a key of fewer than 16 bytes: it could be guessed.
    """
    if len(key) < MIN_KEY_BYTES:
        raise UsageError(
            f"the key has {len(key)} bytes, at least {MIN_KEY_BYTES} are needed", "Make one with openssl rand."
        )
    series = None if scan.series_uid is None else derive_uid(scan.series_uid, key)
    return replace(
        scan,
        series_uid=series,
        sop_instance_uids=tuple(derive_uid(uid, key) for uid in scan.sop_instance_uids),
        source=None if scan.source is None else _deidentify_source(scan.source, series or "", key),
    )


def _deidentify_source(source: DicomSource, series: str, key: bytes) -> DicomSource:
    """Keep of a source what is no identity, under new UIDs; a missing UID stays missing."""

    def new(uid: str) -> str:
        return derive_uid(uid, key) if uid else ""

    study = new(source.attribute("StudyInstanceUID"))
    dummy = f"ANON-{(study or series)[-10:]}"
    attributes = {
        "PatientName": f"{dummy}^",
        "PatientID": dummy,
        "StudyInstanceUID": study,
        "LossyImageCompression": source.attribute("LossyImageCompression"),
    }
    return replace(
        source,
        attributes=tuple((keyword, text) for keyword, text in attributes.items() if text),
        malformed=(),
        frame_of_reference_uid=new(source.frame_of_reference_uid),
        frames=tuple(replace(frame, sop_uid=new(frame.sop_uid)) for frame in source.frames),
        deidentified=True,
    )
