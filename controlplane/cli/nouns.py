"""`fleetune study|trial|recommendation|rollout|fleet|service|schedule|event|key ...`: the API from a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from controlplane.cli.client import ApiClient
from controlplane.cli.tables.show import Column, as_json, as_lines, as_table, console, field
from controlplane.domain.errors import InvalidInput

Api = Annotated[
    str | None, typer.Option("--api", envvar="FLEETUNE_API_URL", help="API server; default: the data folder.")
]
Key = Annotated[str | None, typer.Option("--key", envvar="FLEETUNE_API_KEY", help="API key.", show_envvar=True)]
DataDir = Annotated[Path, typer.Option(help="The installation, when no --api is named.")]
Json = Annotated[bool, typer.Option("--json", help="Print the API's JSON.")]
Service = Annotated[str | None, typer.Option(help="Only this service.")]
Limit = Annotated[int, typer.Option(help="At most this many, newest first.")]
Reason = Annotated[str, typer.Option(help="Why; kept in the audit.")]
HERE = Path(".fleetune")


class Noun:
    """One noun's sub-app. Its list and its single thing are printed with the same columns unless told otherwise."""

    def __init__(self, path: str, *, columns: Sequence[Column], details: Sequence[Column], empty: str) -> None:
        self.path = path
        self.columns = columns
        self.details = details
        self.empty = empty

    def show_list(self, client: ApiClient, as_json_: bool, **filters: Any) -> None:
        """Print the list."""
        answer = client.get(self.path, **filters)
        rows = answer["items"] if isinstance(answer, dict) else answer
        as_json(rows) if as_json_ else as_table(rows, self.columns, empty=self.empty)

    def show_one(self, thing: Any, as_json_: bool) -> None:
        """Print one thing."""
        as_json(thing) if as_json_ else as_lines(thing, self.details)


def client(api: str | None, key: str | None, data_dir: Path) -> ApiClient:
    """Return the client the options ask for. Raises InvalidInput when there is no installation to look into."""
    if api is None and not data_dir.exists():
        raise InvalidInput(
            f"no installation in {data_dir}",
            why="the folder does not exist",
            allowed="--data-dir of one, --api URL, or start one with `fleetune up -f service.yaml`",
        )
    return ApiClient(url=api, key=key, data_dir=data_dir)


def _outcomes(study: Any) -> str:
    """What the rollouts of its recommendation came to."""
    ends = (("promoted" if o["promoted"] else "taken back", o["rollout_id"], o["reason"]) for o in study["outcomes"])
    return "; ".join(f"{end} by {rollout}: {reason}" for end, rollout, reason in ends)


