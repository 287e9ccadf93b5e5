"""Who runs on which core when several generator processes are measured."""

from __future__ import annotations

import pytest

from benchmarks.loadgen_cores import share_cores
from controlplane.domain.errors import InvalidInput


def cores(count: int, *, threads: int = 1) -> dict[int, str]:
    """CPUs as most machines number them: first one thread of every core, then the second ones."""
    return {cpu: f"core {cpu % count}" for cpu in range(count * threads)}


def test_every_server_and_process_has_its_own_core_and_the_rest_is_for_others() -> None:
    shared = share_cores(cores(8), servers=2, processes=2)
    assert (shared.servers, shared.clients, shared.others, shared.note) == ((0, 1), (2, 3), (4, 5, 6, 7), "")


def test_threads_of_one_core_are_used_last_and_with_a_note() -> None:
    assert share_cores({0: "a", 1: "a", 2: "b", 3: "b", 4: "c", 5: "c"}, servers=1, processes=2).clients == (2, 4)
    crowded = share_cores(cores(2, threads=2), servers=1, processes=2)
    assert (crowded.clients, crowded.note) == ((1, 2), "hardware threads of one core were used as two cores")


def test_without_a_spare_core_others_run_anywhere() -> None:
    assert share_cores(cores(3), servers=1, processes=2).others == (0, 1, 2)


@pytest.mark.parametrize(
    ("servers", "processes", "message"),
    [
        (2, 2, "2 generator processes and 2 servers need 4 cores of their own: this process may use 2"),
        (0, 2, "0 servers and 2 processes cannot be measured"),
    ],
)
def test_what_does_not_fit_is_refused(servers: int, processes: int, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        share_cores(cores(2), servers=servers, processes=processes)
