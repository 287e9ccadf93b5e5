"""`fleetune fleet ...`: engines and GPUs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from controlplane.cli.asking import Ask, Noun, asks
from controlplane.cli.tables.show import Column, Output, field
from controlplane.host.clock import utc_now

if TYPE_CHECKING:
    from controlplane.ports.metrics import MetricsSource

ENGINE = Noun(
    "/fleet",
    columns=[
        Column("engine", field("spec.engine_id")),
        Column("owner", field("spec.owner")),
        Column("state", lambda row: row["state"] if row.get("answers", True) else f"{row['state']}, hangs"),
        Column("GPUs", field("gpu_indices")),
        Column("spot", lambda row: "yes" if row["spec"]["spot"] else "no", wide=True),
        Column("url", field("url"), wide=True),
        Column("flags", field("spec.config.flags"), text=True),
        Column("pod", field("pod"), wide=True),
        Column("node", field("node"), wide=True),
        Column("reason", lambda row: row.get("failure_detail") or row.get("waits_for"), text=True),
    ],
    details=[],
    empty="no engine runs",
)

app = typer.Typer(help="Engines and GPUs.", no_args_is_help=True)


@app.command("list")
@app.command("show")
@asks
def show(ask: Ask) -> None:
    """Show every engine and the free GPUs."""
    answer = ask.client.get("/fleet")
    ask.show_list(ENGINE, answer["engines"], raw=answer)
    if ask.output in (Output.TABLE, Output.WIDE):
        numbers = ", ".join(str(gpu) for gpu in answer["free_gpu_indices"])
        typer.echo(f"free GPUs: {answer['free_gpus']}{f' ({numbers})' if numbers else ''}")


NUMBERS = Noun(
    "/metrics",
    columns=[Column("model", field("model"))],
    details=[
        Column("model", field("model")),
        Column("P99 TTFT ms", field("ttft_p99_ms")),
        Column("P99 TPOT ms", field("tpot_p99_ms")),
        Column("waiting", field("waiting")),
        Column("running", field("running")),
        Column("KV cache %", field("kv_usage_percent")),
        Column("preemptions/s", field("preemptions_per_s")),
        Column("GPUs busy %", field("gpu_percent")),
        Column("fullest GPU %", field("gpu_memory_percent")),
        Column("GPUs W", field("gpu_power_w")),
    ],
    empty="",
)


Model = Annotated[str, typer.Argument(help="The name clients use in `model`.")]
FromPrometheus = Annotated[
    str | None, typer.Option(envvar="FLEETUNE_PROMETHEUS_URL", help="Ask this Prometheus, not the installation.")
]


@app.command("metrics")
@asks
def metrics(ask: Ask, model: Model, prometheus: FromPrometheus = None) -> None:
    """Show what a model's engines say of themselves: a dash where nobody told, or nothing new."""
    if prometheus is None:
        ask.show_one(NUMBERS, ask.client.get("/fleet/metrics", model=model))
    else:
        ask.show_one(NUMBERS, _prometheus(prometheus).read(model).model_dump(mode="json"))


OWN_NAMES = Noun(
    "/metrics/own", columns=[Column("series", field("name"))], details=[], empty="nothing was told within a day"
)
OWN = Noun(
    "/metrics/own/series",
    columns=[
        Column("source", field("source")),
        Column("labels", lambda row: " ".join(f"{name}={value}" for name, value in row["labels"].items())),
        Column("points", lambda row: len(row["points"])),
        Column("lowest", lambda row: _of_points(row, min)),
        Column("highest", lambda row: _of_points(row, max)),
        Column("last", lambda row: _of_points(row, _last)),
    ],
    details=[],
    empty="nobody told it twice within that time",
)


@app.command("own")
@asks
def own(
    ask: Ask,
    name: Annotated[str | None, typer.Argument(help="A series, e.g. fleetune_gateway_requests_total.")] = None,
    hours: Annotated[float, typer.Option(min=0.1, max=24)] = 24.0,
) -> None:
    """Show what gateways and the control plane told of themselves; without a name, which series there are.

    What only grows (requests, tokens) is shown per second.
    """
    if name is None:
        ask.show_list(OWN_NAMES, [{"name": each} for each in ask.client.get("/fleet/metrics/own")])
    else:
        ask.show_list(OWN, ask.client.get("/fleet/metrics/own/series", name=name, hours=hours, step_s=60))


GPU = Noun(
    "/fleet/gpus",
    columns=[
        Column("engine", field("engine")),
        Column("GPU", field("reading.gpu")),
        Column("GiB used", lambda row: _number(row, "memory_used_gib", ".1f")),
        Column("GiB", lambda row: _number(row, "memory_total_gib", ".1f")),
        Column("busy %", lambda row: _number(row, "utilisation_percent", ".0f")),
        Column("W", lambda row: _number(row, "power_w", ".0f")),
        Column("°C", lambda row: _number(row, "temperature_c", ".0f")),
        Column("held back by", lambda row: _held(row["reading"]["throttled"])),
    ],
    details=[],
    empty="nobody tells of GPUs of that model within the last minute; see `fleetune doctor`",
)


@app.command("gpus")
@asks
def gpus(ask: Ask, model: Model, prometheus: FromPrometheus = None) -> None:
    """Show what the GPUs of a model's engines say: a dash where a card does not tell."""
    if prometheus is None:
        ask.show_list(GPU, ask.client.get("/fleet/gpus", model=model))
        return
    from pydantic_core import to_jsonable_python

    ask.show_list(GPU, [to_jsonable_python(each) for each in _prometheus(prometheus).gpus(model)])


def _prometheus(url: str) -> MetricsSource:
    """Return a Prometheus to be asked in the installation's stead; its client is loaded only then."""
    from controlplane.adapters.metrics_prometheus import PrometheusMetrics

    return PrometheusMetrics(url, clock=utc_now)


def _of_points(row: Mapping[str, Any], of: Callable[[Sequence[float]], float]) -> str | None:
    values = [value for _, value in row["points"]]
    return format(of(values), ".4g") if values else None


def _last(values: Sequence[float]) -> float:
    return values[-1]


def _held(reasons: Sequence[str] | None) -> str | None:
    return None if reasons is None else ", ".join(reasons) or "nothing"


def _number(row: Mapping[str, Any], name: str, form: str) -> str | None:
    value = row["reading"][name]
    return None if value is None else format(value, form)
