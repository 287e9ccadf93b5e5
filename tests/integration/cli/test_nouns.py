"""What people do with services, rollouts and schedules from a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner

from controlplane.adapters.store_sql.store import open_store
from controlplane.cli.main import app
from controlplane.host.clock import steady_clock
from controlplane.services.controller.jobs import fire_due
from controlplane.services.studies.manage import create_study
from tests.integration.cli.conftest import Fleetune

ServiceFile = Callable[..., str]
BASE = {"max-num-seqs": 256, "enable-prefix-caching": True}


@pytest.fixture
def chat(fleetune: Fleetune, service_file: ServiceFile) -> str:
    """A registered service with base flags and two replicas."""
    engine = {"kind": "emulator", "flags": BASE}
    code, said = fleetune("service", "register", "-f", service_file(engine=engine, initial_replicas=2))
    assert code == 0, said
    return "chat"


def test_several_files_are_registered_at_once(fleetune: Fleetune, service_file: ServiceFile) -> None:
    other = service_file("b.yaml", name="code", model={"name": "code-8b", "path": "llama-8b"})
    assert fleetune("service", "register", "-f", service_file(), "-f", other)[0] == 0
    assert set(fleetune("service", "list", "-o", "name")[1].split()) == {"chat", "code"}


def test_one_bad_file_of_several_registers_none(fleetune: Fleetune, service_file: ServiceFile) -> None:
    code, said = fleetune("service", "register", "-f", service_file(), "-f", service_file("b.yaml", colour="red"))
    assert (code, "colour" in said) == (2, True)
    assert fleetune("service", "list", "-o", "name")[1] == ""


def test_a_service_is_scaled_stopped_and_started(fleetune: Fleetune, chat: str) -> None:
    def shown() -> tuple[int, bool]:
        found = json.loads(fleetune("service", "show", chat, "-o", "json")[1])
        return found["stable_replicas"], found["stopped"]

    assert fleetune("service", "scale", chat, "--replicas", "3")[0] == 0
    assert shown() == (3, False)
    assert fleetune("service", "stop", chat)[0] == 0
    assert shown() == (3, True)
    assert fleetune("service", "start", chat)[0] == 0
    assert shown() == (3, False)


def test_every_form_of_output_says_the_same(fleetune: Fleetune, chat: str) -> None:
    as_json = json.loads(fleetune("service", "show", chat, "-o", "json")[1])
    assert yaml.safe_load(fleetune("service", "show", chat, "-o", "yaml")[1]) == as_json
    assert fleetune("service", "show", chat, "-o", "name")[1] == "chat\n"
    assert json.loads(fleetune("service", "list", "--json")[1]) == [as_json]
    assert fleetune("service", "list", "-o", "name")[1] == "chat\n"


def test_a_rollout_lays_flags_over_those_that_are_stable_and_keeps_the_replicas(fleetune: Fleetune, chat: str) -> None:
    code, said = fleetune("rollout", "start", chat, "--set", "max-num-seqs=128", "--yes", "-o", "json", "--reason", "x")
    rollout = json.loads(said)
    assert (code, rollout["canary_replicas"], rollout["reason"]) == (0, 2, "x")
    revisions = json.loads(fleetune("service", "revisions", chat, "-o", "json")[1])
    canary = next(each for each in revisions if each["revision_id"] == rollout["canary"])
    assert canary["config"]["flags"] == {"enable-prefix-caching": True, "max-num-seqs": 128}


def test_what_a_rollout_changes_is_shown_and_asked(fleetune: Fleetune, chat: str) -> None:
    asked = ("rollout", "start", chat, "--set", "max_num_seqs=128", "--unset", "enable-prefix-caching")
    code, said = fleetune(*asked, answer="n\n")
    assert code == 1
    assert "max-num-seqs: 256 → 128" in said
    assert "enable-prefix-caching: no longer set (was true)" in said
    assert fleetune("rollout", "list", "-o", "name")[1] == ""
    assert fleetune(*asked, answer="y\n")[0] == 0
    rollout = fleetune("rollout", "list", "-o", "name")[1].strip()
    assert "max-num-seqs: 256 → 128" in fleetune("rollout", "show", rollout)[1]


def test_users_before_any_proof_are_said_at_registration_when_asked_and_in_the_audit(
    fleetune: Fleetune, service_file: ServiceFile
) -> None:
    note = "step 1 gives 5 % of the users to a canary that has proven no load yet"
    assert note in fleetune("service", "register", "-f", service_file(initial_replicas=1))[1]
    asked = ("rollout", "start", "chat", "--set", "max-num-seqs=128")
    assert note in fleetune(*asked, answer="y\n")[1]
    rollout = fleetune("rollout", "list", "-o", "name")[1].strip()
    events = json.loads(fleetune("rollout", "report", rollout)[1])["events"]
    assert [event["action"] for event in events] == ["rollout.pending", "rollout.early_users"]


def test_with_a_step_before_any_user_nothing_is_said(fleetune: Fleetune, service_file: ServiceFile) -> None:
    steps = [{"weight_percent": each} for each in (0, 5, 100)]
    assert "note:" not in fleetune("service", "register", "-f", service_file(rollout={"steps": steps}))[1]


def test_a_rollout_of_nothing_is_refused(fleetune: Fleetune, chat: str) -> None:
    code, said = fleetune("rollout", "start", chat)
    assert (code, "--set flag=value" in said) == (2, True)


def test_the_way_back_is_a_command(fleetune: Fleetune, chat: str) -> None:
    code, said = fleetune("service", "roll-back", chat, "rev-nope")
    assert (code, "rev-nope" in said) == (2, True)


def test_a_schedule_is_named_as_its_commands_take_it(fleetune: Fleetune, chat: str) -> None:
    assert fleetune("schedule", "create", chat, "weekly", "--cron", "0 2 * * SUN")[0] == 0
    name = fleetune("schedule", "list", "-o", "name")[1].split()
    assert name == [chat, "weekly"]
    assert fleetune("schedule", "pause", *name)[0] == 0
    assert json.loads(fleetune("schedule", "list", "-o", "json")[1])[0]["spec"]["paused"] is True


def test_a_key_is_made_rotated_listed_and_revoked(fleetune: Fleetune) -> None:
    code, said = fleetune("key", "create", "app", "--scope", "infer", "--scope", "read", "--tenant", "shop")
    assert (code, "infer, read" in said) == (0, True)
    code, again = fleetune("key", "rotate", "app", "--overlap-h", "1")
    assert (code, again.split()[-1] != said.split()[-1]) == (0, True)
    (shown,) = json.loads(fleetune("key", "list", "-o", "json")[1])
    assert (shown["tenant"], shown["scopes"]) == ("shop", ["infer", "read"])
    assert fleetune("key", "revoke", "app")[0] == 0
    assert fleetune("key", "revoke", "app")[0] == 2


def test_a_key_can_be_made_before_anything_else(tmp_path: Path) -> None:
    fresh = tmp_path / "not" / "there"
    made = CliRunner().invoke(app, ["key", "create", "ops", "--scope", "admin", "--data-dir", str(fresh)])
    assert made.exit_code == 0, made.output
    listed = CliRunner().invoke(app, ["key", "list", "-o", "name", "--data-dir", str(fresh)])
    assert listed.output.split() == ["ops"]
    refused = CliRunner().invoke(app, ["key", "list", "--data-dir", str(tmp_path / "other")])
    assert (refused.exit_code, (tmp_path / "other").exists()) == (2, False)


def test_a_triggered_schedule_says_that_nobody_fired_it(fleetune: Fleetune, chat: str) -> None:
    fleetune("schedule", "create", chat, "weekly", "--cron", "0 2 * * SUN")
    code, said = fleetune("schedule", "trigger", chat, "weekly", "--wait", "0")
    assert (code, "no controller runs" in said) == (0, True)


def test_a_triggered_schedule_says_what_came_of_it(
    fleetune: Fleetune, chat: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleetune("schedule", "create", chat, "nightly", "--cron", "0 2 * * *", "--action", "replay", "--rate", "1")
    store = open_store(f"sqlite:///{tmp_path / 'data' / 'fleetune.db'}")
    clock = steady_clock(tmp_path / "data")  # the api's: a step of this machine's wall clock is not due

    def controller_pass(_: float) -> None:
        fire_due(store, create_study=create_study, now=clock())

    its_own = SimpleNamespace(sleep=controller_pass, monotonic=time.monotonic)  # whoever else sleeps is no controller
    monkeypatch.setattr("controlplane.cli.schedule.time", its_own)
    code, said = fleetune("schedule", "trigger", chat, "nightly", "--wait", "60")
    assert (code, "fired: replay 1" in said) == (0, True)
    again = fleetune("schedule", "trigger", chat, "nightly")
    assert (again[0], "replay 1 is not over" in again[1]) == (2, True)


def test_the_first_key_is_asked_about_where_it_would_shut_clients_out(fleetune: Fleetune, chat: str) -> None:
    code, said = fleetune("key", "create", "app", answer="n\n")
    assert (code, "clients of llama-8b that send none get 401" in said) == (1, True)
    assert fleetune("key", "create", "app")[0] == 1, "nobody there to answer is no yes"
    assert fleetune("key", "list", "-o", "name")[1] == ""
    assert fleetune("key", "create", "app", "--yes")[0] == 0
    code, said = fleetune("key", "create", "second")
    assert (code, "401" in said) == (0, False)


def test_an_idle_fleet_says_how_many_gpus_are_free(fleetune: Fleetune) -> None:
    assert "free GPUs: 0" in fleetune("fleet", "show")[1]
