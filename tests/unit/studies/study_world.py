"""Builders for tests of studies: a service on emulated H200s, and a worker on fakes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from controlplane.domain.base import StudyId
from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.service import ServiceSpec
from controlplane.domain.serving import Service
from controlplane.domain.studies.study import Study, StudyState, Trial
from controlplane.ports.adapters import AdapterLoader
from controlplane.services.studies.run_study import StudyProgress, StudyRunner
from tests.fakes.fleet import FakeClock, FakeFleet
from tests.fakes.gateways import FakeGateways
from tests.fakes.store import FakeStore
from tests.fakes.twin_load import TwinLoadTester

STUDY = StudyId("chat-1")
SPACE: Mapping[str, Any] = {
    "quantization": {"choices": [None, "fp8"]},
    "max-num-seqs": {"choices": [64, 128, 256]},
    "max-num-batched-tokens": {"choices": [1024, 2048, 8192]},
}


SHORT: Mapping[str, Any] = {"min_s": 5, "max_s": 10, "warmup_s": 1, "precision": 0.1}
LONG: Mapping[str, Any] = {"min_s": 10, "max_s": 30, "warmup_s": 2, "precision": 0.1}
"""Levels: what is simulated grows with them. Long ones are for tests in which a check of the fleet has to hold."""


def service_spec(**changes: Any) -> ServiceSpec:
    """Return an 8B model on four H200s with a space of 18 points."""
    raw: dict[str, Any] = {
        "name": "chat",
        "model": {"name": "llama-8b", "path": "llama-8b"},
        "engine": {"kind": "emulator", "version": "0.26", "flags": {"max-model-len": 8192}},
        "gpus": {"type": "H200", "count": 4, "price_usd_per_gpu_hour": 4},
        "workload": {"kind": "trace", "trace": "azure-llm-2023/conv"},
        "slos": {
            "latency": [
                {"metric": "ttft_ms", "percentile": 95, "limit_ms": 1000},
                {"metric": "tpot_ms", "percentile": 95, "limit_ms": 40},
            ],
            "target_qps": 46,
        },
        "tuning": {
            "space": SPACE,
            "budget": {"engine_starts": 10},
            "levels": SHORT,
        },
    }
    return ServiceSpec.model_validate(raw | changes)


def _ignore(_: StudyProgress) -> None:
    return None


class World:
    """A store, four emulated GPUs, a load tester and a worker, all on one fake clock."""

    def __init__(
        self,
        folder: Path,
        *,
        spec: ServiceSpec | None = None,
        noise: float = 0.0,
        breaks: float = 0.0,
        speeds: Mapping[EngineKind, float] | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.spec = spec or service_spec()
        self.store = FakeStore()
        self.store.save_service(Service(name=self.spec.service, spec=self.spec, updated_at=self.clock()), 0)
        self.fleet = FakeFleet(gpus=self.spec.gpus.count, clock=self.clock)
        self.gateways = FakeGateways()
        self.load = TwinLoadTester(
            self.fleet,
            self.clock,
            gpu="H200",
            gateways=self.gateways,
            noise=noise,
            breaks=breaks,
            seed=1,
            speeds=speeds,
        )
        self.folder = folder
        self.adapters: AdapterLoader | None = None

    def runner(self, worker: str = "w1", *, on_progress: Callable[[StudyProgress], None] = _ignore) -> StudyRunner:
        return StudyRunner(
            store=self.store,
            fleet=self.fleet,
            load_tester=self.load,
            gateways=self.gateways,
            clock=self.clock,
            worker_name=worker,
            data_dir=self.folder,
            optuna_url=f"sqlite:///{self.folder}/optuna.db",
            sleep=self.clock.go_on,
            on_progress=on_progress,
            adapters=self.adapters,
        )


class Killed(BaseException):
    """Stands for kill -9: no handler of the code under test catches it."""


def pending(world: World) -> None:
    """Put the study that the tests are about into the store."""
    study = Study(
        study_id=STUDY,
        service=world.spec.service,
        spec=world.spec,
        baseline=world.spec.baseline,
        state=StudyState.PENDING,
        created_at=world.clock(),
        engine_version="0.26",
    )
    world.store.save_study(study, 0)


def trials(world: World) -> list[Trial]:
    """Return the study's trials as they are in the store."""
    return [row.value for row in world.store.list_trials(STUDY)]
