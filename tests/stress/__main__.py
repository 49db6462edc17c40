"""Stress tests of the server, the worker and the node.

    python -m stress TEST [--count N | --size MB]      one test, from tests/
    python -m stress all --json ../benchmarks/reliability.json      all tests
    python -m stress page      write docs/reliability.md from that file

`python -m stress.fuzz`, `python -m stress.node_load` and `python -m stress.web_latency` are run by themselves.
"""

import argparse
import json
import os
import platform
import sys
from datetime import date
from pathlib import Path

from stress import connections, memory, page, power_cut, stops, surroundings


def main(arguments=None):
    """Run the tests and write their figures."""
    parser = argparse.ArgumentParser(prog="python -m stress", description=__doc__.splitlines()[0])
    names = ["stops", "connections", "memory", "surroundings", "power-cut"]
    parser.add_argument("test", choices=[*names, "all", "page"])
    parser.add_argument("--count", type=int, help="stops (200), or connections (300)")
    parser.add_argument("--only", default="", help='of stops, such as "node, postgresql"')
    parser.add_argument("--size", type=int, default=500, help="MB of each body (500)")
    parser.add_argument("--json", type=Path, help="add the figures to this file")
    options = parser.parse_args(arguments)
    tests = {
        "stops": lambda log: stops.run(options.count or 200, log, options.only),
        "connections": lambda log: connections.run(options.count or 300, log),
        "memory": lambda log: memory.run(options.size, log),
        "surroundings": surroundings.run,
        "power-cut": lambda log: power_cut.run(log=log),
    }
    if options.test == "page":
        page.write()
        return 0
    for name in names if options.test == "all" else [options.test]:
        print(f"== {name}", flush=True)
        rows = tests[name](lambda text: print(" ", text, flush=True))
        if options.json:
            _add(options.json, name, rows)
    return 0


def _add(path, name, rows):
    """Put the rows of one test into the file of figures."""
    figures = json.loads(path.read_text()) if path.exists() else {}
    replaced = {(row.get("process"), row.get("database")) for row in rows}
    if name == "stops" and name in figures:  # those that were left out stay
        rows = [row for row in figures[name]["rows"] if (row["process"], row["database"]) not in replaced] + rows
    figures[name] = {
        "date": date.today().isoformat(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.release().split('-')[0]}",
        "rows": rows,
    }
    path.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main())
