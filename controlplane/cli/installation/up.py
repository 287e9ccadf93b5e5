"""`fleetune up`: the control plane of one installation, supervised until Ctrl-C."""

from __future__ import annotations

import secrets
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer

from controlplane import settings as installation
from controlplane.cli.errors import plain_errors
from controlplane.cli.files import require_folder_place, require_readable
from controlplane.cli.installation.compiling import compile_twin
from controlplane.cli.installation.hosts import FleetKind, cluster_of, gpus_of, spot_of
from controlplane.cli.installation.ports import require_free
from controlplane.cli.installation.programs import programs
from controlplane.cli.installation.running import supervisor_pid
from controlplane.cli.installation.supervisor import Supervisor
from controlplane.domain.catalogue import check_url
from controlplane.domain.errors import Conflict, InvalidInput
from controlplane.domain.operations.spot import Cloud
from controlplane.domain.service import ServiceSpec
from controlplane.host.addresses import is_loopback, url_of
from controlplane.host.clock import set_steady_clock
from controlplane.host.files import write_whole
from controlplane.host.locks import alone
from controlplane.reading.issuers_file import load_issuers
from controlplane.reading.service_file import load_service
from controlplane.services.fleet.serving import register_service
from controlplane.services.fleet.unknown_names import unknown_names
from controlplane.services.schedules import list_schedules, upcoming
from controlplane.settings import Settings
from controlplane.telemetry import logs
from controlplane.telemetry.tracing import require_installed
from controlplane.wiring import machine
from dashboards.run import HOST as DASHBOARD_HOST

_PROCESSES = FleetKind.PROCESSES
_ALLOWED = "`fleetune service register -f service.yaml` adds or changes a service, `fleetune down` stops it"


@plain_errors
def up(
    file: Annotated[list[Path], typer.Option("-f", "--file", help="service.yaml; give it again for more services.")],
    data_dir: Annotated[Path, typer.Option(help="Where this installation lives.")] = Path(".fleetune"),
    store_url: Annotated[str | None, typer.Option(help="Database URL; default: SQLite in the data folder.")] = None,
    host: Annotated[
        str, typer.Option(help="Address to listen on; other than loopback needs an API key.")
    ] = "127.0.0.1",
    api_port: int = 8700,
    gateway_port: int = 8000,
    gateway_admin_port: int = 8001,
    dashboard_port: int = 8501,
    workers: Annotated[int, typer.Option(help="Tuner workers.")] = 1,
    gpus: Annotated[
        int | None, typer.Option(min=1, help="GPUs of this host; default: asks nvidia-smi, or the spec.")
    ] = None,
    spot_gpu: Annotated[
        list[int] | None, typer.Option(min=0, help="Index of a GPU that may be taken back; again for more.")
    ] = None,
    reclaims_from: Annotated[
        Cloud | None, typer.Option(help="Ask this cloud's metadata service whether this host is taken back.")
    ] = None,
    reclaims_url: Annotated[
        str | None, typer.Option(help="Where that service answers; default: where the cloud has it.")
    ] = None,
    issuers: Annotated[Path | None, typer.Option(help="YAML naming the issuers (OIDC) whose tokens are taken.")] = None,
    tls_cert: Annotated[Path | None, typer.Option(help="PEM certificate: the gateway serves https.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Its key.")] = None,
    cors_origin: Annotated[
        list[str] | None, typer.Option(help="Web origin whose pages may ask the gateway, * for all; default: none.")
    ] = None,
    audit_days: Annotated[
        float | None, typer.Option(help="Keep an audit log of requests for so many days; without it there is none.")
    ] = None,
    fleet: Annotated[FleetKind, typer.Option(help="Where engines run: processes of this host, or pods.")] = _PROCESSES,
    kubeconfig: Annotated[Path | None, typer.Option(help="With --fleet kubernetes; default: KUBECONFIG.")] = None,
    context: Annotated[str | None, typer.Option(help="Context of the kubeconfig; default: its current one.")] = None,
    namespace: Annotated[str | None, typer.Option(help="Namespace of the engines; default: the context's.")] = None,
    websocket: Annotated[bool, typer.Option(help="Answer chats over WebSockets too.")] = False,
    grpc_port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Speak the Open Inference Protocol (gRPC) there too.")
    ] = None,
    batch_days: Annotated[
        float | None, typer.Option(help="Offer files and batches, kept for so many days; without it there are none.")
    ] = None,
    batch_s3: Annotated[
        str | None,
        typer.Option(help="BUCKET or BUCKET/PREFIX for files of batches, by AWS_* variables; default: the disk."),
    ] = None,
    batch_tenant_bytes: Annotated[
        int | None, typer.Option(min=0, help="Files and results kept for a tenant; default: 2 GiB.")
    ] = None,
    batch_all_bytes: Annotated[int | None, typer.Option(min=0, help="The same for all; default: 20 GiB.")] = None,
    otlp_endpoint: Annotated[
        str | None, typer.Option(help="Collector of traces, OTLP over HTTP, as http://127.0.0.1:4318; default: none.")
    ] = None,
    trace_share: Annotated[float, typer.Option(min=0, max=1, help="Share of requests that are traced.")] = 0.05,
    mlflow_url: Annotated[
        str | None, typer.Option(help="An MLflow server, as http://mlflow:5000: services may follow its models.")
    ] = None,
    dashboard: bool = True,
) -> None:
    """Run the control plane: api, controller, tuner workers, gateway and dashboard. Ctrl-C stops all of it cleanly."""
    _refuse_second(data_dir)
    require_folder_place(data_dir)
    if (tls_cert is None) != (tls_key is None):
        raise InvalidInput("--tls-cert and --tls-key belong together", why="only one of them was given")
    require_readable(kubeconfig, tls_cert, tls_key)
    specs = [load_service(path) for path in file]
    cluster = cluster_of(fleet, specs, kubeconfig=kubeconfig, context=context, namespace=namespace)
    if otlp_endpoint is not None:
        require_installed()
    load_issuers(issuers)  # a file that cannot be read is said now, not in a log
    here = gpus_of(specs, gpus) if cluster is None else ()
    settings = Settings(
        data_dir=data_dir.resolve(),
        store_url=store_url,
        host=host,
        api_port=api_port,
        gateway_port=gateway_port,
        gateway_admin_port=gateway_admin_port,
        dashboard_port=dashboard_port,
        workers=workers,
        tls_cert=None if tls_cert is None else tls_cert.resolve(),
        tls_key=None if tls_key is None else tls_key.resolve(),
        issuers_file=None if issuers is None else issuers.resolve(),
        cors_origins=tuple(cors_origin or ()),
        audit_days=audit_days,
        gpus=here,
        spot_gpus=spot_of(here, spot_gpu or ()),
        reclaims_from=reclaims_from,
        reclaims_url=reclaims_url,
        cluster=cluster,
        grpc_port=grpc_port,
        batch_days=batch_days,
        batch_s3=batch_s3,
        batch_tenant_bytes=batch_tenant_bytes,
        batch_all_bytes=batch_all_bytes,
        websocket=websocket,
        otlp_endpoint=otlp_endpoint,
        trace_share=trace_share,
        mlflow_url=None if mlflow_url is None else check_url(mlflow_url),
    )
    with alone(settings.data_dir / "up.lock", what=f"the installation in {data_dir} is up already", allowed=_ALLOWED):
        set_steady_clock(settings.data_dir)
        prepare(settings, specs, dashboard=dashboard)
        compile_twin()
        run(settings, dashboard=dashboard)


