"""Settings of the node's TOML file, validated before the node listens."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from strokeseg.errors import UsageError

AeTitle = Annotated[str, Field(pattern=r"^[\x21-\x5b\x5d-\x7e]([\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?$")]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,31}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
ObjectFormat = Literal["seg", "seg-labelmap", "seg-probability", "sr", "capture", "pdf"]
Condition = Literal["always", "blood", "larger"]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class TlsFiles(_Section):
    """Certificate files of one side. With an authority, the other side must show a certificate of it."""

    certificate: Path
    key: Path
    authority: Path | None = None


class LocalEntity(_Section):
    """`[node]`: the node's own identity and limits.

    ``quiet_s`` : seconds without an instance after which a series is complete, if no better sign comes first
    ``settle_s`` : seconds to wait after the last association that sent part of a series has ended
    ``keep_days`` : days for which delivery is retried before it is given up as dead
    ``keep_series_days`` : days after which a finished series and its files are deleted; None keeps all. At least
        three, because DICOMweb servers are also polled for yesterday's series
    ``group`` : group of the web application that sees the studies
    """

    ae_title: AeTitle = "STROKESEG"
    address: str = "127.0.0.1"
    port: Port = 11112
    tls: TlsFiles | None = None
    folder: Path = Path("node")
    quiet_s: float = Field(60.0, ge=1, le=3600)
    settle_s: float = Field(5.0, ge=0, le=600)
    most_associations: int = Field(16, ge=1, le=256)
    most_object_mb: int = Field(512, ge=1, le=4096)
    least_free_mb: int = Field(1024, ge=0)
    network_timeout_s: float = Field(60.0, ge=1, le=3600)
    keep_days: float = Field(7.0, gt=0, le=365)
    keep_series_days: float | None = Field(None, ge=3, le=36500)
    poll_s: float = Field(60.0, ge=5, le=86400)
    metrics_port: Port | None = None
    group: str | None = None

    @property
    def most_object_bytes(self) -> int:
        """`most_object_mb` in bytes."""
        return self.most_object_mb * 2**20


class Peer(_Section):
    """`[[peer]]`: another application entity. Associations with entities that are not listed are rejected.

    ``from_addresses`` : addresses that its associations may come from; empty is its own host only
    ``may`` : "send" objects to the node, "commit": request storage commitment
    ``use`` : how priors are fetched from it: "move", "get", or not at all
    """

    name: Name
    ae_title: AeTitle
    host: str | None = None
    port: Port | None = None
    from_addresses: tuple[str, ...] = ()
    may: tuple[Literal["send", "commit"], ...] = ()
    use: Literal["move", "get"] | None = None
    commit: bool = False
    tls: TlsFiles | None = None

    @model_validator(mode="after")
    def _has_address(self) -> Peer:
        if (self.host is None) != (self.port is None):
            raise ValueError("set both host and port, or neither")
        if self.host is None and (self.use or self.commit):
            raise ValueError("use and commit need host and port")
        return self


class Secret(_Section):
    """Where a secret is: the name of an environment variable, or a file; never the secret itself."""

    variable: str | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> Secret:
        if (self.variable is None) == (self.file is None):
            raise ValueError("set either variable or file")
        return self

    def read(self) -> str:
        """Read the secret.

        Returns
        -------
        str
            The secret.

        Raises
        ------
        UsageError
            `usage`, if it is missing.
        """
        try:
            secret = os.environ.get(self.variable, "") if self.variable else Path(str(self.file)).read_text().strip()
        except OSError as error:
            message = f"{self.file}: cannot be read ({error.strerror})"
            raise UsageError(message, "Give the file that contains the secret.") from None
        if not secret:
            raise UsageError(f"{self.variable or self.file}: contains no secret", "Set it before starting the node.")
        return secret


class Authentication(_Section):
    """Authentication at a DICOMweb server or webhook: basic, bearer, or OIDC client credentials."""

    kind: Literal["basic", "bearer", "oidc"]
    user: str | None = None
    secret: Secret
    token_url: str | None = None
    scope: str | None = None

    @model_validator(mode="after")
    def _is_complete(self) -> Authentication:
        if self.kind in ("basic", "oidc") and not self.user:
            raise ValueError(f"{self.kind} needs user" + (" (the client ID)" if self.kind == "oidc" else ""))
        if (self.kind == "oidc") != (self.token_url is not None):
            raise ValueError("token_url is for oidc only, and oidc needs it")
        return self


class DicomwebServer(_Section):
    """`[[web]]`: a DICOMweb server. With ``poll``, new CT series of the last day are fetched from it."""

    name: Name
    url: Annotated[str, Field(pattern=r"^https?://")]
    auth: Authentication | None = None
    authority: Path | None = None
    poll: bool = False
    priors: bool = False
    timeout_s: float = Field(60.0, ge=1, le=3600)


class NoticeTarget(_Section):
    """`[[notice]]`: a target for immediate notices: a webhook, HL7 v2 ORU over MLLP, or a FHIR R4 server."""

    name: Name
    kind: Literal["webhook", "hl7", "fhir"]
    url: str | None = None
    host: str | None = None
    port: Port | None = None
    auth: Authentication | None = None
    sign_with: Secret | None = None
    tls: bool = False
    authority: Path | None = None
    timeout_s: float = Field(20.0, ge=1, le=600)

    @model_validator(mode="after")
    def _has_address(self) -> NoticeTarget:
        if self.kind == "hl7" and (self.host is None or self.port is None):
            raise ValueError("hl7 needs host and port")
        if self.kind != "hl7" and not re.match(r"https?://", self.url or ""):
            raise ValueError(f"{self.kind} needs url")
        return self


class SeriesMatch(_Section):
    """Conditions of a rule; an omitted one matches every series. Patterns are searched and ignore case."""

    body_part: str | None = None
    description: str | None = None
    not_description: str | None = None
    kernel: str | None = None
    not_kernel: str | None = None
    thickness_mm: tuple[float, float] | None = None
    slices: tuple[int, int] | None = None
    sender: tuple[str, ...] = ()

    @field_validator("body_part", "description", "not_description", "kernel", "not_kernel")
    @classmethod
    def _is_valid_pattern(cls, text: str | None) -> str | None:
        try:
            re.compile(text or "")
        except re.error as error:
            raise ValueError(f"invalid pattern: {error}") from None
        return text


class _ConditionalTarget(_Section):
    when: Condition
    volume_ml: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _has_threshold(self) -> Self:
        if (self.when == "larger") != (self.volume_ml is not None):
            raise ValueError('volume_ml is for when = "larger" only, which needs it')
        return self

    def applies_to(self, hemorrhage: bool, volume_ml: float | None) -> bool:
        """Return whether a result meets the condition; hemorrhage of unknown volume counts as larger, to be safe."""
        if self.when == "always":
            return True
        return hemorrhage and (self.volume_ml is None or volume_ml is None or volume_ml > self.volume_ml)


class ObjectDelivery(_ConditionalTarget):
    """Which objects of a result are sent to which target, and when."""

    to: Name
    what: tuple[ObjectFormat, ...] = ("seg", "sr", "capture")
    when: Condition = "always"


class NoticeDelivery(_ConditionalTarget):
    """Which target gets a notice, and when."""

    to: Name
    when: Condition = "blood"


class Rule(_Section):
    """`[[rule]]`: the first rule that matches a series applies; a series without one is ignored."""

    name: Name
    match: SeriesMatch = SeriesMatch()
    do: Literal["segment", "ignore"] = "segment"
    model: str = "default"
    operating_point: Literal["sensitive", "balanced", "specific"] = "balanced"
    threshold: float | None = Field(default=None, gt=0, lt=1)
    smallest_ml: float | None = Field(default=None, ge=0, lt=1000)
    urgent: bool = False
    priors: bool = False
    send: tuple[ObjectDelivery, ...] = ()
    tell: tuple[NoticeDelivery, ...] = ()

    @model_validator(mode="after")
    def _ignored_series_has_no_output(self) -> Rule:
        if self.do == "ignore" and (self.send or self.tell or self.priors):
            raise ValueError("an ignored series has nothing to send, tell or compare")
        return self

    @property
    def decision(self) -> dict[str, str | float | None]:
        """The choice between missed hemorrhages and false alarms, as a study's options."""
        return {
            "operating_point": self.operating_point,
            "threshold": self.threshold,
            "smallest_ml": self.smallest_ml,
        }


