"""`strokeseg serve`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EXAMPLES = """\b
Examples:
  strokeseg serve                                      open http://127.0.0.1:8000/ on this machine
  strokeseg serve --ephemeral                          keeps nothing
  strokeseg serve --database postgresql://me@db/strokeseg --storage s3://scans/strokeseg
  strokeseg serve --worker-only --database postgresql://me@db/strokeseg --storage s3://scans/strokeseg
"""
_SIZE_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


def parse_size(text: str) -> int:
    """Read "500M" or "4G"."""
    plain = text.strip().upper().removesuffix("B")
    unit = plain[-1:] if plain[-1:] in _SIZE_UNITS and not plain[-1:].isdigit() else ""
    number = plain.removesuffix(unit) if unit else plain
    if not number.isdigit() or not 0 < int(number) < 10**9:
        raise typer.BadParameter(f"{text!r} is no size, as 500M or 4G")
    return int(number) * _SIZE_UNITS[unit]


def serve(
    host: Annotated[
        str, typer.Option("--host", help="Address to listen at; any but this machine's demands tokens.")
    ] = ("127.0.0.1"),
    port: Annotated[int, typer.Option("--port", min=1, max=65535)] = 8000,
    database: Annotated[
        str,
        typer.Option(
            "--database",
            metavar="URL",
            envvar="STROKESEG_DATABASE",
            help="sqlite, sqlite:///FILE, or postgresql://USER@HOST/NAME.",
        ),
    ] = "sqlite",
    storage: Annotated[
        str,
        typer.Option("--storage", metavar="PLACE", envvar="STROKESEG_STORAGE", help="A folder, or s3://BUCKET/PREFIX."),
    ] = "strokeseg-data",
    workers: Annotated[
        int, typer.Option("--workers", min=0, max=256, help="Studies at once; 0 only answers requests.")
    ] = 1,
    worker_only: Annotated[
        bool, typer.Option("--worker-only", help="Work on studies of the same database, and answer no request.")
    ] = False,
    root_path: Annotated[
        str, typer.Option("--root-path", metavar="/PATH", help="Where a proxy in front shows the application.")
    ] = "",
    max_upload: Annotated[
        int, typer.Option("--max-upload", parser=parse_size, metavar="SIZE", help="Of one upload.", show_default="4G")
    ] = "4G",  # type: ignore[assignment]
    quota: Annotated[
        int | None,
        typer.Option(
            "--quota", parser=parse_size, metavar="SIZE", help="Of all studies together.", show_default="none"
        ),
    ] = None,
    keep_days: Annotated[
        float | None,
        typer.Option("--keep-days", min=0, metavar="DAYS", help="Delete a study so old.", show_default="never"),
    ] = None,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Keep everything in a temporary folder that goes away at the end.")
    ] = False,
    memory: Annotated[
        int,
        typer.Option("--memory", parser=parse_size, metavar="SIZE", help="Of one working process.", show_default="8G"),
    ] = "8G",  # type: ignore[assignment]
    lease: Annotated[
        float, typer.Option("--lease", min=1, metavar="SECONDS", help="After which a silent worker is taken for dead.")
    ] = 15.0,
    tls_cert: Annotated[Path | None, typer.Option("--tls-cert", metavar="FILE", exists=True, dir_okay=False)] = None,
    tls_key: Annotated[Path | None, typer.Option("--tls-key", metavar="FILE", exists=True, dir_okay=False)] = None,
    auth_config: Annotated[
        Path | None,
        typer.Option("--auth-config", metavar="FILE", exists=True, dir_okay=False, help="TOML: who gets in."),
    ] = None,
    audit: Annotated[Path, typer.Option("--audit", metavar="FILE", help="The audit log.")] = Path(
        "strokeseg-audit.jsonl"
    ),
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option("--trusted-proxy", metavar="ADDRESS", help="Its X-Forwarded-* headers count; may be repeated."),
    ] = None,
) -> None:
    """Serve the web application: upload a scan on a page, see the bleeding; or the same by REST.

    Studies wait in a queue that outlives any end of the process. More workers join by the same database and storage,
    on this machine or another. docs/serve.md tells more.
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
            tls_cert=tls_cert,
            tls_key=tls_key,
            auth_config=auth_config,
            audit=audit,
            trusted_proxies=tuple(trusted_proxy or ()),
        )
    )
