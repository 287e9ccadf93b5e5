"""The sub-commands of every noun, made of three shapes: list, show, and an action with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from controlplane.cli import nouns
from controlplane.cli.errors import plain_errors
from controlplane.cli.flags import parse_flags
from controlplane.cli.nouns import Api, DataDir, Json, Key, Limit, Noun, Reason, Service
from controlplane.cli.tables.show import as_json as print_json
from controlplane.cli.tables.show import as_table, console, field

Name = Annotated[str, typer.Argument(help="Its id.")]
Set = Annotated[list[str] | None, typer.Option("--set", help="flag=value; again for more.")]

study = typer.Typer(help="Searches over engine configurations.", no_args_is_help=True)
trial = typer.Typer(help="Configurations tried within a study.", no_args_is_help=True)
recommendation = typer.Typer(help="What finished studies recommend.", no_args_is_help=True)
rollout = typer.Typer(help="Attempts to make a revision stable.", no_args_is_help=True)
fleet = typer.Typer(help="Engines and GPUs.", no_args_is_help=True)
service = typer.Typer(help="Served models.", no_args_is_help=True)
event = typer.Typer(help="The audit: who did what, why and when.", no_args_is_help=True)
key = typer.Typer(help="API keys.", no_args_is_help=True)


def _list_and_show(app: typer.Typer, noun: Noun) -> None:
    @app.command("list")
    @plain_errors
    def list_(
        service: Service = None,
        limit: Limit = 20,
        as_json: Json = False,
        api: Api = None,
        key: Key = None,
        data_dir: DataDir = nouns.HERE,
    ) -> None:
        """List them, newest first."""
        noun.show_list(nouns.client(api, key, data_dir), as_json, service=service, limit=limit)

    @app.command("show")
    @plain_errors
    def show(id: Name, as_json: Json = False, api: Api = None, key: Key = None, data_dir: DataDir = nouns.HERE) -> None:
        """Show one."""
        noun.show_one(nouns.client(api, key, data_dir).get(f"{noun.path}/{id}"), as_json)


def _actions(app: typer.Typer, noun: Noun, actions: Mapping[str, str]) -> None:
    for name, help_ in actions.items():
        _action(app, noun, name, help_)


def _action(app: typer.Typer, noun: Noun, name: str, help_: str) -> None:
    @app.command(name, help=help_)
    @plain_errors
    def act(
        id: Name,
        reason: Reason = "",
        as_json: Json = False,
        api: Api = None,
        key: Key = None,
        data_dir: DataDir = nouns.HERE,
    ) -> None:
        body = {"reason": reason}
        noun.show_one(nouns.client(api, key, data_dir).post(f"{noun.path}/{id}/{name}", body), as_json)


_list_and_show(study, nouns.STUDY)
_actions(study, nouns.STUDY, {"pause": "Start no new trial.", "resume": "Go on.", "abort": "Give it up."})
_list_and_show(recommendation, nouns.RECOMMENDATION)
_list_and_show(rollout, nouns.ROLLOUT)
_actions(
    rollout,
    nouns.ROLLOUT,
    {
        "pause": "Keep the weight, judge nothing.",
        "resume": "Go on with a paused or halted rollout.",
        "promote": "Promote without waiting for verdicts.",
        "abort": "Return all traffic to stable.",
        "halt": "Stop a promotion midway; a person must act.",
    },
)


@study.command("start")
@plain_errors
def start_study(
    service: Annotated[str, typer.Argument(help="The service to tune.")],
    apply: Annotated[bool, typer.Option(help="Start the canary when it recommends something.")] = False,
    as_json: Json = False,
    api: Api = None,
    key: Key = None,
    data_dir: DataDir = nouns.HERE,
) -> None:
    """Create a study; a tuner worker takes it."""
    body = {"service": service, "apply_when_done": apply}
    nouns.STUDY.show_one(nouns.client(api, key, data_dir).post("/studies", body), as_json)


@service.command("list")
@plain_errors
def list_services(as_json: Json = False, api: Api = None, key: Key = None, data_dir: DataDir = nouns.HERE) -> None:
    """List the served models."""
    rows = nouns.client(api, key, data_dir).get("/services")["items"]
    _rows(nouns.SERVICE, rows, as_json)


@service.command("show")
@plain_errors
def show_service(
    name: Name, as_json: Json = False, api: Api = None, key: Key = None, data_dir: DataDir = nouns.HERE
) -> None:
    """Show one service."""
    nouns.SERVICE.show_one(nouns.client(api, key, data_dir).get(f"/services/{name}"), as_json)


@trial.command("list")
@plain_errors
def list_trials(
    study: Name, as_json: Json = False, api: Api = None, key: Key = None, data_dir: DataDir = nouns.HERE
) -> None:
    """List the trials of a study, oldest first."""
    rows = nouns.client(api, key, data_dir).get(f"/studies/{study}/trials")["items"]
    _rows(nouns.TRIAL, rows, as_json)


@trial.command("show")
@plain_errors
def show_trial(
    id: Name, as_json: Json = False, api: Api = None, key: Key = None, data_dir: DataDir = nouns.HERE
) -> None:
    """Show a trial with every rate it ran."""
    nouns.TRIAL.show_one(nouns.client(api, key, data_dir).get(f"/trials/{id}"), as_json)


@recommendation.command("apply")
@plain_errors
def apply_recommendation(
    study: Name, as_json: Json = False, api: Api = None, key: Key = None, data_dir: DataDir = nouns.HERE
) -> None:
    """Start the canary of a recommendation."""
    rollout = nouns.client(api, key, data_dir).post(f"/recommendations/{study}/apply")
    nouns.ROLLOUT.show_one(rollout, as_json)


@rollout.command("start")
@plain_errors
def start_rollout(
    service: Annotated[str, typer.Argument(help="The service to change.")],
    set_: Set = None,
    replicas: Annotated[int, typer.Option(help="Replicas once promoted.")] = 1,
    as_json: Json = False,
    api: Api = None,
    key: Key = None,
    data_dir: DataDir = nouns.HERE,
) -> None:
    """Roll out engine flags of your own choice, without a study."""
    body = {"service": service, "flags": parse_flags(set_ or []), "replicas": replicas}
    nouns.ROLLOUT.show_one(nouns.client(api, key, data_dir).post("/rollouts", body), as_json)


@fleet.command("list")
@fleet.command("show")
@plain_errors
def show_fleet(as_json: Json = False, api: Api = None, key: Key = None, data_dir: DataDir = nouns.HERE) -> None:
    """Show every engine and the free GPUs."""
    answer = nouns.client(api, key, data_dir).get("/fleet")
    print_json(answer) if as_json else nouns.show_fleet(answer)


@event.command("list")
@plain_errors
def list_events(
    service: Service = None,
    subject: Annotated[str | None, typer.Option(help="e.g. rollout/r-1")] = None,
    limit: Limit = 50,
    as_json: Json = False,
    api: Api = None,
    key: Key = None,
    data_dir: DataDir = nouns.HERE,
) -> None:
    """Show the audit, newest first."""
    rows = nouns.client(api, key, data_dir).get("/events", service=service, subject=subject, limit=limit)["items"]
    columns = [(name, field(name)) for name in ("at", "actor", "action", "subject", "reason")]
    print_json(rows) if as_json else as_table(rows, columns, empty="nothing happened yet")


@key.command("create")
@plain_errors
def create_key(name: Name, api: Api = None, key: Key = None, data_dir: DataDir = nouns.HERE) -> None:
    """Make an API key. The secret is shown once and not kept."""
    made = nouns.client(api, key, data_dir).post("/keys", {"name": name})
    console.print(f"key {made['name']}, shown this once:")
    print(made["secret"])  # noqa: T201 - the output itself, unwrapped


@key.command("list")
@plain_errors
def list_keys(as_json: Json = False, api: Api = None, key: Key = None, data_dir: DataDir = nouns.HERE) -> None:
    """List the names of the keys."""
    rows = nouns.client(api, key, data_dir).get("/keys")["items"]
    print_json(rows) if as_json else as_table(rows, [("key", field("name"))], empty="no key: only this machine may ask")


@key.command("revoke")
@plain_errors
def revoke_key(name: Name, api: Api = None, key: Key = None, data_dir: DataDir = nouns.HERE) -> None:
    """Revoke a key at once."""
    nouns.client(api, key, data_dir).delete(f"/keys/{name}")
    console.print(f"key {name} is revoked")


def _rows(noun: Noun, rows: Any, as_json_: bool) -> None:
    print_json(rows) if as_json_ else as_table(rows, noun.columns, empty=noun.empty)
