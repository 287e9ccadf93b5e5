"""A canary that is worse than stable never becomes stable, and live traffic hardly notices."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

from tests.e2e.loop.installation import SERVICE, Installation, installation

CAREFUL = SERVICE["rollout"] | {"miss_ratio_margin": 0.1, "error_ratio_margin": 0.1}
ENGINE = SERVICE["engine"] | {"flags": {"max-model-len": 8192, "quantization": "fp8", "max-num-seqs": 32}}


def test_a_slower_canary_is_rolled_back_by_its_verdict(tmp_path: Path) -> None:
    slos = SERVICE["slos"] | {"latency": [{"metric": "tpot_ms", "percentile": 90, "limit_ms": 90}]}
    steps = [step | {"max_s": 60, "on_ceiling": "pause"} for step in SERVICE["rollout"]["steps"]]
    with installation(tmp_path, slos=slos, engine=ENGINE, rollout=CAREFUL | {"steps": steps}) as fleet:
        traffic = fleet.traffic(rate_rps=4)
        traffic.start()
        rollout = _roll_out(fleet, {"emulator-fault": "slow-factor=8"})
        report = traffic.stop()
        assert rollout["state"] == "aborted"
        analysis = rollout["steps"][-1]["analysis"]
        assert (analysis["verdict"], analysis["guard"]) == ("fail", None)
        assert analysis["canary"]["slo_misses"] > 0
        assert (report.errors, report.truncated) == (0, 0)
        assert _seconds_to_all_on_stable(fleet, rollout) <= 2


def test_a_crashing_canary_is_rolled_back_at_once_and_only_its_own_streams_break(tmp_path: Path) -> None:
    with installation(tmp_path, engine=ENGINE, rollout=CAREFUL) as fleet:
        traffic = fleet.traffic(rate_rps=4)
        traffic.start()
        rollout = _roll_out(fleet, {"emulator-fault": "crash-after-requests=8"})
        report = traffic.stop()
        assert rollout["state"] == "aborted"
        assert rollout["steps"][-1]["analysis"]["guard"] is not None
        # Streams that had begun on the crashed engine end in an OpenAI error event; nothing else fails.
        assert set(report.error_counts) <= {"stream_error"}, report.error_counts
        assert report.errors <= 8
        assert report.truncated == 0


def test_a_canary_that_refuses_long_prompts_is_rolled_back_by_its_verdict(tmp_path: Path) -> None:
    """A shorter context frees memory and makes what is served faster: only the refusals tell."""
    with installation(tmp_path, engine=ENGINE, rollout=CAREFUL) as fleet:
        traffic = fleet.traffic(rate_rps=4)
        traffic.start()
        rollout = _roll_out(fleet, {"max-model-len": 256})
        traffic.stop()
        assert rollout["state"] == "aborted"
        analysis = rollout["steps"][-1]["analysis"]
        assert (analysis["verdict"], analysis["guard"]) == ("fail", None)
        assert "refusals +" in analysis["reason"]
        assert analysis["canary"]["refused"] > 0
        assert analysis["stable"]["refused"] == 0


def _roll_out(fleet: Installation, changes: dict[str, object]) -> dict[str, Any]:
    flags = ENGINE["flags"] | {"max-num-batched-tokens": 4096} | changes
    fleet.api.post("/rollouts", {"service": "chat", "flags": flags, "replicas": 1})
    fleet.until("the rollout is over", lambda: fleet.rollout()["state"] in ("promoted", "aborted"), 180)
    return fleet.rollout()


def _seconds_to_all_on_stable(fleet: Installation, rollout: dict[str, Any]) -> float:
    """Return how long after the failing verdict the last request went to the canary."""
    verdict_at = datetime.fromisoformat(rollout["steps"][-1]["analysis"]["at"])
    records = fleet.records(rollout["canary"])
    return max((record.at - verdict_at).total_seconds() for record in records)