def _refuse_second(data_dir: Path) -> None:
    """Raise Conflict when this installation is up: another would fight over its engines."""
    pid = supervisor_pid(data_dir)
    if pid is not None:
        raise Conflict(
            f"the installation in {data_dir} is up already",
            why=f"process {pid} runs it",
            allowed=_ALLOWED,
        )


def prepare(settings: Settings, specs: Sequence[ServiceSpec], *, dashboard: bool) -> None:
    """Check everything that can be wrong, then write the installation's file and register the services."""
    ports = {
        "--api-port": settings.api_port,
        "--gateway-port": settings.gateway_port,
        "--gateway-admin-port": settings.gateway_admin_port,
    }
    wanted = {"--dashboard-port": settings.dashboard_port if dashboard else None, "--grpc-port": settings.grpc_port}
    ports |= {option: port for option, port in wanted.items() if port is not None}
    require_free(ports, host=settings.host)
    installation.save(settings)
    store = machine.open_store(settings)
    if not is_loopback(settings.host) and settings.issuers_file is None and not machine.has_keys(store):
        raise InvalidInput(
            f"will not listen on {settings.host} without an API key",
            why="anybody who reaches the port could use the fleet",
            allowed="127.0.0.1, --issuers FILE, or `fleetune key create NAME --scope admin` first",
        )
    _write_secrets(settings)
    clock = machine.installation_clock(settings)
    for spec in specs:
        register_service(store, spec, actor="cli", now=clock())
    for spec in specs:
        for said in unknown_names(store, spec):
            typer.echo(f"note       {spec.name}: {said}")
    for schedule in list_schedules(store):
        typer.echo(f"schedule   {upcoming(schedule, clock())}")


def run(settings: Settings, *, dashboard: bool) -> None:
    """Supervise the installation until SIGINT or SIGTERM, then stop its processes and its engines."""
    supervisor = Supervisor(programs(settings, dashboard=dashboard), settings.data_dir, _said_and_logged(settings))
    asked: list[int] = []

    def ask(number: int, _frame: FrameType | None) -> None:
        asked.append(number)

    signal.signal(signal.SIGINT, ask)
    signal.signal(signal.SIGTERM, ask)
    supervisor.start()
    _announce(settings, dashboard=dashboard)
    try:
        supervisor.run_until(lambda: bool(asked))
    finally:
        typer.echo("stopping ...")
        supervisor.stop()
        machine.stop_all_engines(settings)
        typer.echo("stopped")


def _said_and_logged(settings: Settings) -> Callable[[str], None]:
    """Return what tells the terminal and the supervisor's log, which a terminal that is closed does not take along."""
    note = logs.file_log("supervisor", settings.log_file("supervisor"))

    def say(text: str) -> None:
        typer.echo(text)
        note.warning("%s", text)

    return say


def _write_secrets(settings: Settings) -> None:
    for path in (settings.admin_token_file, settings.dashboard_key_file, settings.operator_key_file):
        if not path.exists():
            write_whole(path, secrets.token_urlsafe(32))


def _announce(settings: Settings, *, dashboard: bool) -> None:
    typer.echo(f"gateway    {settings.gateway_url}/v1   (OpenAI-compatible)")
    typer.echo(f"api        {settings.api_url}/docs")
    if dashboard:
        typer.echo(f"dashboard  {url_of(DASHBOARD_HOST, settings.dashboard_port)}")
    typer.echo(f"logs       {settings.logs_dir}     Ctrl-C stops everything, engines included")
