"""Where one installation lives and on which ports it listens. Written by `fleetune up`, read by every process of it.

A chart writes the file instead; it lies where `FLEETUNE_INSTALLATION` says then, and the store's URL, which holds a
password, comes by `FLEETUNE_STORE_URL`.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, ValidationError

from controlplane.domain.base import Value
from controlplane.domain.errors import InvalidInput, Unavailable
from controlplane.domain.load_pods import LoadPods
from controlplane.domain.operations.spot import Cloud
from controlplane.host.addresses import url_of
from controlplane.host.files import write_whole
from controlplane.reading.problems import describe

FILE = "installation.json"
FILE_VARIABLE = "FLEETUNE_INSTALLATION"
STORE_VARIABLE = "FLEETUNE_STORE_URL"
POD_VARIABLES = ("POD_NAME", "POD_UID", "POD_IP")
DATABASE = "fleetune.db"


class AdminTrust(Value):
    """How gateways at https are known on their admin ports: pods are reached by addresses that no certificate names."""

    ca: Path = Field(description="PEM file of who signed their certificate.")
    server_name: str = Field(min_length=1, description="A DNS name that it must be for.")


class ClusterAccess(Value):
    """Where a fleet on Kubernetes lives. Without a file: the usual place, or the pod that Fleetune runs in."""

    namespace: str
    kubeconfig: Path | None = None
    context: str | None = None
    gateways: bool = Field(default=False, description="Gateways are pods of it too; False: processes of this host.")
    admin_trust: AdminTrust | None = Field(default=None, description="Their admin ports speak TLS; None: plain.")
    load_pods: LoadPods | None = Field(default=None, description="What loads trials; None: the worker's own processes.")


class Settings(Value):
    """One installation. Everything it keeps lies under `data_dir`, the store too unless `store_url` says otherwise."""

    data_dir: Path
    store_url: str | None = Field(default=None, description="SQLAlchemy URL; None is SQLite in the data folder.")
    host: str = "127.0.0.1"
    api_port: int = Field(default=8700, ge=1, le=65535)
    gateway_port: int = Field(default=8000, ge=1, le=65535)
    gateway_admin_port: int = Field(default=8001, ge=1, le=65535)
    dashboard_port: int = Field(default=8501, ge=1, le=65535)
    gpus: tuple[int, ...] = Field(default=(), description="Indices of this host's GPUs, emulated or real.")
    spot_gpus: tuple[int, ...] = Field(default=(), description="Of these, those that may be taken back at a notice.")
    reclaims_from: Cloud | None = Field(
        default=None, description="Ask this cloud's metadata service whether the host is taken back; None: nobody."
    )
    reclaims_url: str | None = Field(default=None, description="Where it answers; None: where that cloud has it.")
    issuers_file: Path | None = Field(default=None, description="YAML naming the issuers whose tokens are taken.")
    tls_cert: Path | None = Field(default=None, description="PEM certificate of the gateway's port; None: http.")
    tls_key: Path | None = None
    audit_days: float | None = Field(default=None, gt=0, description="The gateway keeps an audit log for so long.")
    cors_origins: tuple[str, ...] = Field(default=(), description="Web origins whose pages may ask the gateway.")
    websocket: bool = Field(default=False, description="The gateway answers chats over WebSockets too.")
    grpc_port: int | None = Field(default=None, ge=1, le=65535, description="The gateway speaks gRPC there too.")
    batch_days: float | None = Field(default=None, gt=0, description="The gateway offers batches, kept for so long.")
    batch_s3: str | None = Field(default=None, description="Bucket, with a prefix, for files of batches; None: none.")
    batch_tenant_bytes: int | None = Field(
        default=None, ge=0, description="Kept for a tenant; None: as the gateway has it."
    )
    batch_all_bytes: int | None = Field(default=None, ge=0, description="Kept for all tenants.")
    otlp_endpoint: str | None = Field(default=None, description="Collector of traces, OTLP over HTTP; None: none.")
    trace_share: float = Field(default=0.05, ge=0, le=1, description="Share of the common traces that are kept.")
    mlflow_url: str | None = Field(default=None, description="The MLflow whose models services may follow; None: none.")
    workers: int = Field(default=1, ge=0, description="Tuner workers.")
    cluster: ClusterAccess | None = Field(default=None, description="Engines are pods of it; None: of this host.")
    secrets_dir: Path | None = Field(default=None, description="A folder of mounted secrets; None: the data folder.")

    @property
    def database(self) -> str:
        return self.store_url or f"sqlite:///{self.data_dir / DATABASE}"

    @property
    def engines_dir(self) -> Path:
        return self.data_dir / "engines"

    @property
    def reclaims_dir(self) -> Path:
        """Notices that GPUs of this host are taken back, a file each."""
        return self.data_dir / "reclaims"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"

    def log_file(self, process: str) -> Path:
        """What this process logs: JSON lines, rotated."""
        return self.logs_dir / f"{process}.log"

    @property
    def metrics_file(self) -> Path:
        """What engines said of themselves within the last day; may be deleted at any time."""
        return self.data_dir / "metrics.db"

    @property
    def reports_dir(self) -> Path:
        return self.data_dir / "load"

    @property
    def admin_token_file(self) -> Path:
        """Shared by the controller and the gateways of this installation, readable by the owner only."""
        return (self.secrets_dir or self.data_dir) / "admin-token"

    @property
    def alert_secret_file(self) -> Path:
        """What webhooks of alerts may be signed with, put there by a person; without it none is taken by signature."""
        return (self.secrets_dir or self.data_dir) / "alert-secret"

    @property
    def dashboard_key_file(self) -> Path:
        """The key of this installation's own dashboard, which goes on when API keys are made; owner only."""
        return (self.secrets_dir or self.data_dir) / "dashboard-key"

    @property
    def operator_key_file(self) -> Path:
        """The key of the command line on this host: who reads the data folder may do everything; owner only."""
        return self.data_dir / "operator-key"

    @property
    def api_url(self) -> str:
        return url_of(self.host, self.api_port)

    @property
    def gateway_url(self) -> str:
        return url_of(self.host, self.gateway_port, tls=self.tls_cert is not None)

    @property
    def gateway_admin_host(self) -> str:
        """Loopback, in the family of `host`: the controller of this host asks it, nobody else."""
        return "::1" if ":" in self.host else "127.0.0.1"


