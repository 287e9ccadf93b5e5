"""Engines that run out of memory under load, as a trial sees them: real processes, real requests."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest

from controlplane.adapters.fleet_processes.fleet import FleetProcesses
from controlplane.domain.base import TrialId
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.fleet import Engine
from controlplane.domain.engines.start_failure import StartFailure
from controlplane.domain.studies.study import Trial, TrialKind, TrialState
from controlplane.host.clock import utc_now
from controlplane.services.studies.trial_engine import TrialEngines
from tests.fakes.trial_engines import trial_engines
from tests.unit.studies.study_world import STUDY, service_spec
from tuner.answer.attempts import MAX_ATTEMPTS, after_last_attempt

_PATIENCE_S = 240
_BODY = {"model": "llama-8b", "prompt": [1, 2, 3], "max_tokens": 4}


def a_trial(crash: str) -> Trial:
    fault = f"crash-after-requests=3,crash-as={crash}"
    return Trial(
        trial_id=TrialId("t-1"),
        study_id=STUDY,
        number=1,
        kind=TrialKind.SEARCH,
        config=EngineConfig(flags={"max-model-len": 8192, "emulator-fault": fault}),
        attempt=1,
        state=TrialState.RUNNING,
        started_at=utc_now(),
    )


def dies(engines: TrialEngines, trial: Trial, running: Sequence[Engine]) -> Trial:
    """Ask until nobody answers any more; return the trial as its engine's death ends it."""
    with contextlib.suppress(httpx.TransportError):
        for _ in range(20):
            httpx.post(f"{running[0].url}/v1/completions", json=_BODY, timeout=240, trust_env=False, verify=False)
    give_up_s = time.monotonic() + _PATIENCE_S
    while (ended := engines.died(trial, running)) is None:
        assert time.monotonic() < give_up_s, "it never died"
        time.sleep(0.05)
    return ended


@pytest.mark.parametrize(
    ("crash", "failure", "at_once", "says"),
    [
        ("gpu-memory", StartFailure.OUT_OF_MEMORY, TrialState.INFEASIBLE, "CUDA out of memory"),
        ("host-memory", StartFailure.CRASHED, TrialState.FAILED, "killed by signal 9 (the kernel does that when"),
        ("error", StartFailure.CRASHED, TrialState.FAILED, "an illegal memory access"),
    ],
)
def test_dying_under_load_is_the_configurations_doing_at_the_latest_after_every_attempt(
    crash: str, failure: StartFailure, at_once: TrialState, says: str, tmp_path: Path
) -> None:
    fleet = FleetProcesses(tmp_path, gpus=1)
    engines = trial_engines(fleet, utc_now, time.sleep)
    ended = engines.run(a_trial(crash), service_spec(), lambda trial, running: dies(engines, trial, running))
    assert (ended.state, ended.start_failure) == (at_once, failure)
    assert ended.reason is not None
    assert "engine died under load" in ended.reason
    assert says in ended.reason
    assert fleet.list() == []
    last = after_last_attempt(ended.evolve(attempt=MAX_ATTEMPTS))
    assert last.state is TrialState.INFEASIBLE
