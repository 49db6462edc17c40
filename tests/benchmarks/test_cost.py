"""The cost page: a simulation held to closed forms, and a page held to its figures."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks import cost, cost_page, queueing

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(("workers", "load"), [(1, 0.5), (2, 0.7), (8, 0.8)])
def test_the_simulation_waits_as_erlang_says(workers, load):
    """M/M/c; Erlang C by its recursion from Erlang B, another way than the package's sum."""
    waits = queueing.waits_s(load * workers, lambda draw: draw.exponential(1.0), workers, 60_000)
    blocked = 1.0
    for count in range(1, workers + 1):
        blocked = load * workers * blocked / (count + load * workers * blocked)
    waiting = blocked / (1 - load * (1 - blocked))
    expected = waiting / (workers * (1 - load))
    assert queueing.mean_wait_mmc_s(load * workers, 1.0, workers) == pytest.approx(expected, rel=1e-9)
    assert np.mean(waits) == pytest.approx(expected, rel=0.1)
    assert np.mean(waits > 0) == pytest.approx(waiting, rel=0.05)


@pytest.mark.parametrize("load", [0.3, 0.8])
def test_the_simulation_waits_as_pollaczek_and_khinchine_say(load):
    """M/D/1, service 2 s: half of what M/M/1 waits."""
    waits = queueing.waits_s(load / 2, lambda _: 2.0, 1, 60_000)
    assert np.mean(waits) == pytest.approx(load / (1 - load), rel=0.1)
    assert queueing.mean_wait_md1_s(load / 2, 2.0) == pytest.approx(load / (1 - load))


def test_the_fewest_workers_are_enough_and_one_less_is_not():
    def service(draw):
        return draw.exponential(4.0)

    workers = queueing.workers_needed(2.0, service, 4.0, 2.0, scans=20_000)
    assert workers > 8
    assert np.quantile(queueing.waits_s(2.0, service, workers, 20_000), 0.95) <= 2.0
    assert np.quantile(queueing.waits_s(2.0, service, workers - 1, 20_000), 0.95) > 2.0


def test_costs_follow_from_seconds_by_hand():
    measured = cost.Measured(
        machine="m", model="default", engine="e", repeats=1, slices=(10, 30), seconds=(2.0, 4.0), network_s=(1.0, 3.0)
    )
    assumed = cost.Assumptions(fewest_slices=20, most_slices=40, euros_per_core_hour=0.036, busy=0.5, a_year=(10_000,))
    found = cost.figures(measured, assumed)
    # 30 slices: 4 s, paid 8 s; 86,400 / 8 = 10,800 a day; 1,000 x 8 s x 0.00001 euros; 8e6 s are 2,222 hours.
    assert (found.scan_s, found.scans_per_core_day, found.euros_per_thousand) == (4.0, 10_800, 0.08)
    assert (found.core_hours_per_million, found.euros_per_million) == (2222, 80)
    assert found.scans_per_core_day_without_network == 43_200
    # One worker all year: 8,760 hours for 10,000 scans.
    assert (found.services[0].workers, found.services[0].euros_per_thousand) == (1, 31.54)


def test_the_page_shows_the_stored_figures():
    found = cost.Figures.model_validate_json((ROOT / "benchmarks/cost.json").read_bytes())
    assert (ROOT / "docs/cost.md").read_text() == cost_page.page(found)
    again = cost.figures(found.measured, found.assumed)
    assert again.model_copy(update={"date": found.date}) == found
