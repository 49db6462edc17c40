"""Replace the UIDs and patient attributes of a scan, so that only the holder of the key can trace its origin.

DICOM PS3.15 table E.1-1 asks for UIDs to be replaced consistently within a set of instances (action U). A UID is
hashed with a secret key (HMAC-SHA-256) into a UUID-derived UID (PS3.5 B.2): the same UID and key give the same new UID
in every file and every run, and without the key nobody can test a guess.

Of the patient and study attributes that DICOM outputs repeat, none is kept. Name and patient number are replaced by a
dummy (action Z) that follows from the new study UID: archives refuse objects without them, and two studies of one
patient must not share them. No other patient data leave `reading/`.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from dataclasses import replace

from strokeseg.dicom_source import DicomSource
from strokeseg.errors import UsageError
from strokeseg.scan import Scan

MIN_KEY_BYTES = 16


def derive_uid(uid: str, key: bytes) -> str:
    """Return the UID that replaces ``uid`` under a key; it is always the same."""
    digest = hmac.new(key, uid.encode(), hashlib.sha256).digest()
    return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"


def deidentify(scan: Scan, key: bytes) -> Scan:
    """Replace the UIDs of series, slices, study and frame of reference, and empty the patient's attributes.

    Parameters
    ----------
    scan : Scan
        The scan.
    key : bytes
        Secret key of at least 16 bytes.

    Returns
    -------
    Scan
        The same scan under new UIDs.

    Raises
    ------
    UsageError
        `usage`, for a shorter key: it could be guessed.
    """
    if len(key) < MIN_KEY_BYTES:
        raise UsageError(
            f"the key has {len(key)} bytes, at least {MIN_KEY_BYTES} are needed", "Make one with openssl rand."
        )
    series_uid = None if scan.series_uid is None else derive_uid(scan.series_uid, key)
    return replace(
        scan,
        series_uid=series_uid,
        series_name=series_uid,
        sop_instance_uids=tuple(derive_uid(uid, key) for uid in scan.sop_instance_uids),
        source=None if scan.source is None else _deidentify_source(scan.source, series_uid or "", key),
    )


def _deidentify_source(source: DicomSource, series_uid: str, key: bytes) -> DicomSource:
    """Keep only what does not identify the patient, under new UIDs; a missing UID stays missing."""

    def replace_uid(uid: str) -> str:
        return derive_uid(uid, key) if uid else ""

    study_uid = replace_uid(source.attribute("StudyInstanceUID"))
    dummy = f"ANON-{(study_uid or series_uid)[-10:]}"
    attributes = {
        "PatientName": f"{dummy}^",
        "PatientID": dummy,
        "StudyInstanceUID": study_uid,
        "LossyImageCompression": source.attribute("LossyImageCompression"),
    }
    return replace(
        source,
        attributes=tuple((keyword, text) for keyword, text in attributes.items() if text),
        malformed=(),
        frame_of_reference_uid=replace_uid(source.frame_of_reference_uid),
        frames=tuple(replace(frame, sop_uid=replace_uid(frame.sop_uid)) for frame in source.frames),
        deidentified=True,
    )
