"""`python -m controlplane.gateway`: run one gateway."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import SecretStr, ValidationError

from controlplane.domain.door.batch_quota import BatchQuota
from controlplane.domain.errors import FleetuneError, InvalidInput
from controlplane.gateway.process import run_gateway
from controlplane.gateway.settings import EngineTls, GatewaySettings, TlsFiles
from controlplane.reading.issuers_file import load_issuers
from controlplane.reading.problems import describe
from controlplane.telemetry import logs, tracing

LIMITS_REDIS_VARIABLE = "FLEETUNE_LIMITS_REDIS_URL"
CACHE_REDIS_VARIABLE = "FLEETUNE_CACHE_REDIS_URL"
RABBITMQ_VARIABLE = "FLEETUNE_BATCH_RABBITMQ_URL"
"""Not an option: everybody on a machine sees command lines, and the URL holds a password."""

_QUOTA = BatchQuota()
_DEFAULTS = {name: field.default for name, field in GatewaySettings.model_fields.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run until drained; returns 0, or 2 with one message when it cannot start."""
    parsed = _parser().parse_args(arguments)
    logs.begin("gateway", parsed.__dict__.pop("log_file"))
    try:
        tracing.begin("gateway")
        asyncio.run(run_gateway(_settings(parsed)))
    except FleetuneError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    finally:
        tracing.end()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m controlplane.gateway", description="The data plane of Fleetune.")
    add = parser.add_argument
    add("--data-dir", type=Path, required=True, help="folder for the last routing table and the request records")
    add("--name", default=_DEFAULTS["name"], help="name of this gateway, unique within the data folder")
    add("--host", default=_DEFAULTS["host"], help="address to serve on; beyond loopback every request needs a key")
    add("--port", type=int, default=_DEFAULTS["port"], help="0 takes any free one")
    add("--admin-host", default=_DEFAULTS["admin_host"], help="beyond loopback only with a token")
    add("--admin-port", type=int, default=_DEFAULTS["admin_port"], help="0 takes any free one")
    add("--admin-token-file", type=Path, help="file holding the secret that the admin port asks for")
    add("--log-file", type=Path, help="write the log there, rotated; without it to stderr")
    add("--require-keys", action="store_true", help="ask for a key on loopback too, even while none exists")
    add("--drain-s", type=float, default=_DEFAULTS["drain_s"], help="time for requests in flight after SIGTERM")
    add("--max-body-bytes", type=int, default=_DEFAULTS["max_body_bytes"], help="largest request body")
    add("--audit-days", type=float, help="days for which an audit log of requests is kept; without it there is none")
    feedback = _DEFAULTS["feedback_per_minute"]
    add("--feedback-per-minute", type=float, default=feedback, help="scores that a key, and a tenant, may give")
    add("--websocket", action="store_true", help="answer chats over WebSockets too")
    add("--grpc-port", type=int, help="speak the Open Inference Protocol (gRPC) there too, 0 takes any free port")
    add("--grpc-host", default=_DEFAULTS["grpc_host"], help="address for it; beyond loopback requests need a key")
    add("--batch-days", type=float, help="offer files and batches, kept for so many days; without it there are none")
    add("--batch-at-once", type=int, default=_DEFAULTS["batch_at_once"], help="lines of batches at the same time")
    add("--batch-s3", help="BUCKET[/PREFIX] that keeps contents of files; who and where we are by AWS_* variables")
    add(
        "--batch-tenant-bytes",
        type=int,
        default=_QUOTA.tenant_bytes,
        help="files and results of a tenant that are kept",
    )
    add("--batch-all-bytes", type=int, default=_QUOTA.all_bytes, help="the same of all tenants")
    add("--batch-tenant-files", type=int, default=_QUOTA.tenant_files, help="files of a tenant that are kept")
    add("--batch-tenant-open-batches", type=int, default=_QUOTA.tenant_open_batches, help="its batches under way")
    add("--batch-tenant-batches", type=int, default=_QUOTA.tenant_batches, help="its batches, ended ones too")
    add("--batch-free-disk-bytes", type=int, default=_QUOTA.free_disk_bytes, help="left free on the disk by batches")
    add("--cache-bytes", type=int, default=_DEFAULTS["cache_bytes"], help="memory for kept answers")
    collecting = _DEFAULTS["collecting_bytes"]
    add("--collecting-bytes", type=int, default=collecting, help="memory for answers under way that are to be kept")
    add("--retention-h", type=float, default=_DEFAULTS["retention_h"], help="hours for which records are kept")
    add("--tls-cert", type=Path, help="PEM certificate: serve https; with --tls-key")
    add("--tls-key", type=Path)
    add("--admin-tls-cert", type=Path, help="the same for the admin port")
    add("--admin-tls-key", type=Path)
    add("--engine-ca", type=Path, help="PEM file of who signed the certificates of engines at https")
    add("--engine-cert", type=Path, help="PEM certificate that engines are shown (mTLS); with --engine-key")
    add("--engine-key", type=Path)
    add("--issuers-file", type=Path, help="YAML that names the issuers (OIDC) whose tokens are taken")
    add(
        "--until-stdin-ends",
        action="store_true",
        help="drain when stdin, a pipe, ends, as with its parent",
    )
    add(
        "--cors-origin",
        dest="cors_origins",
        action="append",
        default=[],
        help="web origin whose pages may ask; again for more, * for all",
    )
    add("--seed", type=int, help="makes the split of requests without a session repeatable")
    return parser


def _settings(parsed: argparse.Namespace) -> GatewaySettings:
    fields = vars(parsed)
    token_file, issuers_file = fields.pop("admin_token_file"), fields.pop("issuers_file")
    quota = {name: fields.pop(f"batch_{name}") for name in BatchQuota.model_fields}
    try:
        fields["tls"] = _tls("tls", fields)
        fields["admin_tls"] = _tls("admin-tls", fields)
        fields["engine_tls"] = EngineTls(ca=fields.pop("engine_ca"), own=_tls("engine", fields))
        return GatewaySettings(
            **fields,
            batch_quota=BatchQuota(**quota),
            admin_token=_token(token_file),
            cache_redis_url=_secret(CACHE_REDIS_VARIABLE),
            limits_redis_url=_secret(LIMITS_REDIS_VARIABLE),
            batch_rabbitmq_url=_secret(RABBITMQ_VARIABLE),
            issuers=load_issuers(issuers_file),
        )
    except ValidationError as error:
        raise InvalidInput("the gateway cannot be set up like this", why=describe(error)) from error


def _secret(variable: str) -> SecretStr | None:
    given = os.environ.get(variable, "").strip()
    return SecretStr(given) if given else None


def _tls(prefix: str, fields: dict[str, Any]) -> TlsFiles | None:
    """Take a pair of options out of the fields. Raises InvalidInput for half a pair."""
    name = prefix.replace("-", "_")
    certificate, key = fields.pop(f"{name}_cert"), fields.pop(f"{name}_key")
    if (certificate is None) != (key is None):
        raise InvalidInput(f"--{prefix}-cert and --{prefix}-key belong together", why="only one of them was given")
    return None if certificate is None else TlsFiles(certificate=certificate, key=key)


def _token(path: Path | None) -> SecretStr | None:
    if path is None:
        return None
    try:
        secret = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read the admin token file {path}", why=str(error)) from error
    if not secret:
        raise InvalidInput(f"the admin token file {path} is empty")
    return SecretStr(secret)


if __name__ == "__main__":
    sys.exit(main())