STUDY = Noun(
    "/studies",
    columns=[
        ("study", field("study_id")),
        ("service", field("service")),
        ("state", field("state")),
        ("starts", field("engine_starts")),
        ("created", field("created_at")),
        ("result", field("recommendation.summary")),
    ],
    details=[
        ("study", field("study_id")),
        ("service", field("service")),
        ("state", field("state")),
        ("reason", field("reason")),
        ("created", field("created_at")),
        ("finished", field("finished_at")),
        ("engine starts", field("engine_starts")),
        ("GPU seconds", field("gpu_seconds")),
        ("baseline", field("baseline.flags")),
        ("result", field("recommendation.summary")),
        ("recommended", field("recommendation.config.flags")),
        ("began with", field("warm_start.study_id")),
        ("live traffic", _outcomes),
    ],
    empty="no study yet; start one with `fleetune study start SERVICE` or `fleetune tune -f service.yaml`",
)
SERVICE = Noun(
    "/services",
    columns=[
        ("service", field("name")),
        ("model", field("spec.model.name")),
        ("engine", field("spec.engine.kind")),
        ("stable", field("stable")),
        ("replicas", field("stable_replicas")),
        ("rollout", field("rollout")),
        ("stopped", field("stopped")),
    ],
    details=[
        ("service", field("name")),
        ("model", field("spec.model.path")),
        ("engine", field("spec.engine.kind")),
        ("base flags", field("spec.engine.flags")),
        (
            "limits",
            lambda s: [f"P{v['percentile']:g} {v['metric']} ≤ {v['limit_ms']:g}" for v in s["spec"]["slos"]["latency"]],
        ),
        ("target QPS", field("spec.slos.target_qps")),
        ("stable", field("stable")),
        ("replicas", field("stable_replicas")),
        ("rollout", field("rollout")),
    ],
    empty="no service; `fleetune up -f service.yaml` registers one",
)
TRIAL = Noun(
    "/trials",
    columns=[
        ("trial", field("trial_id")),
        ("kind", field("kind")),
        ("state", field("state")),
        ("capacity rps", field("capacity.rps")),
        ("GPUs", field("fleet.gpus")),
        ("USD/h", field("fleet.usd_per_hour")),
        ("USD/Mtok", field("usd_per_million_tokens")),
        ("flags", field("config.flags")),
        ("reason", field("reason")),
    ],
    details=[
        ("trial", field("trial_id")),
        ("kind", field("kind")),
        ("state", field("state")),
        ("reason", field("reason")),
        ("flags", field("config.flags")),
        ("start-up s", field("startup_s")),
        ("capacity rps", field("capacity.rps")),
        ("between", lambda t: [t["capacity"]["low_rps"], t["capacity"]["high_rps"]] if t["capacity"] else None),
        ("levels", lambda t: [f"{v['rate_rps']:.3g} rps {'passed' if v['passed'] else 'missed'}" for v in t["levels"]]),
        ("replicas", field("fleet.replicas")),
        ("USD/h", field("fleet.usd_per_hour")),
        ("USD/Mtok", field("usd_per_million_tokens")),
        ("twin expected", field("predicted")),
    ],
    empty="no trial yet",
)
RECOMMENDATION = Noun(
    "/recommendations",
    columns=[
        ("study", field("study_id")),
        ("service", field("service")),
        ("better", field("improvement")),
        ("USD/h", field("fleet.usd_per_hour")),
        ("cost ratio", field("evidence.cost_ratio")),
        ("applied as", field("applied_revision")),
        ("summary", field("summary")),
    ],
    details=[
        ("study", field("study_id")),
        ("service", field("service")),
        ("summary", field("summary")),
        ("better", field("improvement")),
        ("flags", field("config.flags")),
        ("replicas", field("fleet.replicas")),
        ("GPUs", field("fleet.gpus")),
        ("USD/h", field("fleet.usd_per_hour")),
        ("cost ratio", field("evidence.cost_ratio")),
        ("95 % interval", lambda r: [r["evidence"]["cost_ratio_low"], r["evidence"]["cost_ratio_high"]]),
        ("engine", field("evidence.engine_version")),
        ("GPU", field("evidence.gpu")),
        ("time-lapse", field("evidence.time_lapse")),
        ("trials", field("evidence.trial_ids")),
        ("applied as", field("applied_revision")),
    ],
    empty="no recommendation yet; a finished study makes one",
)
ROLLOUT = Noun(
    "/rollouts",
    columns=[
        ("rollout", field("rollout_id")),
        ("service", field("service")),
        ("state", field("state")),
        ("canary", field("canary")),
        ("stable", field("stable")),
        ("steps", lambda r: [_step(step) for step in r["steps"]]),
        ("reason", field("reason")),
    ],
    details=[
        ("rollout", field("rollout_id")),
        ("service", field("service")),
        ("state", field("state")),
        ("reason", field("reason")),
        ("canary", field("canary")),
        ("stable", field("stable")),
        ("canary replicas", field("canary_replicas")),
        ("created", field("created_at")),
        ("finished", field("finished_at")),
        ("steps", lambda r: [_step(step) for step in r["steps"]]),
        ("last verdict", lambda r: field("analysis.reason")(r["steps"][-1]) if r["steps"] else None),
    ],
    empty="no rollout yet; apply a recommendation with `fleetune recommendation apply STUDY`",
)


def show_fleet(answer: Any) -> None:
    """Print the engines and the free GPUs."""
    columns: list[Column] = [
        ("engine", field("spec.engine_id")),
        ("owner", field("spec.owner")),
        ("state", field("state")),
        ("GPUs", field("gpu_indices")),
        ("url", field("url")),
        ("flags", field("spec.config.flags")),
        ("failure", field("failure_detail")),
    ]
    as_table(answer["engines"], columns, empty="no engine runs")
    console.print(f"free GPUs: {answer['free_gpus']}")


def _step(step: Any) -> str:
    verdict = field("analysis.verdict")(step) or "waiting"
    return f"{step['weight_percent']} % {verdict}"
