"""Send notices of results at once: to a webhook, by HL7 v2 ORU over MLLP, or to a FHIR R4 server."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import ssl
from dataclasses import asdict, dataclass
from typing import Any

import httpx2

from strokeseg.errors import NotDelivered
from strokeseg.pacs import credentials
from strokeseg.pacs.settings import NoticeTarget

DISCLAIMER = "Research use only; not a medical device. A person must review the images."
_MLLP_START, _MLLP_END = b"\x0b", b"\x1c\x0d"
_MAX_ANSWER_BYTES = 2**20


@dataclass(frozen=True)
class ResultNotice:
    """Notice of one version of one result; the field names are keys of the webhook's JSON.

    Attributes
    ----------
    key : str
        The same for the same version, so that a receiver can drop a duplicate.
    study_uid : str
        Study instance UID; empty if the input has none.
    series_uid : str
        Series instance UID.
    accession : str
        Accession number; empty if the input has none.
    patient_id : str
        Patient ID; empty if the input has none.
    version : int
        1, and higher if late slices led to a new version.
    hemorrhage : bool
        Whether hemorrhage was outlined.
    confidence : float or None
        Confidence in this answer.
    volume_ml : float or None
        Volume in ml; None if unknown.
    interval_ml : tuple of float or None
        Interval of the volume in ml; None if unknown.
    at : str
        Time in ISO 8601 with time zone.
    software : str
        Name and version of the software.
    model : str
        Name and version of the model.
    """

    key: str
    study_uid: str
    series_uid: str
    accession: str
    patient_id: str
    version: int
    hemorrhage: bool
    confidence: float | None
    volume_ml: float | None
    interval_ml: tuple[float, float] | None
    at: str
    software: str
    model: str

    @property
    def sentence(self) -> str:
        """The result in one sentence."""
        if not self.hemorrhage:
            return "No intracranial hemorrhage was outlined."
        if self.volume_ml is None:
            return "Intracranial hemorrhage was outlined; its volume is unknown."
        interval = "" if self.interval_ml is None else f" ({self.interval_ml[0]:.1f} to {self.interval_ml[1]:.1f})"
        return f"Intracranial hemorrhage was outlined: {self.volume_ml:.1f} ml{interval}."


def send_notice(target: NoticeTarget, notice: ResultNotice) -> None:
    """Send a notice to one target.

    Parameters
    ----------
    target : NoticeTarget
        The target of the settings.
    notice : ResultNotice
        The notice.

    Raises
    ------
    NotDelivered
        `not-delivered`, with the target's answer.
    UsageError
        `usage`, if a secret is missing.
    """
    {"webhook": _send_webhook, "hl7": _send_hl7, "fhir": _send_fhir}[target.kind](target, notice)


def _send_webhook(target: NoticeTarget, notice: ResultNotice) -> None:
    """POST as JSON without the patient ID: the receiver knows the study by its UID and accession number."""
    content = {key: value for key, value in asdict(notice).items() if key != "patient_id"}
    body = json.dumps({"schema": "strokeseg.notice/1", **content, "text": notice.sentence, "disclaimer": DISCLAIMER})
    headers = {"Content-Type": "application/json", "Idempotency-Key": notice.key}
    if target.sign_with is not None:
        digest = hmac.new(target.sign_with.read().encode(), body.encode(), hashlib.sha256).hexdigest()
        headers["X-StrokeSeg-Signature"] = f"sha256={digest}"
    _post(target, str(target.url), body, headers)


def _post(target: NoticeTarget, url: str, body: str, headers: dict[str, str]) -> None:
    try:
        verify = credentials.build_tls_verification(target.authority)
        auth = credentials.open_httpx_auth(target.auth, target.authority, target.timeout_s)
        with httpx2.Client(timeout=target.timeout_s, verify=verify, auth=auth, follow_redirects=False) as client:
            answer = client.post(url, content=body.encode(), headers=headers)
    except (httpx2.HTTPError, OSError) as error:
        raise NotDelivered(f"{target.name}: cannot be reached ({type(error).__name__})") from error
    if not answer.is_success:
        raise NotDelivered(f"{target.name}: answered {answer.status_code}")


def build_oru(notice: ResultNotice, control_id: str) -> str:
    """Build an HL7 v2.5.1 ORU^R01 message.

    It has one OBR, and one OBX each for the sentence, hemorrhage, study and series UID, version, volume and interval.

    Parameters
    ----------
    notice : ResultNotice
        The notice.
    control_id : str
        Message control ID, which the acknowledgment repeats.

    Returns
    -------
    str
        Segments separated by carriage returns.
    """
    from hl7apy.core import Message

    message = Message("ORU_R01", version="2.5.1")
    stamp = "".join(character for character in notice.at[:19] if character.isdigit())
    header = message.msh
    header.msh_3, header.msh_7, header.msh_9 = "STROKESEG", stamp, "ORU^R01^ORU_R01"
    header.msh_10, header.msh_11, header.msh_12, header.msh_18 = control_id, "P", "2.5.1", "UNICODE UTF-8"
    result = message.add_group("oru_r01_patient_result")
    patient = result.add_group("oru_r01_patient")
    patient.pid.pid_1, patient.pid.pid_3 = "1", _escape_hl7(notice.patient_id)
    observation = result.add_group("oru_r01_order_observation")
    order = observation.obr
    order.obr_1, order.obr_3 = "1", _escape_hl7(notice.accession)
    order.obr_4 = "STROKESEG^Intracranial hemorrhage on CT^L"
    order.obr_7, order.obr_25 = stamp, "P"
    rows: list[tuple[str, str, str, str]] = [
        ("TX", "TEXT^Summary^L", f"{notice.sentence} {DISCLAIMER}", ""),
        ("CWE", "ICH^Intracranial hemorrhage outlined^L", "Y" if notice.hemorrhage else "N", ""),
        ("ST", "113014^DICOM Study^DCM", notice.study_uid, ""),
        ("ST", "112002^Series Instance UID^DCM", notice.series_uid, ""),
        ("NM", "VERSION^Version of the result^L", str(notice.version), ""),
    ]
    if notice.volume_ml is not None:
        rows.append(("NM", "VOLUME^Volume of hemorrhage^L", f"{notice.volume_ml:.2f}", "mL^milliliter^UCUM"))
    if notice.interval_ml is not None:
        low, high = notice.interval_ml
        rows.append(("SN", "INTERVAL^Interval of the volume^L", f"^{low:.2f}^-^{high:.2f}", "mL^milliliter^UCUM"))
    for number, (kind, code, value, unit) in enumerate(rows, start=1):
        item = observation.add_group("oru_r01_observation").obx
        item.obx_1, item.obx_2, item.obx_3 = str(number), kind, code
        item.obx_5 = value if kind == "SN" else _escape_hl7(value)
        if unit:
            item.obx_6 = unit
        item.obx_11 = "P"
    return str(message.to_er7())


def _escape_hl7(text: str) -> str:
    """Escape HL7's delimiters and replace characters that would end a segment."""
    escapes = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": " ", "\n": " "}
    return "".join(escapes.get(character, character) for character in text)


