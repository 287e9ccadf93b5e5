"""Any process may be killed at any instant: the loop still ends in the right state and leaves no engine behind."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.loop.installation import SERVICE, Installation, installation

# No engine here hangs, and none is waited for: a step lasts until five requests say how it is, not a stall's quarter of
# a minute on top.
SOON = SERVICE["rollout"] | {"steps": [step | {"min_s": 0} for step in SERVICE["rollout"]["steps"]]}
FINAL = ("promoted", "aborted", "halted", "paused")


def test_the_loop_ends_right_though_every_process_is_killed_on_the_way(tmp_path: Path) -> None:
    with installation(tmp_path, rollout=SOON) as fleet:
        study = fleet.api.post("/studies", {"service": "chat", "apply_when_done": True})["study_id"]
        _kill_the_worker_mid_trial(fleet, study)
        fleet.kill("api")
        fleet.until("the study is over", lambda: fleet.api.get(f"/studies/{study}")["state"] in ("done", "failed"))
        done = fleet.api.get(f"/studies/{study}")
        assert done["recommendation"] is not None, done["reason"]
        assert done["recommendation"]["improvement"], done["recommendation"]["summary"]

        traffic = fleet.traffic(rate_rps=2)
        traffic.start()
        _kill_the_controller_at_every_step(fleet)
        fleet.until("the rollout is over", lambda: fleet.rollout()["state"] in FINAL)
        traffic.stop()
        assert fleet.rollout()["state"] == "promoted", fleet.rollout()["reason"]
        assert [step["analysis"]["verdict"] for step in fleet.rollout()["steps"]] == ["pass"] * 3

        fleet.kill("gateway")
        fleet.until("the gateway serves again", fleet.serves)
        fleet.until("only the winner's replicas run", lambda: _only_the_winner_runs(fleet))
        after = fleet.traffic(rate_rps=2)
        after.start()
        fleet.until("answers come again", lambda: after.latest is not None and len(after.latest.records) >= 10)
        assert after.stop().errors == 0
        assert fleet.down() == 0
        assert fleet.engine_processes() == set()


def _kill_the_worker_mid_trial(fleet: Installation, study: str) -> None:
    def finished() -> dict[str, str]:
        trials = fleet.api.get(f"/studies/{study}/trials")["items"]
        return {trial["trial_id"]: trial["finished_at"] for trial in trials if trial["finished_at"]}

    def measuring() -> bool:
        trials = fleet.api.get(f"/studies/{study}/trials")["items"]
        return len(trials) >= 2 and any(
            trial["levels"] or trial["startup_s"] for trial in trials if trial["state"] == "running"
        )

    fleet.until("the second trial measures", measuring)
    before = finished()
    fleet.kill("worker-1")
    fleet.until("a further trial finishes", lambda: len(finished()) > len(before))
    assert {trial: finished()[trial] for trial in before} == before  # nothing lost, nothing done twice


def _kill_the_controller_at_every_step(fleet: Installation) -> None:
    fleet.until("the canary starts", lambda: fleet.rollout()["state"] in ("pending", "progressing"))
    fleet.kill("controller")
    for step in range(len(fleet.spec.rollout.steps)):
        fleet.until(f"step {step} begins", lambda step=step: len(fleet.rollout()["steps"]) > step)  # type: ignore[misc]
        fleet.kill("controller")


def _only_the_winner_runs(fleet: Installation) -> bool:
    engines = fleet.engines()
    wanted = fleet.api.get("/services/chat")
    owner = f"rollout/chat/{wanted['stable']}"
    return len(engines) == wanted["stable_replicas"] and all(
        engine["state"] == "ready" and engine["spec"]["owner"] == owner for engine in engines
    )
