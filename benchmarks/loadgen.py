"""Compare load generators against a server of known latency: `python -m benchmarks.loadgen [--json FILE]`.

The ground-truth server is pinned to one core, every client to another. First token after 50 ms, 31 more every 10 ms.
Errors are of P99 against what the server really did in the same run (instants its tokens were handed to the kernel).
CPU is user and system time of the client per token, start-up left out. GuideLLM and AIPerf run from environments of
their own (`--guidellm BIN --aiperf BIN`; `python -m venv E && E/bin/pip install guidellm`), else they are not measured.
`--processes N` compares one process of ours with N instead, each on its own core, behind as many servers on cores of
their own (`--servers M` for another number).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.loadgen_clients import CLIENTS, Outcome, run_client
from benchmarks.loadgen_cores import SCALE_RATES, Cores, share_cores, truth_servers, usable_cores
from benchmarks.loadgen_ours import run_ours
from benchmarks.loadgen_tools import run_aiperf, run_guidellm
from controlplane.domain.errors import InvalidInput
from loadtests.selfcheck import read_truth

RATES = (50, 100, 200, 300, 600, 1000, 1500)
TOKENS = 32
LIMIT = 0.05


class Row(NamedTuple):
    client: str
    rate_rps: float
    ttft_error: float | None
    tpot_error: float | None
    e2e_error: float | None
    cpu_us_per_token: float | None
    requests: int
    failed: int
    note: str


def main() -> None:
    options = _options()
    rows = _scale(options) if options.processes > 1 else _compare(options)
    _table(rows)
    if options.processes > 1:
        print(_scaling(rows, options.processes))
    else:
        _targets(rows)
    if options.json:
        options.json.write_text(json.dumps(_facts(options) | {"rows": [row._asdict() for row in rows]}, indent=1))


def _compare(options: argparse.Namespace) -> list[Row]:
    """Run every client at every rate."""
    cores = Cores((options.server_core,), tuple(int(each) for each in options.client_cores.split(",")), ())
    rates = [float(each) for each in (options.rates or ",".join(map(str, RATES))).split(",")]
    runs = _runs(options)
    rows = [row for name, run in runs.items() for row in _push(name, run, rates, options, cores)]
    return rows + [_not_measured(name) for name in ("guidellm", "aiperf") if name not in runs]


def _scale(options: argparse.Namespace) -> list[Row]:
    """Run ours with one process, then with all of them, at the same rates per process against the same servers."""
    servers = options.processes if options.servers is None else options.servers
    try:
        cores = share_cores(usable_cores(), servers=servers, processes=options.processes)
    except InvalidInput as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    print(f"servers on {cores.servers}, processes on {cores.clients}, the rest on {cores.others} {cores.note}")
    run = partial(run_ours, others=cores.others)
    rates = [float(each) for each in options.rates.split(",")] if options.rates else list(SCALE_RATES)
    alone = cores._replace(clients=cores.clients[:1])
    many = [rate * options.processes for rate in rates]
    return _push(_named(1), run, rates, options, alone) + _push(_named(options.processes), run, many, options, cores)


def _push(name: str, run: Run, rates: list[float], options: argparse.Namespace, cores: Cores) -> list[Row]:
    """Raise the rate of one client until it is far off."""
    rows = []
    for rate in rates:
        rows.append(_measure(name, run, rate, options.seconds, cores))
        _say(rows[-1])
        error = rows[-1].ttft_error
        if error is None or abs(error) > options.give_up:
            break  # a client this far off is not pushed further
    return rows


def _named(processes: int) -> str:
    return f"ours, {processes} process{'es' if processes > 1 else ''}"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rates", help="of one process with --processes")
    parser.add_argument("--seconds", type=float, default=10.0, help="per rate, after 2 s of warm-up")
    parser.add_argument("--server-core", type=int, default=0)
    parser.add_argument("--client-cores", default="1", help="ours runs one process per core, e.g. 1,2")
    parser.add_argument("--processes", type=int, default=1, help="compare one process of ours with so many")
    parser.add_argument("--servers", type=int, help="with --processes: as many as processes if not given")
    parser.add_argument("--clients", default=",".join(("ours", *CLIENTS)))
    parser.add_argument("--give-up", type=float, default=5.0, help="stop raising a client's rate above this error")
    parser.add_argument("--guidellm", help="its executable")
    parser.add_argument("--aiperf", help="its executable")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


Run = Callable[..., Outcome]


def _runs(options: argparse.Namespace) -> dict[str, Run]:
    """What to run under each name."""
    runs: dict[str, Run] = {}
    for name in options.clients.split(","):
        runs[name] = run_ours if name == "ours" else partial(run_client, name)
    if options.guidellm:
        runs["guidellm"] = partial(run_guidellm, options.guidellm)
    if options.aiperf:
        runs["aiperf"] = partial(run_aiperf, options.aiperf)
    return runs


def _measure(name: str, run: Run, rate: float, seconds: float, cores: Cores) -> Row:
    with tempfile.TemporaryDirectory(prefix="fleetune-bench-") as scratch:
        with truth_servers(Path(scratch), cores.servers) as (url, truth_paths):
            clients = set(cores.clients)
            outcome = run(url, rate=rate, seconds=seconds, tokens=TOKENS, cores=clients, scratch=Path(scratch))
        if not outcome.requests:
            return _nothing(name, rate, outcome.note)
        truth = read_truth(*truth_paths, skip=outcome.skipped)
    return Row(
        name,
        rate,
        _error(outcome.ttft_ms, truth.ttft_ms),
        _error(outcome.tpot_ms, truth.tpot_ms),
        _error(outcome.e2e_ms, truth.e2e_ms),
        1e6 * outcome.cpu_s / max(1, outcome.tokens),
        outcome.requests,
        outcome.failed,
        outcome.note,
    )


def _error(measured: float | None, truth: float) -> float | None:
    return None if measured is None else measured / truth - 1


def _nothing(name: str, rate: float, note: str) -> Row:
    return Row(name, rate, None, None, None, None, 0, 0, note)


def _not_measured(name: str) -> Row:
    return _nothing(name, 0, "not measured: its executable was not given")


def _say(row: Row) -> None:
    print(
        f"{row.client} at {row.rate_rps:g}/s: TTFT {_percent(row.ttft_error)}, TPOT {_percent(row.tpot_error)}",
        file=sys.stderr,
    )


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:+.1f} %"


def _table(rows: list[Row]) -> None:
    table = Table(title="Error of P99 against the server's own record", box=None, header_style="bold")
    for title in (
        "client",
        "requests/s",
        "tokens/s",
        "TTFT",
        "TPOT",
        "E2E",
        "CPU µs/token",
        "requests",
        "failed",
        "note",
    ):
        table.add_column(title, justify="left" if title in ("client", "note") else "right")
    for row in rows:
        cpu = "–" if row.cpu_us_per_token is None else f"{row.cpu_us_per_token:.1f}"
        errors = (_percent(each) for each in (row.ttft_error, row.tpot_error, row.e2e_error))
        counts = (str(row.requests), str(row.failed), row.note)
        table.add_row(row.client, f"{row.rate_rps:g}", f"{row.rate_rps * TOKENS:.0f}", *errors, cpu, *counts)
    Console(width=140).print(table)


def _holds(rows: list[Row], client: str) -> float:
    """Highest rate up to which both errors of a client stay within the limit."""
    held = 0.0
    for row in rows:
        if row.client != client:
            continue
        if row.ttft_error is None or row.tpot_error is None or max(abs(row.ttft_error), abs(row.tpot_error)) > LIMIT:
            break
        held = row.rate_rps
    return held


def _targets(rows: list[Row]) -> None:
    ours, theirs = _holds(rows, "ours"), _holds(rows, "vllm-bench")
    print(
        f"ours stays within 5 % up to {ours:g}/s (target 600); vLLM's client logic up to {theirs:g}/s (target: a tenth)"
    )
    shared = {row.rate_rps: row for row in rows if row.client == "vllm-bench"}
    for row in rows:
        other = shared.get(row.rate_rps)
        if row.client == "ours" and other and row.cpu_us_per_token and other.cpu_us_per_token:
            share = row.cpu_us_per_token / other.cpu_us_per_token
            print(f"CPU per token at {row.rate_rps:g}/s: {share:.2f} of vLLM's client (target 0.33)")


def _scaling(rows: list[Row], processes: int) -> str:
    one, many = _holds(rows, _named(1)), _holds(rows, _named(processes))
    if not one:
        return "one process is beyond 5 % at the lowest rate: nothing to compare with"
    return (
        f"{processes} processes stay within 5 % up to {many:g}/s: {many / one:.1f} x one's {one:g}/s "
        f"(target {0.9 * processes:.1f})"
    )


def _facts(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "command": " ".join(["python -m benchmarks.loadgen", *sys.argv[1:]]),
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": f"{os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}",
        "load_average": os.getloadavg(),
        "seconds_per_rate": options.seconds,
    }


if __name__ == "__main__":
    main()