def _send_hl7(target: NoticeTarget, notice: ResultNotice) -> None:
    control_id = notice.key[:20]
    frame = _MLLP_START + build_oru(notice, control_id).encode() + _MLLP_END
    try:
        with socket.create_connection((str(target.host), int(target.port or 0)), target.timeout_s) as plain_socket:
            plain_socket.settimeout(target.timeout_s)
            connection = plain_socket
            if target.tls:
                context = ssl.create_default_context(cafile=None if target.authority is None else str(target.authority))
                connection = context.wrap_socket(plain_socket, server_hostname=target.host)
            connection.sendall(frame)
            answer = _receive_frame(connection)
    except OSError as error:
        raise NotDelivered(f"{target.name}: cannot be reached ({type(error).__name__})") from error
    msa = next((row.split("|") for row in answer.split("\r") if row.startswith("MSA|")), ["MSA", "nothing"])
    if msa[1] not in ("AA", "CA"):
        raise NotDelivered(f"{target.name}: answered {msa[1]}")
    if len(msa) > 2 and msa[2] != control_id:
        raise NotDelivered(f"{target.name}: acknowledged another message")


def _receive_frame(connection: socket.socket) -> str:
    frame = b""
    while not frame.endswith(_MLLP_END):
        chunk = connection.recv(65536)
        if not chunk or len(frame) > _MAX_ANSWER_BYTES:
            raise ConnectionError("the answer has no end")
        frame += chunk
    return frame.strip(_MLLP_START + _MLLP_END).decode("utf-8", "replace")


