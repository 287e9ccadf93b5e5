"""Scheduled replays on a running installation: on an engine of their own, once each, whatever is killed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.loop.installation import Installation, installation

NIGHTLY = {
    "name": "nightly",
    "cron": "0 3 1 1 *",  # fired by hand
    "action": "replay",
    "replay": {"rate_rps": 4, "duration_s": 20, "warmup_s": 0},
}


def test_replays_become_a_series_and_one_whose_worker_is_killed_is_lost_not_repeated(tmp_path: Path) -> None:
    with installation(tmp_path, schedules=[NIGHTLY]) as fleet:
        _trigger(fleet)
        fleet.until("the replay is over", lambda: len(_replays(fleet)) == 1)
        _trigger(fleet)
        fleet.until("a shadow is ready", lambda: [e["state"] for e in _shadows(fleet)] == ["ready"])
        fleet.kill("worker-1")
        fleet.until("the loss is noticed", lambda: "replay.lost" in _actions(fleet))
        fleet.until("the shadow is gone", lambda: not _shadows(fleet))
        _trigger(fleet)
        fleet.until("the next replay is over", lambda: len(_replays(fleet)) == 2)
        assert [each["schedule"] for each in _replays(fleet)] == ["nightly", "nightly"]
        assert all(each["report"]["errors"] == 0 for each in _replays(fleet))
        assert fleet.ready_engines() == 1


def _trigger(fleet: Installation) -> None:
    fleet.until("the last one is cleared up", lambda: _schedule(fleet)["replay_run"] is None)
    fleet.api.post("/schedules/chat/nightly/trigger")


def _schedule(fleet: Installation) -> dict[str, Any]:
    found: dict[str, Any] = fleet.api.get("/schedules", service="chat")["items"][0]
    return found


def _replays(fleet: Installation) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = fleet.api.get("/replays", service="chat")["items"]
    return found


def _shadows(fleet: Installation) -> list[dict[str, Any]]:
    return [engine for engine in fleet.engines() if engine["spec"]["owner"].startswith("replay/")]


def _actions(fleet: Installation) -> list[str]:
    return [event["action"] for event in fleet.api.get("/events", service="chat")["items"]]
