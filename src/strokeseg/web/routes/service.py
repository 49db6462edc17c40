"""The server itself: current user, installed models, health, and metrics."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import sqlalchemy as sa
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import select

from strokeseg.segmentation import models
from strokeseg.web.auth import BoundedRoute
from strokeseg.web.context import AppContext
from strokeseg.web.database import current_time, step_durations, studies, workers
from strokeseg.web.routes.parameters import Context, Reader
from strokeseg.web.schemas import CurrentUser, Health, ModelList

router = APIRouter(route_class=BoundedRoute, tags=["server"])
_TEXT = "text/plain; version=0.0.4; charset=utf-8"


@router.get("/models")
def list_models(_user: Reader) -> ModelList:
    """List the installed models."""
    return ModelList(items=[models.load_card(name).model_dump(mode="json") for name in models.list_names()])


@router.get("/me")
def get_current_user(context: Context, request: Request) -> CurrentUser:
    """Get the current user, and how to sign in."""
    guard = context.guard
    user = guard.find_user(request)
    return CurrentUser(
        user=user and user.name,
        group=user.group if user else None,
        scopes=sorted(user.scopes) if user else [],
        auth=guard.mode if user else "required",
        oidc_login=guard.login_path,
    )


@router.get("/health/live")
async def check_live() -> Health:
    """Check that the process responds."""
    return Health(status="ok")


@router.get("/health/ready", responses={503: {"model": Health, "description": "Not ready"}})
async def check_ready(context: Context) -> Response:
    """Check that the database and the storage respond."""
    checks = {
        "database": await asyncio.to_thread(_succeeds, context.jobs.studies.read_clock),
        "storage": await asyncio.to_thread(_succeeds, context.storage.check_writable),
    }
    is_ready = all(checks.values())
    health = Health(status="ok" if is_ready else "not-ready", checks=checks)
    return JSONResponse(health.model_dump(), 200 if is_ready else 503)


@router.get(
    "/metrics",
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def get_metrics(context: Context, _user: Reader) -> Response:
    """Get metrics for Prometheus."""
    registry = CollectorRegistry()
    registry.register(_MetricsCollector(context))
    return Response(generate_latest(registry), headers={"Content-Type": _TEXT})


class _MetricsCollector(Collector):
    """Metrics of the whole installation, read from the database: every server returns the same."""

    def __init__(self, context: AppContext) -> None:
        self._context = context

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily | SummaryMetricFamily]:
        context = self._context
        with context.engine.connect() as connection:
            by_status = connection.execute(
                select(studies.c.status, sa.func.count()).where(~studies.c.deleted).group_by(studies.c.status)
            ).all()
            durations = connection.execute(select(step_durations)).all()
            since = current_time(context.engine) - context.settings.lease_s
            alive = connection.execute(select(sa.func.count()).where(workers.c.seen > since)).scalar_one()
        queued = dict((status, count) for status, count in by_status).get("queued", 0)
        yield GaugeMetricFamily("strokeseg_queue_length", "Studies waiting for a worker", queued)
        yield GaugeMetricFamily("strokeseg_processes", "Processes with a valid lease", alive)
        yield GaugeMetricFamily("strokeseg_stored_bytes", "Size of all studies", context.jobs.studies.sum_bytes())
        counts = GaugeMetricFamily("strokeseg_studies_total", "Number of studies", labels=["status"])
        for status, count in by_status:
            counts.add_metric([status], count)
        yield counts
        seconds = SummaryMetricFamily("strokeseg_step_seconds", "Duration of each step in seconds", labels=["step"])
        for row in durations:
            seconds.add_metric([row.step], row.times, row.seconds)
        yield seconds


def _succeeds(check: Callable[[], object]) -> bool:
    """Return whether a check passes; a storage library may raise anything."""
    try:
        check()
    except Exception:
        return False
    return True
