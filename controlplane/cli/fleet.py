"""`fleetune fleet ...`: engines and GPUs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
        Column("state", field("state")),
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


def _held(reasons: Sequence[str] | None) -> str | None:
    return None if reasons is None else ", ".join(reasons) or "nothing"


def _number(row: Mapping[str, Any], name: str, form: str) -> str | None:
    value = row["reading"][name]
    return None if value is None else format(value, form)
