"""The API server's intake: parsing and checking requests on one thread, shared evenly by all that are being taken in.

An asyncio server moves every open request forward a little at a time, so n requests of one burst all reach the engine
core near the end of n × the cost of one, instead of one after another (processor sharing; Kleinrock 1967).
"""

from __future__ import annotations

import heapq

from tuner.twin.kvcache import Sequence


class Intake:
    """Requests on their way from the socket to the engine core. Times must not run backwards."""

    def __init__(self, request_s: float, token_s: float) -> None:
        self._request_s, self._token_s = request_s, token_s
        self._arrivals: list[tuple[float, int, Sequence]] = []
        self._jobs: list[tuple[float, int, Sequence]] = []
        self._now_s = 0.0
        self._served_s = 0.0
        """Service every job that was there all along has had; a job ends when this reaches its own mark."""

    def push(self, at_s: float, sequence: Sequence) -> None:
        """Let a request reach the server at `at_s`."""
        heapq.heappush(self._arrivals, (at_s, sequence.order, sequence))

    def drop(self, sequence: Sequence) -> None:
        """Forget a request."""
        self._arrivals = [entry for entry in self._arrivals if entry[2] is not sequence]
        self._jobs = [entry for entry in self._jobs if entry[2] is not sequence]
        heapq.heapify(self._arrivals)
        heapq.heapify(self._jobs)

    @property
    def next_event_s(self) -> float | None:
        """When the next request arrives or has been taken in; None when there is none."""
        if not self._jobs:
            return self._arrivals[0][0] if self._arrivals else None
        done_s = self._done_s()
        return min(done_s, self._arrivals[0][0]) if self._arrivals else done_s

    def advance(self, until_s: float) -> list[Sequence]:
        """Return the requests taken in by `until_s`, in order."""
        ready: list[Sequence] = []
        while (event_s := self.next_event_s) is not None and event_s <= until_s:
            if self._jobs and event_s == self._done_s():
                self._served_s, _, sequence = heapq.heappop(self._jobs)
                ready.append(sequence)
            else:
                self._begin(event_s)
            self._now_s = event_s
        return ready

    def _begin(self, now_s: float) -> None:
        if self._jobs:
            self._served_s += (now_s - self._now_s) / len(self._jobs)
        _, order, sequence = heapq.heappop(self._arrivals)
        needs_s = self._request_s + self._token_s * sequence.prompt_tokens
        heapq.heappush(self._jobs, (self._served_s + needs_s, order, sequence))

    def _done_s(self) -> float:
        return self._now_s + (self._jobs[0][0] - self._served_s) * len(self._jobs)
