"""What the node's one TOML file says, checked before anything listens."""

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
    """Certificates of one side. With an authority the other side must show a certificate of it."""

    certificate: Path
    key: Path
    authority: Path | None = None


class LocalEntity(_Section):
    """`[node]`: who we are, and our bounds.

    ``quiet_s`` : a series on which nothing came for so long is complete, where nothing better says so
    ``settle_s`` : the wait after the last association that brought a series has ended
    ``keep_days`` : delivery is tried for so long before it is given up as dead
    ``keep_series_days`` : a series that ended so long ago is forgotten, with its files; None keeps all. Not less than
        three: DICOMweb servers are asked for yesterday's series too
    ``group`` : of the web application's users, who sees the studies
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


class Peer(_Section):
    """`[[peer]]`: another application entity. What is not listed gets no association.

    ``from_addresses`` : where its associations may come from; empty is its own host alone
    ``may`` : "send" us objects, "commit": ask whether we have them
    ``use`` : how priors are fetched from it: "move", "get" or not at all
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
    def _reachable(self) -> Peer:
        if (self.host is None) != (self.port is None):
            raise ValueError("host and port belong together")
        if self.host is None and (self.use or self.commit):
            raise ValueError("use and commit need host and port")
        return self


class Secret(_Section):
    """A secret: the name of an environment variable, or a file. Never the secret itself."""

    variable: str | None = None
    file: Path | None = None

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if (self.variable is None) == (self.file is None):
            raise ValueError("name either variable or file")
        return self

    def read(self) -> str:
        """Return the secret.

        Raises
        ------
        UsageError
            `usage`, if it is not there.
        """
        try:
            found = os.environ.get(self.variable, "") if self.variable else Path(str(self.file)).read_text().strip()
        except OSError as error:
            message = f"{self.file}: cannot be read ({error.strerror})"
            raise UsageError(message, "Give the file that holds it.") from None
        if not found:
            raise UsageError(f"{self.variable or self.file}: holds no secret", "Set it before the node is started.")
        return found


class Authentication(_Section):
    """How a DICOMweb server or a webhook knows us: basic, bearer, or OIDC client credentials."""

    kind: Literal["basic", "bearer", "oidc"]
    user: str | None = None
    secret: Secret
    token_url: str | None = None
    scope: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> Authentication:
        if self.kind in ("basic", "oidc") and not self.user:
            raise ValueError(f"{self.kind} needs user" + (" (the client's id)" if self.kind == "oidc" else ""))
        if (self.kind == "oidc") != (self.token_url is not None):
            raise ValueError("token_url belongs to oidc, and oidc needs it")
        return self


class DicomwebServer(_Section):
    """`[[web]]`: a DICOMweb server. With ``poll`` new CT series of the last day are fetched from it."""

    name: Name
    url: Annotated[str, Field(pattern=r"^https?://")]
    auth: Authentication | None = None
    authority: Path | None = None
    poll: bool = False
    priors: bool = False
    timeout_s: float = Field(60.0, ge=1, le=3600)


class NoticeTarget(_Section):
    """`[[notice]]`: whom to tell at once: a webhook, HL7 v2 ORU over MLLP, or a FHIR R4 server."""

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
    def _reachable(self) -> NoticeTarget:
        if self.kind == "hl7" and (self.host is None or self.port is None):
            raise ValueError("hl7 needs host and port")
        if self.kind != "hl7" and not re.match(r"https?://", self.url or ""):
            raise ValueError(f"{self.kind} needs url")
        return self


class SeriesMatch(_Section):
    """What a series must be for a rule to hit; what is not said fits everything. Patterns are searched, caseless."""

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
    def _pattern(cls, text: str | None) -> str | None:
        try:
            re.compile(text or "")
        except re.error as error:
            raise ValueError(f"no pattern: {error}") from None
        return text


class _ConditionalTarget(_Section):
    when: Condition
    volume_ml: float | None = Field(None, gt=0)

    @model_validator(mode="after")
    def _bound(self) -> Self:
        if (self.when == "larger") != (self.volume_ml is not None):
            raise ValueError('volume_ml belongs to when = "larger", which needs it')
        return self

    def applies_to(self, hemorrhage: bool, volume_ml: float | None) -> bool:
        """Return whether a result is one of those; of unknown volume, blood counts as larger: nobody is left out."""
        if self.when == "always":
            return True
        return hemorrhage and (self.volume_ml is None or volume_ml is None or volume_ml > self.volume_ml)


class ObjectDelivery(_ConditionalTarget):
    """What of a result goes where, and when."""

    to: Name
    what: tuple[ObjectFormat, ...] = ("seg", "sr", "capture")
    when: Condition = "always"


class NoticeDelivery(_ConditionalTarget):
    """Who is told, and when."""

    to: Name
    when: Condition = "blood"


class Rule(_Section):
    """`[[rule]]`: the first rule that fits a series decides; where none fits, nothing is done with it."""

    name: Name
    match: SeriesMatch = SeriesMatch()
    do: Literal["segment", "ignore"] = "segment"
    model: str = "default"
    urgent: bool = False
    priors: bool = False
    send: tuple[ObjectDelivery, ...] = ()
    tell: tuple[NoticeDelivery, ...] = ()

    @model_validator(mode="after")
    def _idle(self) -> Rule:
        if self.do == "ignore" and (self.send or self.tell or self.priors):
            raise ValueError("an ignored series has nothing to send, tell or compare")
        return self


class NodeSettings(_Section):
    """The whole file."""

    node: LocalEntity = LocalEntity()
    peer: tuple[Peer, ...] = ()
    web: tuple[DicomwebServer, ...] = ()
    notice: tuple[NoticeTarget, ...] = ()
    rule: tuple[Rule, ...] = ()

    @model_validator(mode="after")
    def _names(self) -> NodeSettings:
        targets = [peer.name for peer in self.peer] + [web.name for web in self.web]
        notices = [item.name for item in self.notice]
        for kind, names in (("peer or web", targets), ("notice", notices), ("rule", [one.name for one in self.rule])):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"two tables [[{kind}]] are named {', '.join(twice)}")
        if any(peer.ae_title == "?" for peer in self.peer):
            raise ValueError("? is no title of a peer")
        titles = [peer.ae_title for peer in self.peer if peer.may]
        if twice := sorted({title for title in titles if titles.count(title) > 1}):
            raise ValueError(f"two peers that may send are titled {', '.join(twice)}: who called could not be told")
        reachable = {peer.name for peer in self.peer if peer.host} | {web.name for web in self.web}
        for rule in self.rule:
            for delivery in rule.send:
                if delivery.to not in reachable:
                    raise ValueError(f"rule {rule.name} sends to {delivery.to}: no [[peer]] with host, and no [[web]]")
            for telling in rule.tell:
                if telling.to not in notices:
                    raise ValueError(f"rule {rule.name} tells {telling.to}, which no [[notice]] is")
        return self
