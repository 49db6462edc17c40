"""`strokeseg serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from strokeseg.cli import terminal

EXAMPLES = """\b
Examples:
  strokeseg serve                                      then open http://127.0.0.1:8000/
  strokeseg serve --ephemeral                          deletes everything at the end
  strokeseg serve --database postgresql://me@db/strokeseg --storage s3://scans/strokeseg
  strokeseg serve --worker-only --database postgresql://me@db/strokeseg --storage s3://scans/strokeseg
"""
_SIZE_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size(text: str) -> int:
    """Parse a size such as "500M" or "4G"."""
    plain = text.strip().upper().removesuffix("B")
    unit = plain[-1:] if plain[-1:] in _SIZE_UNITS and not plain[-1:].isdigit() else ""
    number = plain.removesuffix(unit) if unit else plain
    if not number.isdigit() or not 0 < int(number) < 10**9:
        raise typer.BadParameter(f"{text!r} is not a size such as 500M or 4G")
    return int(number) * _SIZE_UNITS[unit]


_HostOption = Annotated[
    str, typer.Option("--host", help="Address to listen at; any other than this machine's own requires tokens.")
]
_PortOption = Annotated[int, typer.Option("--port", min=1, max=65535, help="Port to listen at.")]
_DatabaseOption = Annotated[
    str,
    typer.Option(
        "--database",
        metavar="URL",
        envvar="STROKESEG_DATABASE",
        help="sqlite, sqlite:///FILE, or postgresql://USER@HOST/NAME.",
    ),
]
_StorageOption = Annotated[
    str,
    typer.Option("--storage", metavar="STORAGE", envvar="STROKESEG_STORAGE", help="A folder, or s3://BUCKET/PREFIX."),
]
_WorkersOption = Annotated[
    int, typer.Option("--workers", min=0, max=256, help="Studies at once; 0 only serves requests.")
]
_WorkerOnlyOption = Annotated[
    bool, typer.Option("--worker-only", help="Segment studies of the same database, and serve no requests.")
]
_RootPathOption = Annotated[
    str,
    typer.Option("--root-path", metavar="/PATH", help="Path under which a reverse proxy serves the application."),
]
_MaxUploadOption = Annotated[
    int,
    typer.Option("--max-upload", parser=parse_size, metavar="SIZE", help="Limit of one upload.", show_default="4G"),
]
_QuotaOption = Annotated[
    int | None,
    typer.Option(
        "--quota", parser=parse_size, metavar="SIZE", help="Limit of all studies together.", show_default="none"
    ),
]
_KeepDaysOption = Annotated[
    float | None,
    typer.Option("--keep-days", min=0, metavar="DAYS", help="Delete studies of this age.", show_default="never"),
]
_EphemeralOption = Annotated[
    bool, typer.Option("--ephemeral", help="Keep everything in a temporary folder that is deleted at the end.")
]
_MemoryOption = Annotated[
    int,
    typer.Option("--memory", parser=parse_size, metavar="SIZE", help="Limit of one worker process.", show_default="8G"),
]
_LeaseOption = Annotated[
    float,
    typer.Option("--lease", min=1, metavar="SECONDS", help="Time after which a silent worker counts as dead."),
]
_MaxConnectionsOption = Annotated[int, typer.Option("--max-connections", min=1, help="Connections at a time.")]
_MaxPerAddressOption = Annotated[
    int, typer.Option("--max-per-address", min=1, help="Connections at a time from one address.")
]
_MinRateOption = Annotated[
    int,
    typer.Option("--min-rate", parser=parse_size, metavar="SIZE", help="Least bytes per second of an upload."),
]
_RequestTimeoutOption = Annotated[
    float, typer.Option("--request-timeout", min=1, metavar="SECONDS", help="Time for the body of one request.")
]
_TlsCertOption = Annotated[
    Path | None, typer.Option("--tls-cert", metavar="FILE", exists=True, dir_okay=False, help="TLS certificate.")
]
_TlsKeyOption = Annotated[
    Path | None, typer.Option("--tls-key", metavar="FILE", exists=True, dir_okay=False, help="TLS key.")
]
_AuthConfigOption = Annotated[
    Path | None,
    typer.Option("--auth-config", metavar="FILE", exists=True, dir_okay=False, help="Access rules, a TOML file."),
]
_AuditOption = Annotated[Path, typer.Option("--audit", metavar="FILE", help="The audit log.")]
_TrustedProxyOption = Annotated[
    list[str] | None,
    typer.Option(
        "--trusted-proxy", metavar="ADDRESS", help="Proxy whose X-Forwarded-* headers are trusted; may be repeated."
    ),
]


def serve(
    host: _HostOption = "127.0.0.1",
    port: _PortOption = 8000,
    database: _DatabaseOption = "sqlite",
    storage: _StorageOption = "strokeseg-data",
    workers: _WorkersOption = 1,
    worker_only: _WorkerOnlyOption = False,
    root_path: _RootPathOption = "",
    max_upload: _MaxUploadOption = "4G",  # type: ignore[assignment]
    quota: _QuotaOption = None,
    keep_days: _KeepDaysOption = None,
    ephemeral: _EphemeralOption = False,
    memory: _MemoryOption = "8G",  # type: ignore[assignment]
    lease: _LeaseOption = 15.0,
    max_connections: _MaxConnectionsOption = 500,
    max_per_address: _MaxPerAddressOption = 100,
    min_rate: _MinRateOption = "1K",  # type: ignore[assignment]
    request_timeout: _RequestTimeoutOption = 3600.0,
    tls_cert: _TlsCertOption = None,
    tls_key: _TlsKeyOption = None,
    auth_config: _AuthConfigOption = None,
    audit: _AuditOption = Path("strokeseg-audit.jsonl"),
    trusted_proxy: _TrustedProxyOption = None,
) -> None:
    """Serve the web application: upload scans and view the findings in a browser, or by REST.

    Studies wait in a queue that survives the end of the process. More workers can join with the same database and
    storage, on this machine or another. See docs/serve.md.
    """
    from strokeseg.web import server
    from strokeseg.web.settings import ServerSettings, parse_database_url

    server.run(
        ServerSettings(
            host=host,
            port=port,
            database=parse_database_url(database),
            storage=storage,
            workers=workers,
            worker_only=worker_only,
            root_path=root_path,
            max_upload_bytes=max_upload,
            quota_bytes=quota,
            keep_days=keep_days,
            ephemeral=ephemeral,
            memory_bytes=memory,
            lease_s=lease,
            max_connections=max_connections,
            max_per_address=max_per_address,
            min_rate=min_rate,
            request_timeout_s=request_timeout,
            tls_cert=tls_cert,
            tls_key=tls_key,
            auth_config=auth_config,
            audit=audit,
            trusted_proxies=tuple(trusted_proxy or ()),
            debug=terminal.is_debug(),
        )
    )
