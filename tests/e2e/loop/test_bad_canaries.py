"""A canary that is worse than stable never becomes stable, and live traffic hardly notices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from controlplane.cli.traffic import LiveTraffic
from tests.e2e.loop.installation import SERVICE, Installation, installation

CAREFUL = SERVICE["rollout"] | {"miss_ratio_margin": 0.1, "error_ratio_margin": 0.1}
FLAGS = SERVICE["engine"]["flags"] | {"max-num-seqs": 32}
SLOS = SERVICE["slos"] | {"latency": [{"metric": "tpot_ms", "percentile": 90, "limit_ms": 200}]}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One installation for one canary after the other: each leaves stable as it was."""
    folder = tmp_path_factory.mktemp("canaries")
    with installation(folder, slos=SLOS, engine=SERVICE["engine"] | {"flags": FLAGS}, rollout=CAREFUL) as running:
        yield running


@pytest.fixture
def traffic(fleet: Installation) -> Iterator[LiveTraffic]:
    """Live traffic; whatever happens, it is stopped before the installation."""
    traffic = fleet.traffic(rate_rps=4)
    traffic.start()
    yield traffic
    traffic.stop()


def test_a_slower_canary_is_rolled_back_by_its_verdict(fleet: Installation, traffic: LiveTraffic) -> None:
    rollout = _roll_out(fleet, {"emulator-fault": "slow-factor=20"})
    assert rollout["state"] == "aborted"
    analysis = rollout["steps"][-1]["analysis"]
    assert (analysis["verdict"], analysis["guard"]) == ("fail", None)
    assert analysis["canary"]["slo_misses"] > 0
    _nothing_goes_to_it_any_more(fleet, rollout)
    report = traffic.stop()
    assert (report.errors, report.truncated) == (0, 0)


def test_a_crashing_canary_is_rolled_back_at_once_and_only_its_own_streams_break(
    fleet: Installation, traffic: LiveTraffic
) -> None:
    rollout = _roll_out(fleet, {"emulator-fault": "crash-after-requests=8"})
    report = traffic.stop()
    assert rollout["state"] == "aborted"
    assert rollout["steps"][-1]["analysis"]["guard"] is not None
    # Streams that had begun on the crashed engine end in an OpenAI error event; nothing else fails.
    assert set(report.error_counts) <= {"stream_error"}, report.error_counts
    assert report.errors <= 8
    assert report.truncated == 0


@pytest.mark.usefixtures("traffic")
def test_a_canary_that_refuses_long_prompts_is_rolled_back_by_its_verdict(fleet: Installation) -> None:
    """A shorter context frees memory and makes what is served faster: only the refusals tell."""
    rollout = _roll_out(fleet, {"max-model-len": 256})
    assert rollout["state"] == "aborted"
    analysis = rollout["steps"][-1]["analysis"]
    assert (analysis["verdict"], analysis["guard"]) == ("fail", None)
    assert "refusals +" in analysis["reason"]
    assert analysis["canary"]["refused"] > 0
    assert analysis["stable"]["refused"] == 0


def _roll_out(fleet: Installation, changes: dict[str, object]) -> dict[str, Any]:
    # Few tokens a step: even one twenty times as slow keeps no stream waiting for so long that it counts as hanging.
    flags = FLAGS | {"max-num-batched-tokens": 512} | changes
    begun = fleet.api.post("/rollouts", {"service": "chat", "flags": flags, "replicas": 1})
    fleet.until("the rollout is over", lambda: fleet.rollout()["state"] in ("promoted", "aborted"))
    assert fleet.rollout()["rollout_id"] == begun["rollout_id"]
    return fleet.rollout()


def _nothing_goes_to_it_any_more(fleet: Installation, rollout: dict[str, Any]) -> None:
    """Once its engine is gone, further requests all go to stable."""
    fleet.until("the canary's engine is gone", lambda: len(fleet.engines()) == fleet.ready_engines() == 1)
    canary, stable = len(fleet.records(rollout["canary"])), len(fleet.records(rollout["stable"]))
    fleet.until("others answered on", lambda: len(fleet.records(rollout["stable"])) > stable + 10)
    assert len(fleet.records(rollout["canary"])) == canary
