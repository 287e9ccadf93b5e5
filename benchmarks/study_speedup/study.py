"""One study of twelve starts by as many workers as there are free GPUs."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from datetime import datetime
from functools import partial
from pathlib import Path

from benchmarks.answers.scenarios import Scenario, limits, scenario
from benchmarks.answers.study import Ended, ask
from benchmarks.answers.world import VirtualFleet, VirtualLoadTester
from benchmarks.study_speedup.turns import Turns
from controlplane.domain.base import StudyId
from controlplane.domain.service import ServiceSpec
from controlplane.domain.studies.tuning_options import Strategy
from controlplane.services.studies.run_study import StudyRunner
from tests.fakes.gateways import FakeGateways
from tests.fakes.store import FakeStore

STUDY = StudyId("speedup-1")
STARTS = 12


def service() -> Scenario:
    """Return a service whose engines take one GPU each: any trial finds a place on any free one."""
    return scenario(
        "14b-chat-h200-p99",
        model="qwen-14b",
        gpus={"type": "H200", "count": 8, "price_usd_per_gpu_hour": 2.8},
        workload={"kind": "trace", "trace": "azure-llm-2023/conv"},
        slos={"latency": limits(99, ttft_ms=1000, tpot_ms=40), "target_qps": 40},
        space={
            "quantization": (None, "fp8"),
            "max-num-seqs": (32, 64, 128, 256),
            "max-num-batched-tokens": (1024, 2048, 4096, 8192),
        },
        flags={"max-num-seqs": 32},
        nature_seed=3,
    )


def run(played: Scenario, *, gpus: int, seed: int, strategy: Strategy) -> Ended:
    """Run a study on so many free GPUs, with a worker for each. The same arguments give the same study."""
    spec, store = _spec(played, seed, strategy), FakeStore()
    workers = [f"worker-{number}" for number in range(gpus)]
    clock = Turns(partial(_beat, store, workers))
    ask(store, spec, STUDY, now=clock())
    fleet = VirtualFleet(played.nature, gpus=gpus, clock=clock, seed=seed)
    with tempfile.TemporaryDirectory() as folder:
        clock.run([_work(store, fleet, clock, name, Path(folder), seed) for name in workers])
    return Ended(store.get_study(STUDY).value, tuple(row.value for row in store.list_trials(STUDY)))


def _spec(played: Scenario, seed: int, strategy: Strategy) -> ServiceSpec:
    """The check of a whole fleet is left out: it needs that many free GPUs at once, however many workers there are."""
    spec = played.study_spec(budget=STARTS, seed=seed)
    return spec.evolve(tuning=spec.tuning.evolve(confirm_fleet=False, strategy=strategy))


def _beat(store: FakeStore, workers: list[str], now: datetime) -> None:
    """Heartbeats live by the wall clock, claims by the virtual one: those who wait are alive."""
    for name in workers:
        store.heartbeat(STUDY, name, now=now)


def _work(
    store: FakeStore, fleet: VirtualFleet, clock: Turns, name: str, folder: Path, seed: int
) -> Callable[[], None]:
    gateways = FakeGateways()
    runner = StudyRunner(
        store=store,
        fleet=fleet,
        load_tester=VirtualLoadTester(fleet, gateways, clock=clock, seed=seed),
        gateways=gateways,
        clock=clock,
        worker_name=name,
        data_dir=folder,
        optuna_url=f"sqlite:///{folder}/optuna.db",
        sleep=clock.go_on,
        beat_every_s=1e6,
    )

    def work() -> None:
        while runner.run_next() is not None:
            pass

    return work
