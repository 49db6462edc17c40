"""Telling somebody at once: a webhook, HL7 v2 ORU by MLLP, or a FHIR R4 server."""

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

DISCLAIMER = "Research use only; no medical device. A person must look at the images."
_MLLP_START, _MLLP_END = b"\x0b", b"\x1c\x0d"
_MAX_ANSWER_BYTES = 2**20


@dataclass(frozen=True)
class ResultNotice:
    """What is told of one version of one result.

    Parameters
    ----------
    key : str
        The same for the same version; a receiver can drop a second one.
    study_uid, series_uid, accession, patient_id : str
        As the input has them; empty where it has none.
    version : int
        1, and higher where late slices made a new one.
    volume_ml, interval_ml : float or None
        None where they are unknown.
    at : str
        ISO 8601 with time zone.
    software, model : str
        Names with versions.
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
        """What was found, in one sentence."""
        if not self.hemorrhage:
            return "No intracranial hemorrhage was outlined."
        if self.volume_ml is None:
            return "Intracranial hemorrhage was outlined; its volume is unknown."
        between = "" if self.interval_ml is None else f" ({self.interval_ml[0]:.1f} to {self.interval_ml[1]:.1f})"
        return f"Intracranial hemorrhage was outlined: {self.volume_ml:.1f} ml{between}."


def send_notice(notice: NoticeTarget, news: ResultNotice) -> None:
    """Tell one receiver.

    Raises
    ------
    NotDelivered
        `not-delivered`, with what the receiver answered.
    UsageError
        `usage`, if a secret is not there.
    """
    {"webhook": _send_webhook, "hl7": _send_hl7, "fhir": _send_fhir}[notice.kind](notice, news)


def _send_webhook(notice: NoticeTarget, news: ResultNotice) -> None:
    """POST as JSON, without the patient's number: the receiver knows the study by its UID and accession number."""
    content = {key: value for key, value in asdict(news).items() if key != "patient_id"}
    body = json.dumps({"schema": "strokeseg.notice/1", **content, "text": news.sentence, "disclaimer": DISCLAIMER})
    headers = {"Content-Type": "application/json", "Idempotency-Key": news.key}
    if notice.sign_with is not None:
        digest = hmac.new(notice.sign_with.read().encode(), body.encode(), hashlib.sha256).hexdigest()
        headers["X-StrokeSeg-Signature"] = f"sha256={digest}"
    _post(notice, str(notice.url), body, headers)


def _post(notice: NoticeTarget, url: str, body: str, headers: dict[str, str]) -> None:
    try:
        verify = credentials.build_tls_verification(notice.authority)
        auth = credentials.open_httpx_auth(notice.auth, notice.authority, notice.timeout_s)
        with httpx2.Client(timeout=notice.timeout_s, verify=verify, auth=auth, follow_redirects=False) as client:
            answer = client.post(url, content=body.encode(), headers=headers)
    except (httpx2.HTTPError, OSError) as error:
        raise NotDelivered(f"{notice.name}: cannot be reached ({type(error).__name__})") from error
    if not answer.is_success:
        raise NotDelivered(f"{notice.name}: answered {answer.status_code}")


def build_oru(news: ResultNotice, control_id: str) -> str:
    """Return an HL7 v2.5.1 ORU^R01 message: one OBR, an OBX for the sentence, hemorrhage, volume and interval.

    Returns
    -------
    str
        Segments divided by carriage returns.
    """
    from hl7apy.core import Message

    message = Message("ORU_R01", version="2.5.1")
    stamp = "".join(letter for letter in news.at[:19] if letter.isdigit())
    header = message.msh
    header.msh_3, header.msh_7, header.msh_9 = "STROKESEG", stamp, "ORU^R01^ORU_R01"
    header.msh_10, header.msh_11, header.msh_12, header.msh_18 = control_id, "P", "2.5.1", "UNICODE UTF-8"
    result = message.add_group("oru_r01_patient_result")
    patient = result.add_group("oru_r01_patient")
    patient.pid.pid_1, patient.pid.pid_3 = "1", _escape_hl7(news.patient_id)
    observation = result.add_group("oru_r01_order_observation")
    order = observation.obr
    order.obr_1, order.obr_3, order.obr_4 = (
        "1",
        _escape_hl7(news.accession),
        "STROKESEG^Intracranial hemorrhage on CT^L",
    )
    order.obr_7, order.obr_25 = stamp, "P"
    rows: list[tuple[str, str, str, str]] = [
        ("TX", "TEXT^Summary^L", f"{news.sentence} {DISCLAIMER}", ""),
        ("CWE", "ICH^Intracranial hemorrhage outlined^L", "Y" if news.hemorrhage else "N", ""),
        ("ST", "113014^DICOM Study^DCM", news.study_uid, ""),
        ("ST", "112002^Series Instance UID^DCM", news.series_uid, ""),
        ("NM", "VERSION^Version of the result^L", str(news.version), ""),
    ]
    if news.volume_ml is not None:
        rows.append(("NM", "VOLUME^Volume of hemorrhage^L", f"{news.volume_ml:.2f}", "mL^milliliter^UCUM"))
    if news.interval_ml is not None:
        low, high = news.interval_ml
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
    """Escape HL7's own signs, and drop what would end a segment."""
    signs = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\", "\r": " ", "\n": " "}
    return "".join(signs.get(letter, letter) for letter in text)


