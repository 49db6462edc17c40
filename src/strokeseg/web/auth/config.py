"""The sign-in rules of `strokeseg serve --auth-config FILE`, a TOML file; docs/security.md explains every key."""

from __future__ import annotations

import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from strokeseg.errors import UsageError, describe_field_error
from strokeseg.web.auth import users

_REMEDY = "Correct the file; docs/security.md lists every key."
_LOCAL_HOSTS = {"127.0.0.1", "::1", "localhost"}


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)


class AccessRule(_Section):
    """`[[oidc.access]]`: the scopes of a group of the sign-in service; "*" is everyone who can sign in there."""

    member: str = Field(min_length=1)
    group: str | None = Field(None, min_length=1, max_length=255)
    scopes: tuple[users.Scope, ...] = ("read", "write")


class OidcConfig(_Section):
    """`[oidc]`: a sign-in service that supports OpenID Connect.

    Attributes
    ----------
    issuer : str
        The service's address, as it appears in its tokens.
    client_id : str
        The ID under which the service knows this application.
    client_secret_file : Path
        File with the secret from the service; the secret is never in the TOML file itself.
    public_url : str
        The address of this application; the service redirects people to it.
    name_claim : str
        The claim that names a user; it must be unique, and users must not be able to choose it.
    groups_claim : str
        The claim with the groups that ``access`` refers to.
    ask_for : str
        The OpenID Connect scopes to request.
    access : tuple of AccessRule
        The first rule that matches applies.
    """

    issuer: str
    client_id: str = Field(min_length=1)
    client_secret_file: Path
    public_url: str
    name_claim: str = "sub"
    groups_claim: str = "groups"
    ask_for: str = "openid profile"
    access: tuple[AccessRule, ...] = Field(min_length=1)

    @field_validator("issuer", "public_url")
    @classmethod
    def _require_https(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in _LOCAL_HOSTS):
            raise ValueError("must begin with https://")
        return url.rstrip("/")

    @field_validator("ask_for")
    @classmethod
    def _require_openid(cls, text: str) -> str:
        if "openid" not in text.split():
            raise ValueError("must contain openid")
        return text

    @property
    def client_secret(self) -> SecretStr:
        """The secret from the service, read from its file."""
        return SecretStr(self.client_secret_file.read_text(encoding="utf-8").strip())


class FailureLimit(_Section):
    """`[failures]`: after ``most`` wrong tokens within ``window_s`` seconds an address gets status 429."""

    most: int = Field(20, ge=1, le=10_000)
    window_s: float = Field(300.0, ge=1, le=86_400)


class AuthConfig(_Section):
    """The whole file; without a file every key has its default, and there is no sign-in service."""

    session_hours: float = Field(12.0, gt=0, le=24 * 30)
    failures: FailureLimit = FailureLimit()
    oidc: OidcConfig | None = None

    @model_validator(mode="after")
    def _check_secret(self) -> AuthConfig:
        if self.oidc is not None:
            try:
                secret = self.oidc.client_secret.get_secret_value()
            except (OSError, UnicodeDecodeError):
                raise ValueError("oidc.client_secret_file cannot be read") from None
            if not secret:
                raise ValueError("oidc.client_secret_file is empty")
        return self


def load_config(path: Path | None) -> AuthConfig:
    """Load the file; relative paths in it refer to its folder.

    Parameters
    ----------
    path : Path or None
        The TOML file; None is the default configuration.

    Returns
    -------
    AuthConfig
        The configuration.

    Raises
    ------
    UsageError
        `usage`, with the invalid key; the message does not repeat values.
    """
    if path is None:
        return AuthConfig()
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"--auth-config: cannot be read ({type(error).__name__})", _REMEDY) from None
    oidc = content.get("oidc")
    if isinstance(oidc, dict) and isinstance(oidc.get("client_secret_file"), str):
        oidc["client_secret_file"] = path.parent / oidc["client_secret_file"]
    try:
        return AuthConfig.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"])) or "the file"
        raise UsageError(f"--auth-config: {key}: {describe_field_error(first)}", _REMEDY) from None
