"""One whole study by the product's own StudyRunner in a virtual world."""

from __future__ import annotations

import tempfile
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

import optuna

from benchmarks.answers.scenarios import Scenario
from benchmarks.answers.world import VirtualFleet, VirtualLoadTester
from controlplane.domain.base import StudyId
from controlplane.domain.service import ServiceSpec
from controlplane.domain.serving import Service
from controlplane.domain.studies.study import Study, StudyState, Trial
from controlplane.ports.store import Store
from controlplane.services.studies.run_study import StudyRunner
from tests.fakes.fleet import FakeClock
from tests.fakes.gateways import FakeGateways
from tests.fakes.store import FakeStore

_STUDY = StudyId("answers-1")


class Ended(NamedTuple):
    """A study that ended, and its trials."""

    study: Study
    trials: tuple[Trial, ...]


def ask(store: Store, spec: ServiceSpec, study_id: StudyId, *, now: datetime) -> None:
    """Save a service and a study of it that waits for workers."""
    store.save_service(Service(name=spec.service, spec=spec, updated_at=now), 0)
    pending = Study(
        study_id=study_id,
        service=spec.service,
        spec=spec,
        baseline=spec.baseline,
        state=StudyState.PENDING,
        created_at=now,
        engine_version=spec.engine.version,
    )
    store.save_study(pending, 0)


def run_study(scenario: Scenario, *, budget: int, seed: int) -> Ended:
    """Run a study of the scenario from its creation to its end. The same arguments give the same study."""
    spec, clock, store = scenario.study_spec(budget=budget, seed=seed), FakeClock(), FakeStore()
    ask(store, spec, _STUDY, now=clock())
    fleet = VirtualFleet(scenario.nature, gpus=spec.gpus.count, clock=clock, seed=seed)
    gateways = FakeGateways()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        runner = StudyRunner(
            store=store,
            fleet=fleet,
            load_tester=VirtualLoadTester(fleet, gateways, clock=clock, seed=seed),
            gateways=gateways,
            clock=clock,
            worker_name="bench",
            data_dir=Path(folder),
            sleep=clock.go_on,
        )
        ended = runner.run_next()
    assert ended is not None  # it was pending
    return Ended(ended, tuple(row.value for row in store.list_trials(_STUDY)))
