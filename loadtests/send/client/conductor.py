"""The master's part of a run by several workers: who sends what, when all begin, who was lost. Runs under Locust only.

The instant to begin is named once every worker has its share and is ready to send: how long a schedule travels, or a
worker's host takes to wake, is no part of the time within which the word must arrive.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import gevent

from controlplane.host.files import write_whole
from loadtests.send.client.shipping import keep
from loadtests.send.plan import Plan

LEAD_S = 1.0  # for the word to reach every worker
LEAD_ELSEWHERE_S = 2.0  # over a network
_PATIENCE_S = 30.0  # within which a worker is ready, and then says that it sends
_SILENCE_S = 10.0  # of a worker that is not ready: Locust misses its signs of life after 3 s, which a busy host takes
_POLL_S = 0.05


class Crew(Protocol):
    """What reaches the workers: Locust's runner of a master."""

    def send_message(self, msg_type: str, data: Any = None, client_id: str | None = None) -> None: ...


class Conductor:
    """`there` gives the names of the workers that show signs of life. For one run at a time."""

    def __init__(self, crew: Crew, there: Callable[[], list[str]]) -> None:
        self._crew, self._there = crew, there
        self._run = 0
        self._ready: set[int] = set()
        self._folder = Path()

    def conduct(self, plan: Plan) -> None:
        """Begin a run, and watch over it from another greenlet. Returns when the workers know the instant."""
        self._run += 1
        self._ready.clear()
        self._folder = Path(plan.out_dir)
        names = self._share_out(plan)
        if self._await_ready(names):
            lead_s = LEAD_ELSEWHERE_S if plan.ship else LEAD_S
            begin = {"start_at": time.time() + lead_s, "lead_s": lead_s}
            for name in names.values():
                self._crew.send_message("fleetune_begin", begin, client_id=name)
            gevent.spawn(self._watch, names, time.monotonic() + lead_s + _PATIENCE_S)

    def on_ready(self, said: Mapping[str, int]) -> None:
        """A worker has its share. One that speaks of an earlier run is not heard."""
        if said["run"] == self._run:
            self._ready.add(said["worker"])

    def on_file(self, file: Mapping[str, Any]) -> None:
        """Keep what a worker elsewhere sends home."""
        keep(self._folder, file)

    def stop(self, reason: str) -> None:
        """Let the workers end their shares now."""
        self._crew.send_message("fleetune_stop", {"reason": reason})

    def _share_out(self, plan: Plan) -> dict[int, str]:
        while len(there := self._there()) < plan.workers:
            gevent.sleep(_POLL_S)
        names = dict(enumerate(there[: plan.workers]))
        schedule = Path(plan.schedule_path).read_bytes() if plan.ship else None
        order = {"plan": plan.model_dump_json(), "run": self._run, "schedule": schedule}
        for number, name in names.items():
            self._crew.send_message("fleetune_run", order | {"worker": number}, client_id=name)
        return names

    def _await_ready(self, names: Mapping[int, str]) -> bool:
        """Say whether every worker is ready; without one of them nobody begins."""
        now = time.monotonic()
        deadline, seen_at = now + _PATIENCE_S, dict.fromkeys(names, now)
        while missing := set(names) - self._ready:
            now, alive = time.monotonic(), set(self._there())
            seen_at |= {each: now for each in missing if names[each] in alive}
            lost = [each for each in missing if self._ended(each) or now > min(deadline, seen_at[each] + _SILENCE_S)]
            if lost:
                self._lose(lost)
                gevent.spawn(self._watch, names, deadline)
                return False
            gevent.sleep(_POLL_S)
        return True

    def _watch(self, names: Mapping[int, str], begun_by_s: float) -> None:
        """See that every worker begins and ends its share. When one is lost or broken, the others are stopped."""
        run, waiting = self._run, set(names)
        while waiting and run == self._run:
            gevent.sleep(0.2)
            ended = {each for each in waiting if self._ended(each)}
            waiting -= ended
            if waiting and any("broken" in json.loads(self._summary(each).read_bytes()) for each in ended):
                self.stop("a worker broke")
            alive, is_late = set(self._there()), time.monotonic() > begun_by_s
            lost = [each for each in waiting if names[each] not in alive or (is_late and not self._has_begun(each))]
            if lost:
                self._lose(lost)

    def _lose(self, workers: list[int]) -> None:
        for number in workers:
            if not self._ended(number):
                said = json.dumps({"broken": f"worker {number} was lost"})
                write_whole(self._summary(number), said, private=False)
        self.stop("a worker was lost")

    def _summary(self, worker: int) -> Path:
        return self._folder / f"summary-{worker}.json"

    def _ended(self, worker: int) -> bool:
        return self._summary(worker).exists()

    def _has_begun(self, worker: int) -> bool:
        return (self._folder / f"status-{worker}.jsonl").exists()
