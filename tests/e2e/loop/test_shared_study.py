"""Two worker processes share one study; one is killed in the middle of a trial."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from tests.e2e.loop.installation import SERVICE, Installation, installation

Trials = dict[str, dict[str, Any]]


def test_a_study_of_two_workers_ends_right_though_one_is_killed_mid_trial(tmp_path: Path) -> None:
    tuning = SERVICE["tuning"] | {"space": {"max-num-seqs": {"choices": [2, 4, 8]}}}
    tuning |= {"budget": {"engine_starts": 6}}
    with installation(tmp_path, workers=2, tuning=tuning) as fleet:
        study = fleet.api.post("/studies", {"service": "chat"})["study_id"]
        fleet.until("both workers measure", lambda: len(_measuring(fleet, study)) == 2)
        before = _trials(fleet, study)
        fleet.kill("worker-1")
        fleet.until("the study is over", lambda: fleet.api.get(f"/studies/{study}")["state"] in ("done", "failed"))

        done, after = fleet.api.get(f"/studies/{study}"), _trials(fleet, study)
        assert done["state"] == "done", done["reason"]
        assert done["recommendation"]["improvement"], done["recommendation"]["summary"]
        check = done["recommendation"]["evidence"]["fleet_check"]
        assert check["held"], check["reason"]
        assert after[check["trial_id"]]["replicas"] == done["recommendation"]["fleet"]["replicas"]
        _nothing_is_lost_or_repeated(before, after)
        assert "worker-2" in {trial["worker"].split("@")[0] for trial in after.values()}
        fleet.until("only the service's own engine is left", lambda: len(fleet.engines()) == 1)
        assert fleet.engines()[0]["spec"]["owner"].startswith("rollout/")
        assert fleet.down() == 0
        assert fleet.engine_processes() == set()


def _trials(fleet: Installation, study: str) -> Trials:
    return {trial["trial_id"]: trial for trial in fleet.api.get(f"/studies/{study}/trials")["items"]}


def _measuring(fleet: Installation, study: str) -> set[str]:
    running = [trial for trial in _trials(fleet, study).values() if trial["state"] == "running"]
    return {trial["worker"].split("@")[0] for trial in running if trial["startup_s"]}


def _nothing_is_lost_or_repeated(before: Trials, after: Trials) -> None:
    assert sorted(trial["number"] for trial in after.values()) == list(range(len(after)))
    assert not [trial for trial in after.values() if trial["state"] == "running"]
    killed = [t for t in before.values() if t["state"] == "running" and t["worker"].startswith("worker-1@")]
    for trial in killed:
        # More than one more where the busy machine made a level of the second attempt invalid.
        assert after[trial["trial_id"]]["attempt"] > trial["attempt"]
        assert after[trial["trial_id"]]["worker"] not in {trial["worker"], None}
    assert killed
    for trial_id, trial in before.items():
        if trial["finished_at"]:
            assert after[trial_id]["finished_at"] == trial["finished_at"]
    searched = Counter(str(t["config"]) for t in after.values() if t["kind"] in ("baseline", "search"))
    assert max(searched.values()) == 1