def _send_hl7(notice: NoticeTarget, news: ResultNotice) -> None:
    control_id = news.key[:20]
    frame = _MLLP_START + build_oru(news, control_id).encode() + _MLLP_END
    try:
        with socket.create_connection((str(notice.host), int(notice.port or 0)), notice.timeout_s) as plain:
            plain.settimeout(notice.timeout_s)
            line = plain
            if notice.tls:
                context = ssl.create_default_context(cafile=None if notice.authority is None else str(notice.authority))
                line = context.wrap_socket(plain, server_hostname=notice.host)
            line.sendall(frame)
            answer = _receive_frame(line)
    except OSError as error:
        raise NotDelivered(f"{notice.name}: cannot be reached ({type(error).__name__})") from error
    fields = next((row.split("|") for row in answer.split("\r") if row.startswith("MSA|")), ["MSA", "nothing"])
    if fields[1] not in ("AA", "CA"):
        raise NotDelivered(f"{notice.name}: answered {fields[1]}")
    if len(fields) > 2 and fields[2] != control_id:
        raise NotDelivered(f"{notice.name}: acknowledged another message")


def _receive_frame(line: socket.socket) -> str:
    found = b""
    while not found.endswith(_MLLP_END):
        part = line.recv(65536)
        if not part or len(found) > _MAX_ANSWER_BYTES:
            raise ConnectionError("the answer has no end")
        found += part
    return found.strip(_MLLP_START + _MLLP_END).decode("utf-8", "replace")


def build_fhir_bundle(news: ResultNotice) -> dict[str, Any]:
    """Return a FHIR R4 transaction: a DiagnosticReport and its Observations, made once however often it is sent."""
    from fhir.resources.R4B.bundle import Bundle

    subject = {"identifier": {"value": news.patient_id or "unknown"}}
    study = {"identifier": {"system": "urn:dicom:uid", "value": f"urn:oid:{news.study_uid}"}}

    def observation(name: str, code: dict[str, str], value: dict[str, Any]) -> dict[str, Any]:
        return {
            "resourceType": "Observation",
            "identifier": [{"system": "urn:strokeseg:observation", "value": f"{news.key}-{name}"}],
            "status": "preliminary",
            "code": {"coding": [code], "text": code["display"]},
            "subject": subject,
            "partOf": [study],
            "effectiveDateTime": news.at,
            "device": {"display": f"{news.software}, {news.model}"},
            "note": [{"text": DISCLAIMER}],
            **value,
        }

    found = {
        "hemorrhage": observation(
            "hemorrhage",
            {"system": "http://snomed.info/sct", "code": "1386000", "display": "Intracranial hemorrhage"},
            {"valueBoolean": news.hemorrhage},
        )
    }
    if news.volume_ml is not None:
        quantity = {
            "value": round(news.volume_ml, 2),
            "unit": "mL",
            "system": "http://unitsofmeasure.org",
            "code": "mL",
        }
        code = {"system": "http://snomed.info/sct", "code": "118565006", "display": "Volume"}
        found["volume"] = observation("volume", code, {"valueQuantity": quantity})
        if news.interval_ml is not None:
            low, high = (dict(quantity, value=round(end, 2)) for end in news.interval_ml)
            found["volume"]["component"] = [
                {"code": {"text": "interval of the volume"}, "valueRange": {"low": low, "high": high}}
            ]
    report = {
        "resourceType": "DiagnosticReport",
        "identifier": [{"system": "urn:strokeseg:result", "value": news.key}],
        "status": "preliminary",
        "code": {"text": "Intracranial hemorrhage on CT, outlined by software"},
        "subject": subject,
        "effectiveDateTime": news.at,
        "imagingStudy": [study],
        "result": [{"reference": f"urn:uuid:{_derive_uuid(news.key, name)}"} for name in found],
        "conclusion": f"{news.sentence} {DISCLAIMER}",
    }
    parts = {**found, "report": report}
    entries = [
        {
            "fullUrl": f"urn:uuid:{_derive_uuid(news.key, name)}",
            "resource": part,
            "request": {
                "method": "POST",
                "url": part["resourceType"],
                "ifNoneExist": "identifier={system}|{value}".format(**part["identifier"][0]),
            },
        }
        for name, part in parts.items()
    ]
    whole = Bundle.model_validate({"resourceType": "Bundle", "type": "transaction", "entry": entries})
    return dict(json.loads(whole.model_dump_json()))


def _derive_uuid(key: str, name: str) -> str:
    digest = hashlib.sha256(f"{key} {name}".encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"


def _send_fhir(notice: NoticeTarget, news: ResultNotice) -> None:
    _post(notice, str(notice.url), json.dumps(build_fhir_bundle(news)), {"Content-Type": "application/fhir+json"})
