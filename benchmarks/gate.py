"""Rates of the gate: how many heads it refuses, and how many other inputs it accepts, by kind."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from benchmarks import gate_fit, head_variants, non_heads
from strokeseg.errors import InputError, TrainError
from strokeseg.reading import gate, read

_SLICE_STEP = 10  # every tenth slice of the sets is read alone
_START, _END = "<!-- rates -->\n", "<!-- end of rates -->"


class _FiguresModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NonHeads(_FiguresModel):
    """Inputs of one kind that show no head."""

    kind: str
    held_out: bool = Field(description="the kind was not used while the model was made")
    inputs: int
    accepted: int
    refusals: dict[str, int] = Field(description="by code")


class Heads(_FiguresModel):
    """Scans or slices of one source that show a head."""

    source: str
    inputs: int
    refused: int


class GateFigures(_FiguresModel):
    """All figures of `benchmarks/gate.json`."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, serialize_by_alias=True)

    schema_: Literal["strokeseg.gate/1"] = Field(default="strokeseg.gate/1", alias="schema")
    non_heads: list[NonHeads]
    scans: list[Heads]
    slices: list[Heads]


def measure(
    data: Path, count: int, test: bool, log: Callable[[str], None], store: Callable[[GateFigures], None]
) -> None:
    """Measure both rates.

    Parameters
    ----------
    data : Path
        Folder of the data sets; sets that are missing are left out.
    count : int
        Number of inputs without a head of each kind.
    test : bool
        Whether the CT-ICH patients of role test are counted too.
    log : callable
        Is called with a line of text for each kind and source.
    store : callable
        Is called with the figures so far after each kind and source.
    """
    kinds: list[NonHeads] = []
    scans: list[Heads] = []
    slices: list[Heads] = []

    def add(rows: list[Heads], source: str, checks: Iterable[Callable[[], object]]) -> None:
        rows.append(count_refused(source, checks))
        log(f"{source}: {rows[-1].refused} of {rows[-1].inputs} refused")
        store(GateFigures(non_heads=kinds, scans=scans, slices=slices))

    for kind in non_heads.KINDS:
        kinds.append(measure_kind(kind, count))
        log(f"{kind}: {kinds[-1].accepted} of {kinds[-1].inputs} accepted")
        store(GateFigures(non_heads=kinds, scans=scans, slices=slices))
    for name in gate_fit.VOLUMES:
        if (data / name).exists():
            [scan] = read(data / name)
            variants = head_variants.make_variants(scan).values()
            add(
                scans,
                f"changed copies of {Path(name).parent.name}",
                [partial(gate.check_scan, each) for each in variants],
            )
    for source, paths in find_whole_scans(data, test).items():
        add(scans, source, [partial(read, path) for path in paths])
    for pattern in gate_fit.PICTURE_SETS:
        if paths := sorted(data.glob(pattern))[::_SLICE_STEP]:
            add(slices, pattern.partition("/")[0], [partial(read, path) for path in paths])


def measure_kind(kind: str, count: int) -> NonHeads:
    """Count the accepted inputs of one kind of :data:`benchmarks.non_heads.KINDS`."""
    codes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for path in non_heads.write_kind(kind, Path(folder), count):
            codes[find_code(partial(read, path))] += 1
    accepted = codes.pop("", 0)
    held_out = kind in non_heads.HELD_OUT
    return NonHeads(
        kind=kind,
        held_out=held_out,
        inputs=accepted + codes.total(),
        accepted=accepted,
        refusals=dict(sorted(codes.items())),
    )


def find_code(check: Callable[[], object]) -> str:
    """Return the code of a refusal; empty if there is none."""
    try:
        check()
    except InputError as error:
        return error.code
    return ""


def count_refused(source: str, checks: Iterable[Callable[[], object]]) -> Heads:
    """Count refusals."""
    codes = [find_code(check) for check in checks]
    return Heads(source=source, inputs=len(codes), refused=sum(bool(code) for code in codes))


def find_whole_scans(data: Path, test: bool) -> dict[str, list[Path]]:
    """Find whole scans, by their source.

    Parameters
    ----------
    data : Path
        Folder of the data sets.
    test : bool
        Whether to include the CT-ICH patients of role test.
    """
    train = sorted({path.parent for path in gate_fit.find_training_slices(data)})
    others = [path for path in sorted(data.glob("ctich/[0-9]*")) if path not in train]
    sources = {
        **{name.partition("/")[0]: [data / name] for name in gate_fit.VOLUMES if (data / name).exists()},
        "phe_sich_stacks": sorted(data.glob("phe_sich_stacks/*/images")),
        "ctich, role train": train,
        "ctich, role test": others if test else [],
        "phe_sich": sorted(data.glob("phe_sich/[0-9]*")),
    }
    return {source: paths for source, paths in sources.items() if paths}


def render_rates(figures: GateFigures) -> str:
    """Render the tables of docs/gate.md."""
    lines = ["| no head | inputs | accepted | refused as |", "|---|---|---|---|"]
    for row in figures.non_heads:
        refusals = ", ".join(f"{code} {count}" for code, count in row.refusals.items())
        name = f"{row.kind} (held out)" if row.held_out else row.kind
        lines.append(f"| {name} | {row.inputs} | {row.accepted} | {refusals} |")
    for name, rows in (
        ("all", figures.non_heads),
        ("all that were held out", [row for row in figures.non_heads if row.held_out]),
    ):
        accepted, inputs = sum(row.accepted for row in rows), sum(row.inputs for row in rows)
        lines.append(f"| {name} | {inputs} | {accepted} ({accepted / max(1, inputs):.1%}) | |")
    for title, sources in (("whole head scan", figures.scans), ("single slice of a head", figures.slices)):
        lines += ["", f"| {title} | inputs | refused |", "|---|---|---|"]
        lines += [f"| {row.source} | {row.inputs} | {row.refused} |" for row in sources]
        refused, inputs = sum(row.refused for row in sources), sum(row.inputs for row in sources)
        lines.append(f"| all | {inputs} | {refused} ({refused / max(1, inputs):.1%}) |")
    return "\n".join(lines) + "\n"


def insert_rates(page: str, figures: GateFigures) -> str:
    """Insert the tables into docs/gate.md, between their marks.

    Parameters
    ----------
    page : str
        The page.
    figures : GateFigures
        The figures.

    Returns
    -------
    str
        The page with the tables.

    Raises
    ------
    TrainError
        `train`, if the page lacks the marks.
    """
    before, start, rest = page.partition(_START)
    _, end, after = rest.partition(_END)
    if not start or not end:
        raise TrainError("the page lacks the marks of the rates", f"Add the lines {_START.strip()} and {_END}.")
    return f"{before}{start}{render_rates(figures)}{end}{after}"
