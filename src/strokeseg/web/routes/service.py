"""The server itself: who asks, which networks there are, whether it works, and figures for a monitor."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import sqlalchemy as sa
from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, SummaryMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import select

from strokeseg.segmentation import models
from strokeseg.web.auth import User
from strokeseg.web.context import AppContext
from strokeseg.web.database import current_time, step_durations, studies, workers
from strokeseg.web.schemas import CurrentUser, Health, ModelList

_TEXT = "text/plain; version=0.0.4; charset=utf-8"


def create_router(here: AppContext) -> APIRouter:
    """Make the routes."""
    routes = APIRouter(tags=["server"])
    read = Depends(here.guard.require("read"))
    registry = CollectorRegistry()
    registry.register(_MetricsCollector(here))

    @routes.get("/models")
    def installed(_user: User = read) -> ModelList:
        """List the installed networks."""
        return ModelList(items=[models.load_card(name).model_dump(mode="json") for name in models.list_names()])

    @routes.get("/me")
    def me(request: Request) -> CurrentUser:
        """Say who asks, and how one signs in."""
        user = here.guard.find_user(request)
        mode = here.guard.mode
        scopes = sorted(user.scopes) if user else []
        shown = mode if user else "required"
        group = user.group if user else None
        return CurrentUser(
            user=user and user.name, group=group, scopes=scopes, auth=shown, oidc_login=here.guard.login_path
        )

    @routes.get("/health/live")
    async def live() -> Health:
        """Say that the process answers."""
        return Health(status="ok")

    @routes.get("/health/ready", responses={503: {"model": Health, "description": "it cannot work now"}})
    async def ready() -> Response:
        """Return whether the database and the storage answer."""
        checks = {
            "database": await asyncio.to_thread(_succeeds, here.jobs.studies.read_clock),
            "storage": await asyncio.to_thread(_succeeds, here.storage.check_writable),
        }
        fine = all(checks.values())
        said = Health(status="ok" if fine else "not-ready", checks=checks)
        return JSONResponse(said.model_dump(), 200 if fine else 503)

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    def metrics(_user: User = read) -> Response:
        """Give figures for Prometheus."""
        return Response(generate_latest(registry), headers={"Content-Type": _TEXT})

    return routes


class _MetricsCollector(Collector):
    """Figures of the whole installation, whichever server is asked: they are read from the database."""

    def __init__(self, here: AppContext) -> None:
        self._here = here

    def describe(self) -> list[GaugeMetricFamily]:
        return []

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily | SummaryMetricFamily]:
        with self._here.engine.connect() as connection:
            by_status = connection.execute(
                select(studies.c.status, sa.func.count()).where(~studies.c.deleted).group_by(studies.c.status)
            ).all()
            took = connection.execute(select(step_durations)).all()
            since = current_time(self._here.engine) - self._here.settings.lease_s
            alive = connection.execute(select(sa.func.count()).where(workers.c.seen > since)).scalar_one()
        waiting = dict((status, count) for status, count in by_status).get("queued", 0)
        yield GaugeMetricFamily("strokeseg_queue_length", "Studies that wait for a worker", waiting)
        yield GaugeMetricFamily("strokeseg_processes", "Processes that gave a sign of life lately", alive)
        yield GaugeMetricFamily("strokeseg_stored_bytes", "Bytes of all studies", self._here.jobs.studies.sum_bytes())
        counted = GaugeMetricFamily("strokeseg_studies_total", "Studies that are there", labels=["status"])
        for status, count in by_status:
            counted.add_metric([status], count)
        yield counted
        seconds = SummaryMetricFamily("strokeseg_step_seconds", "Seconds of each step", labels=["step"])
        for row in took:
            seconds.add_metric([row.step], row.times, row.seconds)
        yield seconds


def _succeeds(check: Callable[[], object]) -> bool:
    """Return whether a check passes; whatever a storage's own library raises, the answer is no."""
    try:
        check()
    except Exception:
        return False
    return True