def build_fhir_bundle(notice: ResultNotice) -> dict[str, Any]:
    """Build a FHIR R4 transaction: a DiagnosticReport and its Observations, created once even if sent repeatedly.

    Parameters
    ----------
    notice : ResultNotice
        The notice.

    Returns
    -------
    dict
        The Bundle as JSON.
    """
    from fhir.resources.R4B.bundle import Bundle

    subject = {"identifier": {"value": notice.patient_id or "unknown"}}
    study = {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{notice.study_uid}"}}

    def observation(name: str, code: dict[str, str], value: dict[str, Any]) -> dict[str, Any]:
        return {
            "resourceType": "Observation",
            "identifier": [{"system": "urn:strokeseg:observation", "value": f"{notice.key}-{name}"}],
            "status": "preliminary",
            "code": {"coding": [code], "text": code["display"]},
            "subject": subject,
            "partOf": [study],
            "effectiveDateTime": notice.at,
            "device": {"display": f"{notice.software}, {notice.model}"},
            "note": [{"text": DISCLAIMER}],
            **value,
        }

    observations = {
        "hemorrhage": observation(
            "hemorrhage",
            {"system": "http://snomed.info/sct", "code": "1386000", "display": "Intracranial hemorrhage"},
            {"valueBoolean": notice.hemorrhage},
        )
    }
    if notice.volume_ml is not None:
        quantity = {
            "value": round(notice.volume_ml, 2),
            "unit": "mL",
            "system": "http://unitsofmeasure.org",
            "code": "mL",
        }
        code = {"system": "http://snomed.info/sct", "code": "118565006", "display": "Volume"}
        observations["volume"] = observation("volume", code, {"valueQuantity": quantity})
        if notice.interval_ml is not None:
            low, high = (dict(quantity, value=round(limit, 2)) for limit in notice.interval_ml)
            observations["volume"]["component"] = [
                {"code": {"text": "interval of the volume"}, "valueRange": {"low": low, "high": high}}
            ]
    report = {
        "resourceType": "DiagnosticReport",
        "identifier": [{"system": "urn:strokeseg:result", "value": notice.key}],
        "status": "preliminary",
        "code": {"text": "Intracranial hemorrhage on CT, outlined by software"},
        "subject": subject,
        "effectiveDateTime": notice.at,
        "imagingStudy": [study],
        "result": [{"reference": f"urn:uuid:{_derive_uuid(notice.key, name)}"} for name in observations],
        "conclusion": f"{notice.sentence} {DISCLAIMER}",
    }
    resources = {**observations, "report": report}
    entries = [_make_bundle_entry(notice.key, name, resource) for name, resource in resources.items()]
    transaction = Bundle.model_validate({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    return dict(json.loads(transaction.model_dump_json()))


def _make_bundle_entry(key: str, name: str, resource: dict[str, Any]) -> dict[str, Any]:
    return {
        "fullUrl": f"urn:uuid:{_derive_uuid(key, name)}",
        "resource": resource,
        "request": {
            "method": "POST",
            "url": resource["resourceType"],
            "ifNoneExist": "identifier={system}|{value}".format(**resource["identifier"][0]),
        },
    }


def _derive_uuid(key: str, name: str) -> str:
    digest = hashlib.sha256(f"{key} {name}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"


def _send_fhir(target: NoticeTarget, notice: ResultNotice) -> None:
    _post(target, str(target.url), json.dumps(build_fhir_bundle(notice)), {"Content-Type": "application/fhir+json"})