class OwnPod(NamedTuple):
    """The pod that this process runs in."""

    name: str
    uid: str
    address: str


def own_pod() -> OwnPod:
    """Return the pod of this process, as a chart tells it. Raises InvalidInput when it runs in none."""
    told = [os.environ.get(variable, "") for variable in POD_VARIABLES]
    if not all(told):
        raise InvalidInput(
            "load_pods is for workers that are pods",
            why=f"the generators connect to the worker, and {', '.join(POD_VARIABLES)} do not say where it is",
            allowed="the chart, or no load_pods: the worker's own processes then load trials",
        )
    return OwnPod(*told)


def save(settings: Settings) -> None:
    """Write the installation's file. Raises Unavailable when the folder cannot be written."""
    target = settings.data_dir / FILE
    try:
        write_whole(target, settings.model_dump_json(indent=1))
    except OSError as error:
        raise Unavailable(f"cannot write to {settings.data_dir}", why=error.strerror or str(error)) from error


def is_there(data_dir: Path) -> bool:
    """Say whether a folder holds an installation; `key create` before the first `up` makes the store alone."""
    told = any(os.environ.get(variable) for variable in (FILE_VARIABLE, STORE_VARIABLE))
    return told or any((data_dir / name).exists() for name in (FILE, DATABASE))


def load(data_dir: Path) -> Settings:
    """Read the installation in `data_dir`; defaults when there is none yet. Raises InvalidInput for a broken file."""
    path = Path(os.environ.get(FILE_VARIABLE) or data_dir / FILE)
    own: dict[str, object] = {"data_dir": data_dir}
    if store_url := os.environ.get(STORE_VARIABLE):
        own["store_url"] = store_url
    if not path.exists():
        return Settings.model_validate(own)
    try:
        return Settings.model_validate_json(path.read_text()).evolve(**own)
    except ValidationError as error:
        raise InvalidInput(f"{path} is broken", why=describe(error)) from error
    except OSError as error:
        raise InvalidInput(f"cannot read {path}", why=error.strerror or str(error)) from error
