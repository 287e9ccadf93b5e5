"""`fleetune fleet ...`: engines and GPUs."""

from __future__ import annotations

from typing import Annotated

import typer

from controlplane.cli.asking import Ask, Noun, asks
from controlplane.cli.tables.show import Column, Output, field
from controlplane.host.clock import utc_now

ENGINE = Noun(
    "/fleet",
    columns=[
        Column("engine", field("spec.engine_id")),
        Column("owner", field("spec.owner")),
        Column("state", field("state")),
        Column("GPUs", field("gpu_indices")),
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
    ],
    empty="",
)


@app.command("metrics")
@asks
def metrics(
    ask: Ask,
    model: Annotated[str, typer.Argument(help="The name clients use in `model`.")],
    prometheus: Annotated[
        str | None, typer.Option(envvar="FLEETUNE_PROMETHEUS_URL", help="Ask this Prometheus, not the installation.")
    ] = None,
) -> None:
    """Show what a model's engines say of themselves: a dash where nobody told, or nothing new."""
    if prometheus is None:
        ask.show_one(NUMBERS, ask.client.get("/fleet/metrics", model=model))
        return
    from controlplane.adapters.metrics_prometheus import PrometheusMetrics

    found = PrometheusMetrics(prometheus, clock=utc_now).read(model)
    ask.show_one(NUMBERS, found.model_dump(mode="json"))
