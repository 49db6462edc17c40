"""docs/cost.md, drawn from `benchmarks/cost.json`."""

from __future__ import annotations

from benchmarks.cost import Figures

_HEAD = """# What many scans take and cost

`strokeseg bench cost` measures, computes and writes this page; `--page-only` draws it again from
`benchmarks/cost.json`. What was not measured is an assumption, and is listed as one: give your own with
`--euros-per-core-hour` and the other options.
"""


def page(found: Figures) -> str:
    """Draw the page."""
    return "\n".join([_HEAD, *_measured(found), *_batch(found), *_services(found), *_gpu(found)])


def _measured(found: Figures) -> list[str]:
    measured, assumed = found.measured, found.assumed
    low, high = measured.slices
    return [
        "## Measured",
        "",
        f"On {found.date}, {measured.machine}: network `{measured.model}` by {measured.engine}, one thread. Processor "
        f"time, the least of {measured.repeats} runs, of reading, answering, measuring and saving `json` and `nifti`:",
        "",
        "| slices | seconds of one core | of that the network |",
        "|---|---|---|",
        f"| {low} | {measured.seconds[0]:.2f} | {measured.network_s[0]:.2f} |",
        f"| {high} | {measured.seconds[1]:.2f} | {measured.network_s[1]:.2f} |",
        "",
        "## Assumed",
        "",
        f"- A scan has {assumed.fewest_slices} to {assumed.most_slices} slices, each number as likely; its time lies "
        "on the line through the two that were measured.",
        f"- A core costs {assumed.euros_per_core_hour:g} euros an hour, with its memory. Storage and network are "
        "not in it.",
        f"- In a batch a core that is paid works {assumed.busy:.0%} of the time.",
        "- As many workers of one thread as cores; a core beside a busy one is as fast as alone, which is not so where "
        "two cores are threads of one.",
        f"- Scans that come by day and night arrive at random; in the busiest hour {assumed.peak:g} times as many as "
        "in the mean one.",
        "",
    ]


def _batch(found: Figures) -> list[str]:
    hours = found.core_hours_per_million
    days = "; ".join(f"{cores} cores {hours / cores / 24:.1f} days" for cores in (16, 64, 256))
    return [
        "## A batch",
        "",
        "| | |",
        "|---|---|",
        f"| seconds of one core for the mean scan, {found.assumed.slices:g} slices | {found.scan_s:.2f} |",
        f"| scans a day and core | {found.scans_per_core_day:,.0f} |",
        f"| euros for 1,000 scans | {found.euros_per_thousand:.2f} |",
        f"| core hours for 1 million scans | {hours:,.0f} |",
        f"| euros for 1 million scans | {found.euros_per_million:,.0f} |",
        "",
        f"1 million scans take: {days}.",
        "",
    ]


def _services(found: Figures) -> list[str]:
    assumed = found.assumed
    rows = [
        f"| {each.scans_a_year:,} | {each.per_hour_at_peak:g} | {each.workers} | {each.wait_95_s:g} s "
        f"| {each.load:.0%} | {each.euros_per_thousand:.2f} |"
        for each in found.services
    ]
    return [
        "## Scans as they come",
        "",
        f"The fewest workers with which 95 of 100 scans of the busiest hour wait {assumed.wait_s:g} s or less for one: "
        "a simulation of 20,000 arrivals (SimPy), held in the tests to the closed forms of M/M/c and M/D/1. The "
        "workers are paid all year, busy or not, so a thousand scans cost more than in a batch.",
        "",
        "| scans a year | an hour, at the peak | workers | 95 of 100 wait | busy then | euros for 1,000 scans |",
        "|---|---|---|---|---|---|",
        *rows,
        "",
    ]


def _gpu(found: Figures) -> list[str]:
    return [
        "## A GPU",
        "",
        "No GPU was at hand, so none is priced. What one can give at most follows from the table: were the network "
        f"free, a core would do {found.scans_per_core_day_without_network:,.0f} scans a day in place of "
        f"{found.scans_per_core_day:,.0f}; reading, measuring and writing stay on the processor. A GPU pays where it "
        "costs less than the cores that it saves.",
        "",
    ]