class NodeSettings(_Section):
    """The complete settings file."""

    node: LocalEntity = LocalEntity()
    peer: tuple[Peer, ...] = ()
    web: tuple[DicomwebServer, ...] = ()
    notice: tuple[NoticeTarget, ...] = ()
    rule: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _names_are_unique(self) -> NodeSettings:
        targets = [peer.name for peer in self.peer] + [server.name for server in self.web]
        notices = [target.name for target in self.notice]
        rules = [rule.name for rule in self.rule]
        for kind, names in (("peer or web", targets), ("notice", notices), ("rule", rules)):
            if duplicates := _find_duplicates(names):
                raise ValueError(f"two tables [[{kind}]] have the name {', '.join(duplicates)}")
        if any(peer.ae_title == "?" for peer in self.peer):
            raise ValueError("? is not allowed as the title of a peer")
        if duplicates := _find_duplicates([peer.ae_title for peer in self.peer if peer.may]):
            raise ValueError(f"two peers with `may` have the title {', '.join(duplicates)}: use different titles")
        return self

    @model_validator(mode="after")
    def _targets_exist(self) -> NodeSettings:
        reachable = {peer.name for peer in self.peer if peer.host} | {server.name for server in self.web}
        notices = {target.name for target in self.notice}
        for rule in self.rule:
            for delivery in rule.send:
                if delivery.to not in reachable:
                    raise ValueError(
                        f"rule {rule.name} sends to {delivery.to}, which is no [[peer]] with a host and no [[web]]"
                    )
            for notice in rule.tell:
                if notice.to not in notices:
                    raise ValueError(f"rule {rule.name} notifies {notice.to}, which is no [[notice]]")
        return self


def _find_duplicates(names: list[str]) -> list[str]:
    return sorted({name for name in names if names.count(name) > 1})
