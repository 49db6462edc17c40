"""The pages say what the code and the stored figures say."""

import json
import re
import textwrap
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

from strokeseg.pacs import conformance
from strokeseg.pacs.settings import (
    Authentication,
    DicomwebServer,
    LocalEntity,
    NoticeDelivery,
    NoticeTarget,
    ObjectDelivery,
    Peer,
    Rule,
    SeriesMatch,
)

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/pacs.md").read_text()


def test_the_conformance_statement_is_the_generators():
    """`python -m strokeseg.pacs.conformance > docs/conformance.md` generates it again."""
    assert (ROOT / "docs/conformance.md").read_text() == conformance.render_page()


def test_every_key_of_the_file_is_in_the_page():
    for table in (
        LocalEntity,
        Peer,
        DicomwebServer,
        NoticeTarget,
        Authentication,
        Rule,
        SeriesMatch,
        ObjectDelivery,
        NoticeDelivery,
    ):
        for key in table.model_fields:
            assert re.search(rf"\b{key}\b", PAGE), f"{table.__name__}.{key}"


def test_examples_contact_no_strangers():
    """Somebody tries the example with --check: its hosts are this machine, or names that nobody can own (RFC 2606)."""
    for block in re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL):
        for section in tomllib.loads(textwrap.dedent(block)).values():
            for entry in section if isinstance(section, list) else [section]:
                address = entry.get("host") or urlsplit(entry.get("url", "")).hostname
                assert address in (None, "127.0.0.1") or address.endswith(".example"), address
    assert 'host = "pacs.example"' in PAGE
    texts = [path for name in ("docs", "deploy", "examples") for path in (ROOT / name).rglob("*")]
    for path in (each for each in texts if each.suffix in (".md", ".toml", ".yaml", ".conf", ".service")):
        hosts = re.findall(r"\bhost\b\W{1,4}((?:10|192\.168|172\.\d+)\.[\d.]+)", path.read_text())
        assert hosts == [], path


def _row(table, name):
    [value] = re.findall(rf"^\| {re.escape(name)} \| (.+) \|$", table, re.MULTILINE)
    return value


def test_the_pages_figures_are_the_stored_ones():
    stored = json.loads((ROOT / "benchmarks/node.json").read_text())
    load, kills = stored["load"], stored["kills"]
    table = PAGE[PAGE.index("## Figures") :]
    assert _row(table, "series sent, instances sent") == f"{load['series']:,}, {load['instances_sent']:,}"
    assert _row(table, "instances refused") == str(load["refused"])
    assert _row(table, "late instances") == f"{load['late_instances']:,}"
    assert _row(table, "series with one final result of all slices") == f"{load['final_results_of_all_slices']:,}"
    assert _row(table, "results shared by two series") == str(load["results_shared_by_two_series"])
    assert _row(table, "series with 1, 2, 3 versions") == ", ".join(str(count) for count in load["versions"].values())
    assert _row(table, "instances per second") == str(load["instances_a_second"])
    memory = load["memory_mb_over_time"]
    assert _row(table, "memory at start, at end (MB)") == f"{memory[0]}, {memory[-1]}"
    assert _row(table, "maximum of open files") == str(load["open_files_most"])
    assert _row(table, "kills with -9") == str(kills["kills"])
    answered, lost = kills["instances_answered_with_success"], kills["of_these_lost"]
    assert _row(table, "instances answered with success, lost") == f"{answered}, {lost}"
    assert _row(table, "series sent, series with exactly one result of all slices") == (
        f"{kills['series']}, {min(kills['with_a_result_of_all_slices'], kills['with_exactly_one_result'])}"
    )
