"""Which processes make one installation, and the command line of each."""

from __future__ import annotations

import os
import sys

from controlplane.cli.installation.supervisor import Program
from controlplane.settings import Settings
from controlplane.telemetry.tracing import ENDPOINT_VARIABLE, SHARE_VARIABLE
from dashboards.run import KEY_VARIABLE, LOG_VARIABLE, URL_VARIABLE, dashboard_command

DRAIN_S = 30.0


def programs(settings: Settings, *, dashboard: bool = True) -> list[Program]:
    """Return the programs in the order they are started; they are stopped the other way round."""
    wanted = [_api(settings), _gateway(settings), _controller(settings)]
    wanted += [_worker(settings, number) for number in range(1, settings.workers + 1)]
    return [*wanted, _dashboard(settings)] if dashboard else wanted


def _api(settings: Settings) -> Program:
    return Program("api", process_command(settings, "api"), _environment(settings))


def _controller(settings: Settings) -> Program:
    return Program("controller", process_command(settings, "controller"), _environment(settings))


def _worker(settings: Settings, number: int) -> Program:
    name = f"worker-{number}"
    return Program(
        name, process_command(settings, "worker", f"--name={name}", name=name), _environment(settings), stop_s=20
    )


def _gateway(settings: Settings) -> Program:
    command = [sys.executable, "-m", "controlplane.gateway", "--name=gw-1", f"--data-dir={settings.data_dir}"]
    command += [f"--host={settings.host}", f"--port={settings.gateway_port}"]
    command += [f"--admin-host={settings.gateway_admin_host}", f"--admin-port={settings.gateway_admin_port}"]
    command += [f"--admin-token-file={settings.admin_token_file}"]
    command += [] if settings.issuers_file is None else [f"--issuers-file={settings.issuers_file}"]
    command += [] if settings.tls_cert is None else [f"--tls-cert={settings.tls_cert}", f"--tls-key={settings.tls_key}"]
    command += [f"--cors-origin={origin}" for origin in settings.cors_origins]
    command += [] if settings.audit_days is None else [f"--audit-days={settings.audit_days:g}"]
    command += [] if settings.batch_days is None else [f"--batch-days={settings.batch_days:g}"]
    command += [] if settings.batch_s3 is None else [f"--batch-s3={settings.batch_s3}"]
    grpc = [f"--grpc-port={settings.grpc_port}", f"--grpc-host={settings.host}"]
    command += [] if settings.grpc_port is None else grpc
    quota = {"tenant": settings.batch_tenant_bytes, "all": settings.batch_all_bytes}
    command += [f"--batch-{whose}-bytes={size}" for whose, size in quota.items() if size is not None]
    command += [f"--log-file={settings.log_file('gateway')}"]
    command += ["--websocket"] if settings.websocket else []
    return Program("gateway", [*command, f"--drain-s={DRAIN_S:g}"], _environment(settings), stop_s=DRAIN_S + 5)


def _dashboard(settings: Settings) -> Program:
    key = settings.dashboard_key_file.read_text().strip()
    environment = _environment(settings) | {URL_VARIABLE: settings.api_url, KEY_VARIABLE: key}
    environment[LOG_VARIABLE] = str(settings.log_file("dashboard"))
    return Program("dashboard", dashboard_command(settings.dashboard_port, settings.api_url), environment)


def process_command(settings: Settings, kind: str, *options: str, name: str | None = None) -> list[str]:
    """Return what runs a process of the installation; its log has its name, or its kind where it has none."""
    program = [sys.executable, "-m", "controlplane.cli.main", "process", kind]
    return [*program, f"--data-dir={settings.data_dir}", f"--log-file={settings.log_file(name or kind)}", *options]


def _environment(settings: Settings) -> dict[str, str]:
    """The installation's collector goes before one that the terminal's environment names."""
    collector = {ENDPOINT_VARIABLE: settings.otlp_endpoint, SHARE_VARIABLE: f"{settings.trace_share:g}"}
    told = {} if settings.otlp_endpoint is None else {name: str(value) for name, value in collector.items()}
    return dict(os.environ) | {"PYTHONUNBUFFERED": "1"} | told
