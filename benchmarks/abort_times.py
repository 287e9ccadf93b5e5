"""How long an abort takes until no gateway sends the canary anything: `python -m benchmarks.abort_times --drills 100`.

Real gateways (processes), a real store and real files of records; engines are played. Records of 1,000 requests/s are
written all the time, 100,000 lie in the step beforehand. In each drill every second canary request begins to end in
5xx; the clock runs from the first of them, and from the controller's save of the verdict, until every gateway has been
asked and has a table with weight 0. The same step is opened again for the next drill, so its records stay.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from controlplane.adapters.gateway.record_feed import SpooledFeed
from controlplane.adapters.gateway.traffic import GatewayTraffic, running_gateways
from controlplane.adapters.store_sql.store import SqlStore
from controlplane.domain.base import RevisionId
from controlplane.domain.door.gateway_files import records_dir, records_name
from controlplane.domain.door.routing import GatewayRecord
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.rollouts.rollout import Rollout, RolloutState
from controlplane.domain.rollouts.rollout_options import RolloutOptions, StepSpec
from controlplane.ports.store import Versioned
from controlplane.services.controller.reconcile import Controller
from controlplane.services.fleet.serving import register_service
from controlplane.services.rollouts.manage import start_rollout
from tests.builders_serving import CHAT, a_spec
from tests.fakes.fleet import FakeClock, FakeFleet
from tests.integration.controller.site import create_a_study

PASS_EVERY_S = 0.5
WRITE_EVERY_S = 0.05
CANARY_PERCENT = 5
WINDOW_S = 1.0  # of the guard rail: shorter than by default, so that a drill is forgotten sooner
TOKEN = "bench"
OPTIONS = RolloutOptions(
    steps=(StepSpec(weight_percent=CANARY_PERCENT, min_s=7200, max_s=14400), StepSpec(weight_percent=100)),
    miss_ratio_margin=0.9,
    error_ratio_margin=0.9,
    guard_window_s=WINDOW_S,
    match_load=False,
)


class Took(NamedTuple):
    """Seconds until weight 0 at every gateway: from the first 5xx, and from the verdict."""

    from_failure_s: float
    from_verdict_s: float


class _RealClock(FakeClock):
    def __call__(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


class _NotingStore(SqlStore):
    """Notes when a verdict was saved."""

    verdict_at = 0.0

    def save_rollout(self, rollout: Rollout, version: int, **more: object) -> int:
        saved = super().save_rollout(rollout, version, **more)  # type: ignore[arg-type]  # passed on as it came
        if rollout.state is RolloutState.ABORTING:
            self.verdict_at = time.monotonic()
        return saved


@dataclass
class Traffic:
    """Writes records at a rate into a gateway's file; while `failing` every second one of the canary's is a 5xx."""

    path: Path
    stable: RevisionId
    canary: RevisionId
    rate_rps: float
    failing: bool = False
    failed_at: float | None = None
    _number: int = 0
    _over: threading.Event = field(default_factory=threading.Event)

    def write(self, count: int) -> None:
        with self.path.open("ab") as file:
            file.write(b"".join(self._line() for _ in range(count)))

    def run(self) -> None:
        began, sent = time.monotonic(), 0
        while not self._over.wait(WRITE_EVERY_S):
            due = int((time.monotonic() - began) * self.rate_rps)
            self.write(due - sent)
            sent = due

    def stop(self) -> None:
        self._over.set()

    def _line(self) -> bytes:
        self._number += 1
        canary = self._number % (100 // CANARY_PERCENT) == 0
        bad = canary and self.failing and self._number % (200 // CANARY_PERCENT) == 0
        if bad and self.failed_at is None:
            self.failed_at = time.monotonic()
        record = GatewayRecord(
            id=str(self._number),
            at=datetime.now(UTC),
            gateway="bench",
            service=CHAT,
            model="llama-8b",
            revision=self.canary if canary else self.stable,
            engine_id="e",
            path="/v1/chat/completions",
            stream=True,
            status=503 if bad else 200,
            error="upstream_5xx" if bad else None,
            ttft_ms=None if bad else 100.0,
            e2e_ms=50.0 if bad else 1000.0,
        )
        return record.model_dump_json().encode() + b"\n"


@contextmanager
def _gateways(count: int, data_dir: Path) -> Iterator[None]:
    token = data_dir / "token"
    token.write_text(TOKEN)
    with ExitStack() as stack:
        children = [stack.enter_context(_gateway(f"gw-{number}", data_dir, token)) for number in range(count)]
        while len(running_gateways(data_dir)()) < count:
            if any(child.poll() is not None for child in children):
                raise SystemExit(f"a gateway did not start: see {data_dir}")
            time.sleep(0.1)
        yield


@contextmanager
def _gateway(name: str, data_dir: Path, token: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "controlplane.gateway", "--name", name, "--data-dir", str(data_dir)]
    ports = ["--port", "0", "--admin-port", "0", "--admin-token-file", str(token), "--until-stdin-ends"]
    with (data_dir / f"{name}.log").open("wb") as log:
        child = subprocess.Popen([*command, *ports], stdin=subprocess.PIPE, stdout=log, stderr=log)
    try:
        yield child
    finally:
        assert child.stdin is not None
        child.stdin.close()
        child.wait(60)


@dataclass
class _Drilled:
    """A service at a canary's step, and a controller that passes twice a second."""

    store: _NotingStore
    router: GatewayTraffic
    controller: Controller
    gateways: int

    def passes_until(self, done: Callable[[], bool], *, longest_s: float = 120.0) -> None:
        deadline = time.monotonic() + longest_s
        while not done():
            if time.monotonic() > deadline:
                raise SystemExit(f"nothing came of it within {longest_s:g} s: {self.rollout.value.reason}")
            began = time.monotonic()
            self.controller.run_pass()
            if not done():
                time.sleep(max(0.0, PASS_EVERY_S - (time.monotonic() - began)))

    @property
    def rollout(self) -> Versioned[Rollout]:
        return self.store.list_rollouts(CHAT)[0]

    def is_in(self, state: RolloutState) -> bool:
        return self.rollout.value.state is state

    def weight_is_zero(self) -> bool:
        """Ask every gateway."""
        tables = self.router.actual()
        mine = [
            r for t in tables if t for s in t.services for r in s.revisions if r.revision == self.rollout.value.canary
        ]
        return len(tables) == self.gateways and all(each.weight_percent == 0 for each in mine)

    def open_again(self, step: Rollout) -> None:
        rollout, version = self.rollout
        again = {"state": RolloutState.PROGRESSING, "reason": "drilled", "finished_at": None, "steps": step.steps}
        self.store.save_rollout(rollout.evolve(**again), version)


