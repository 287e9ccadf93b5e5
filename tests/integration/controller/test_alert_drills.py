"""Alerts end to end in virtual time: the twin's own load, the emulator's page, scrapes, the alert, its act, the end."""

from __future__ import annotations

from pathlib import Path

from benchmarks.alert_drills import STARTUP_S, alone, bad_canary, out_of_memory, queued

FIVE_MIN_S, LOOKS_S = 300, 45


def test_busy_gpus_with_waiting_requests_ask_for_a_replica_after_five_minutes(tmp_path: Path) -> None:
    found = queued(tmp_path, seed=11)
    assert found["fired_s"] is not None
    assert FIVE_MIN_S <= found["fired_s"] <= FIVE_MIN_S + LOOKS_S
    assert (found["acted_s"], found["replicas"]) == (found["fired_s"], 2)
    assert found["two_ready_s"] <= found["fired_s"] + STARTUP_S + LOOKS_S


def test_busy_gpus_without_waiting_requests_are_told_and_nothing_else(tmp_path: Path) -> None:
    found = alone(tmp_path, seed=11)
    assert found["fired_s"] is not None
    assert (found["queued_fired_s"], found["acted_s"], found["replicas"]) == (None, None, 1)


def test_preemptions_lead_to_a_replica_and_are_over_with_it(tmp_path: Path) -> None:
    found = out_of_memory(tmp_path, seed=11)
    assert (found["acted_s"], found["replicas"]) == (found["fired_s"], 2)
    assert found["preemptions_per_s"] > 0.1 > found["preemptions_per_s_at_the_end"]


def test_a_canary_that_preempts_loses_its_rollout(tmp_path: Path) -> None:
    found = bad_canary(tmp_path, seed=11)
    assert found["fired_s"] is not None
    assert (found["acted_s"], found["rollout"]) == (found["fired_s"], "aborted")
