"""Several generator processes, each on a core of its own, against servers on cores of their own.

What `python -m benchmarks.loadgen --processes N [--servers M]` runs: how much one process holds, and how much N do.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

from controlplane.domain.errors import InvalidInput
from loadtests.selfcheck import truth_server

SCALE_RATES = (600.0, 800.0, 1000.0, 1200.0, 1400.0)
"""Requests/s per process: around what one process holds."""
_TOPOLOGY = "/sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"


class Cores(NamedTuple):
    """Who runs where. Locust's master and the benchmark itself get `others`, everything if none is left."""

    servers: tuple[int, ...]
    clients: tuple[int, ...]
    others: tuple[int, ...]
    note: str = ""


def share_cores(physical: Mapping[int, str], *, servers: int, processes: int) -> Cores:
    """Give each server and each generator process a core. `physical` names each usable CPU's physical core.

    Hardware threads of one core come last, with a note: they are not two cores. Raises InvalidInput with too few CPUs.
    """
    if min(servers, processes) < 1:
        raise InvalidInput(
            f"{servers} servers and {processes} processes cannot be measured", allowed="1 or more of each"
        )
    needed = servers + processes
    if needed > len(physical):
        raise InvalidInput(
            f"{processes} generator processes and {servers} servers need {needed} cores of their own",
            why=f"this process may use {len(physical)}",
            allowed=f"a machine with {needed} cores, better {needed + 1}, or fewer --processes and --servers",
        )
    ordered = _distinct_first(physical)
    used, others = ordered[:needed], ordered[needed:]
    are_distinct = len({physical[cpu] for cpu in used}) == needed
    note = "" if are_distinct else "hardware threads of one core were used as two cores"
    return Cores(tuple(used[:servers]), tuple(used[servers:]), tuple(others or ordered), note)


def physical_cores(cpus: Collection[int]) -> dict[int, str]:
    """Return what the kernel says about which CPUs are threads of one core; each is its own where it says nothing."""
    found = {}
    for cpu in cpus:
        path = Path(_TOPOLOGY.format(cpu))
        found[cpu] = path.read_text().strip() if path.exists() else str(cpu)
    return found


def usable_cores() -> dict[int, str]:
    return physical_cores(os.sched_getaffinity(0))


@contextmanager
def truth_servers(folder: Path, cores: Sequence[int]) -> Iterator[tuple[str, list[Path]]]:
    """Run one ground-truth server per core behind one URL: the kernel spreads connections over their shared port."""
    paths = [folder / f"truth-{number}" for number in range(len(cores))]
    with ExitStack() as servers:
        url = servers.enter_context(truth_server(paths[0], core=cores[0], shared=len(cores) > 1))
        port = int(url.rpartition(":")[2])
        for path, core in zip(paths[1:], cores[1:], strict=True):
            servers.enter_context(truth_server(path, core=core, port=port, shared=True))
        yield url, paths


def _distinct_first(physical: Mapping[int, str]) -> list[int]:
    """Order CPUs so that the first ones are of different physical cores."""
    threads: dict[str, int] = {}
    ranked = []
    for cpu in sorted(physical):
        rank = threads[physical[cpu]] = threads.get(physical[cpu], -1) + 1
        ranked.append((rank, cpu))
    return [cpu for _, cpu in sorted(ranked)]