def _drill(site: _Drilled, traffic: Traffic, step: Rollout, chance: random.Random) -> Took:
    calm_until = time.monotonic() + chance.uniform(PASS_EVERY_S, 3 * PASS_EVERY_S)
    site.passes_until(lambda: time.monotonic() >= calm_until)
    traffic.failed_at, traffic.failing = None, True
    site.passes_until(lambda: site.is_in(RolloutState.ABORTING))
    while not site.weight_is_zero():
        time.sleep(0.005)
    ended = time.monotonic()
    traffic.failing = False
    assert traffic.failed_at is not None, "something failed first"
    time.sleep(2 * WINDOW_S)  # what failed is then out of the guard rail's window
    site.open_again(step)
    return Took(ended - traffic.failed_at, ended - site.store.verdict_at)


def line(name: str, seconds: Sequence[float]) -> str:
    ranked = sorted(seconds)
    at = (ranked[len(ranked) // 2], ranked[int(0.95 * (len(ranked) - 1))], ranked[-1])
    return f"{name}: P50 {at[0]:.3f}, P95 {at[1]:.3f}, max {at[2]:.3f} s"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--drills", type=int, default=20)
    parser.add_argument("--records", type=int, default=100_000, help="In the step before the first drill.")
    parser.add_argument("--rps", type=float, default=1000.0)
    parser.add_argument("--gateways", type=int, default=2)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, _gateways(asked.gateways, Path(folder)):
        took = _drills(asked, Path(folder))
    print(
        f"{len(took)} drills, {asked.records} records in the step, {asked.rps:g} requests/s, {asked.gateways} gateways"
    )
    print(line("from the verdict to weight 0 at every gateway", [each.from_verdict_s for each in took]))
    print(line("from the first 5xx", [each.from_failure_s for each in took]))
    if asked.json:
        asked.json.write_text(json.dumps([each._asdict() for each in took]) + "\n")


def _drills(asked: argparse.Namespace, data_dir: Path) -> Sequence[Took]:
    store, clock = _NotingStore(f"sqlite:///{data_dir / 'bench.db'}"), _RealClock()
    store.upgrade()
    router = GatewayTraffic(running_gateways(data_dir), admin_token=TOKEN)
    controller = Controller(
        store=store,
        fleet=FakeFleet(gpus=8, clock=clock),
        router=router,
        records=SpooledFeed(data_dir),
        flights=router,
        clock=clock,
        create_study=create_a_study,
    )
    site = _Drilled(store, router, controller, asked.gateways)
    register_service(store, a_spec(rollout=OPTIONS), actor="bench", now=clock())
    for _ in range(4):
        controller.run_pass()
    config = EngineConfig(flags={"max-num-seqs": 64})
    start_rollout(store, service=CHAT, config=config, replicas=2, actor="bench", now=clock())
    site.passes_until(lambda: site.is_in(RolloutState.PROGRESSING))
    step = site.rollout.value
    assert step.stable is not None, "a canary has a stable beside it"
    path = records_dir(data_dir) / records_name("bench", clock())
    path.parent.mkdir(parents=True, exist_ok=True)
    traffic = Traffic(path, step.stable, step.canary, asked.rps)
    traffic.write(asked.records)
    controller.run_pass()  # the first look reads them all
    writer = threading.Thread(target=traffic.run, daemon=True)
    writer.start()
    try:
        chance = random.Random(1)
        return [_drill(site, traffic, step, chance) for _ in range(asked.drills)]
    finally:
        traffic.stop()
        writer.join()
        router.close()


if __name__ == "__main__":
    main()
