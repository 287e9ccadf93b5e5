"""Simulations that come again, made once: studies of one seed begin alike whatever their budget."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from tuner.ladder import fitted_twin
from tuner.twin import predict
from tuner.twin.setup import EngineSetup
from tuner.twin.simulate import RequestArrays, ResultArrays, simulate

Simulate = Callable[..., ResultArrays]

_MOST = 6000  # some 30 kB each


def remember_simulations() -> None:
    """From now on this process's twins look up what they have simulated before. The results are the same."""
    remembered = Remembered(simulate)
    for module in (fitted_twin, predict):
        vars(module)["simulate"] = remembered


class Remembered:
    """`simulate` with a memory of its last results. Not to be shared by threads."""

    def __init__(self, simulate_: Simulate) -> None:
        self._simulate = simulate_
        self._known: OrderedDict[tuple[EngineSetup, bytes, float], ResultArrays] = OrderedDict()

    def __call__(self, setup: EngineSetup, requests: RequestArrays, *, until_s: float = np.inf) -> ResultArrays:
        if requests.block_hashes or (requests.sharing is not None and requests.sharing.block_ids.size):
            return self._simulate(setup, requests, until_s=until_s)
        key = (setup, _digest(requests), until_s)
        if key not in self._known:
            self._known[key] = self._simulate(setup, requests, until_s=until_s)
            if len(self._known) > _MOST:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]


def _digest(requests: RequestArrays) -> bytes:
    columns = [requests.scheduled_s, requests.prompt_tokens, requests.output_tokens]
    if requests.priority is not None:
        columns.append(requests.priority)
    if requests.sharing is not None:
        columns += [requests.sharing.prefix_group, requests.sharing.prefix_tokens]
    return hashlib.blake2b(b"".join(column.tobytes() for column in columns), digest_size=16).digest()
