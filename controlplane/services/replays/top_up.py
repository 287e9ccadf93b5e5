"""Top-up: synthetic requests that hold a target's total rate at a set level.

A canary that gets 5 % of little traffic is judged on little, and under less load than it will have. What is sent goes
through the gateway like everybody's requests, so canary and stable get their shares of it, and it counts in verdicts.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from controlplane.domain.base import ServiceName
from controlplane.ports import Clock
from controlplane.ports.gateways import RecordSource
from controlplane.ports.load import LoadRequest, LoadTester
from controlplane.services.replays.series import live_rate


class _Slice(NamedTuple):
    at: datetime
    requests: int


class OtherTraffic:
    """The rate of everybody else's requests, from the gateways' records less what we sent ourselves.

    Records hold finished requests only, so the window must be long beside an answer. Rates in engine time.
    """

    def __init__(
        self, records: RecordSource, service: ServiceName, *, clock: Clock, window_s: float, time_lapse: float = 1.0
    ) -> None:
        self._records = records
        self._service = service
        self._clock = clock
        self._window_s = window_s
        self._time_lapse = time_lapse
        self._own: list[_Slice] = []

    def sent(self, requests: int) -> None:
        """Note what we sent in the slice that has just ended."""
        self._own.append(_Slice(self._clock(), requests))

    def rate_rps(self) -> float:
        """Return requests per second of engine time over the window. Raises Unavailable."""
        now = self._clock()
        own = sum(part.requests for part in self._own if part.at > now - timedelta(seconds=self._window_s))
        everybody_rps = live_rate(self._records, self._service, revision=None, key="", now=now, window_s=self._window_s)
        return max(0.0, everybody_rps - own / self._window_s) / self._time_lapse


def top_up_rate(target_rps: float, live_rps: float) -> float:
    """Return what is missing to the wanted total rate."""
    return max(0.0, target_rps - live_rps)


def hold_rate(
    tester: LoadTester,
    others: OtherTraffic,
    *,
    target_rps: float,
    request: LoadRequest,
    slice_s: float,
    out_dir: Path,
    over: Callable[[], bool],
    pause: Callable[[float], None],
) -> int:
    """Top up until `over`: slice after slice, send what others leave to the target. Return the requests sent.

    `request` says what to send and where. Raises Unavailable when the generator broke or records cannot be read.
    """
    sent = number = 0
    while not over():
        rate = top_up_rate(target_rps, others.rate_rps())
        if rate * slice_s < 1:
            pause(slice_s)
            continue
        part = request.evolve(rate_rps=rate, duration_s=slice_s, warmup_s=0.0, seed=request.seed + number)
        done = tester.run(part, out_dir=out_dir).report.requests
        others.sent(done)
        sent += done
        number += 1
    return sent
