"""Simulations that come again, made once: what two trials, two nights or two studies of one service ask alike.

A trial of the same configuration under the same arrivals begins with the same rates; so does what its arrivals are
worth afterwards, a study that goes on after a crash, and every study of a service that is tuned each night. A
simulation takes milliseconds, looking it up tens of microseconds.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

import numpy as np

from tuner.twin.compiled_state import Rules
from tuner.twin.setup import EngineSetup
from tuner.twin.simulate import RequestArrays, ResultArrays, engine_rules, simulate
from tuner.twin.steptime import StepCost

_MOST_REQUESTS = 1 << 19  # some 33 bytes each
_LONGEST = 1 << 12  # requests of one simulation: a half hour would push out a hundred levels


class _Asked(NamedTuple):
    """All that a simulation depends on."""

    rules: Rules
    cost: StepCost
    max_model_len: int
    requests: bytes


class Memory:
    """`simulate` with a memory of its last results, `most_requests` in all. Threads may share it.

    Its arrays are read-only, as several may be looking at them. Raises as `simulate` does.
    """

    def __init__(
        self, most_requests: int, *, simulate: Callable[[EngineSetup, RequestArrays], ResultArrays] = simulate
    ) -> None:
        self._most = most_requests
        self._simulate = simulate
        self._known: OrderedDict[_Asked, ResultArrays] = OrderedDict()
        self._held = 0
        self._lock = Lock()

    def __call__(self, setup: EngineSetup, requests: RequestArrays) -> ResultArrays:
        if requests.block_hashes or len(requests.scheduled_s) > _LONGEST:
            return self._simulate(setup, requests)
        asked = _Asked(engine_rules(setup), setup.cost, setup.max_model_len, _digest(requests))
        with self._lock:
            if (known := self._known.get(asked)) is not None:
                self._known.move_to_end(asked)
                return known
        found = _read_only(self._simulate(setup, requests))
        with self._lock:
            self._keep(asked, found)
        return found

    @property
    def held_requests(self) -> int:
        """Requests of all results that are held."""
        return self._held

    def _keep(self, asked: _Asked, found: ResultArrays) -> None:
        if asked not in self._known:
            self._known[asked] = found
            self._held += len(found.e2e_s)
        while self._held > self._most and self._known:
            self._held -= len(self._known.popitem(last=False)[1].e2e_s)


simulate_once = Memory(_MOST_REQUESTS)
"""The memory of this process."""


def _digest(requests: RequestArrays) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    columns = (requests.scheduled_s, requests.prompt_tokens, requests.output_tokens, requests.priority)
    for column in (*columns, *(requests.sharing or ())):
        raw = b"" if column is None else np.asarray(column).tobytes()
        digest.update(len(raw).to_bytes(8, "little"))
        digest.update(raw)
    return digest.digest()


def _read_only(found: ResultArrays) -> ResultArrays:
    for column in (found.ttft_s, found.e2e_s, found.tpot_s, found.max_gap_s, found.finished):
        column.setflags(write=False)
    return found
