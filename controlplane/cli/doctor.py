"""`fleetune doctor`: what is wrong with this host and this installation, and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controlplane.cli.asking import HERE, DataDir, Out
from controlplane.cli.errors import plain_errors
from controlplane.cli.installation import checks, hangs
from controlplane.cli.installation.check import Check, Outcome
from controlplane.cli.tables.show import Column, Output, as_json, as_table, as_yaml, field

EXIT_BROKEN = 1

_COLUMNS = [
    Column("what", field("name")),
    Column("is", field("outcome")),
    Column("found", field("found")),
]


@plain_errors
def doctor(
    data_dir: DataDir = HERE,
    prometheus: Annotated[
        str | None, typer.Option(envvar="FLEETUNE_PROMETHEUS_URL", help="A Prometheus to look for.")
    ] = None,
    redis: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT or URL of a Redis to look for.", envvar="FLEETUNE_LIMITS_REDIS_URL", show_envvar=True
        ),
    ] = None,
    output: Out = Output.TABLE,
) -> None:
    """Look for what is wrong with this host and installation, and say what to do; exit code 1 when something is."""
    found = examined(data_dir, prometheus=prometheus, redis=redis)
    rows = [each._asdict() for each in found]
    match output:
        case Output.JSON:
            as_json(rows)
        case Output.YAML:
            as_yaml(rows)
        case Output.NAME:
            for each in found:
                typer.echo(each.name)
        case Output.TABLE | Output.WIDE:
            as_table(rows, _COLUMNS, empty="", wide=output is Output.WIDE)
            for each in found:
                if each.do:
                    typer.echo(f"{each.name}: {each.do}")
    if any(each.outcome is Outcome.BROKEN for each in found):
        raise typer.Exit(EXIT_BROKEN)


def examined(data_dir: Path, *, prometheus: str | None, redis: str | None) -> list[Check]:
    """Return every check of an installation; of one that is not there yet, those of the host."""
    from controlplane import settings as installation
    from controlplane.adapters.gpus_nvml import NvmlGpus
    from controlplane.cli.installation.running import supervisor_pid
    from controlplane.host.clock import FILE, utc_now
    from controlplane.host.passes import passed_s_ago
    from controlplane.tokens.fetch import fetch_keys
    from controlplane.wiring import machine

    settings = installation.load(data_dir.absolute())
    found = [
        checks.installation(settings.data_dir, supervisor_pid(settings.data_dir)),
        checks.driver(),
        checks.gpu_metrics(NvmlGpus().readings),
        checks.vllm(),
        checks.disk(settings.data_dir),
        checks.ports(settings, up=supervisor_pid(settings.data_dir) is not None),
    ]
    if supervisor_pid(settings.data_dir) is not None:
        asked = {"api": f"{settings.api_url}/api/v1/health"}
        asked |= {} if settings.tls_cert else {"gateway": f"{settings.gateway_url}/health"}
        found.append(hangs.processes(asked, passed_s_ago(settings.data_dir)))
    if installation.is_there(settings.data_dir):  # opening a store makes one
        clock = machine.installation_clock(settings) if (settings.data_dir / FILE).exists() else utc_now
        found.append(checks.clock(settings.data_dir, clock, utc_now))
        found.append(checks.store(lambda: machine.open_store(settings), settings.database))
    found.append(checks.issuers(settings.issuers_file, fetch_keys))
    found.append(checks.mlflow(settings.mlflow_url))
    return [*found, checks.prometheus(prometheus), checks.redis(redis)]
