"""How one gateway process is set up."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from pydantic import Field, SecretStr

from controlplane.domain.base import Value
from controlplane.domain.door.batch_quota import BatchQuota
from controlplane.domain.door.issuer import Issuer
from controlplane.host.addresses import is_loopback

GC_THRESHOLDS = (20_000, 20, 20)
"""A request makes some 200 objects that hold others: by Python's own 700 they are looked through every few requests,
which was a tenth of all CPU time. Most go by themselves, without being looked for.
"""


class TlsFiles(Value):
    """PEM files: a certificate with its chain, and its key."""

    certificate: Path
    key: Path


class EngineTls(Value):
    """How engines at https are trusted, and what they are shown of us (mTLS). None: the system's trust, and nothing."""

    ca: Path | None = None
    own: TlsFiles | None = None


class GatewaySettings(Value):
    data_dir: Path
    name: str = Field(default="gw-1", pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62})$")
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    admin_host: str = "127.0.0.1"
    admin_port: int = Field(default=8001, ge=0, le=65535)
    admin_token: SecretStr | None = None
    require_keys: bool = Field(
        default=False, description="Answer 401 to everything until keys are configured; always so beyond loopback."
    )
    drain_s: float = Field(default=30, ge=0)
    max_body_bytes: int = Field(default=32 << 20, ge=1)
    head_within_s: float = Field(default=15, gt=0, description="A request's head that takes longer is refused.")
    body_within_s: float = Field(default=120, gt=0, description="A body that takes longer is refused.")
    retention_h: float = Field(default=48, gt=0)
    cache_bytes: int = Field(default=64 << 20, ge=0, description="Memory for answers that are kept; 0: none.")
    collecting_bytes: int = Field(
        default=64 << 20, ge=0, description="Memory for copies of all answers under way that are to be kept; 0: none."
    )
    cache_redis_url: SecretStr | None = Field(default=None, description="Keep answers there, for several gateways.")
    cache_answer_within_s: float = Field(default=0.25, gt=0, description="A cache that takes longer counts as lost.")
    limits_redis_url: SecretStr | None = Field(default=None, description="Count limits there, for several gateways.")
    limits_gone_after_s: float = Field(
        default=10, gt=4, description="A gateway that Redis has not heard of for so long holds no places there."
    )
    limits_answer_within_s: float = Field(default=0.25, gt=0, description="A Redis that takes longer counts as lost.")
    audit_days: float | None = Field(default=None, gt=0, description="Keep an audit log for so long; None: none.")
    feedback_per_minute: float = Field(default=600, gt=0, description="Scores that a key, and a tenant, may give.")
    websocket: bool = Field(default=False, description="Answer chats over WebSockets too.")
    grpc_port: int | None = Field(
        default=None, ge=0, le=65535, description="Speak the Open Inference Protocol there; None: not."
    )
    grpc_host: str = "127.0.0.1"
    grpc_within_s: float = Field(default=3600, gt=0, description="A gRPC call takes no longer.")
    batch_days: float | None = Field(
        default=None, gt=0, description="Offer files and batches, kept for so long; None: not."
    )
    batch_file_bytes: int = Field(default=200 << 20, ge=1, description="The largest file that may be uploaded.")
    batch_at_once: int = Field(default=8, ge=1, description="Lines of all batches under way at the same time.")
    batch_rabbitmq_url: SecretStr | None = Field(default=None, description="Queue batches there; None: in the folder.")
    batch_s3: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{1,62}(/[A-Za-z0-9._/-]*)?$",
        description="`bucket` or `bucket/prefix` that keeps contents of files; None: the data folder.",
    )
    batch_quota: BatchQuota = BatchQuota()
    seed: int | None = None
    cors_origins: tuple[str, ...] = Field(
        default=(), description="Web origins whose pages may ask from a browser, `*` for all; empty: none."
    )
    tls: TlsFiles | None = Field(default=None, description="Serve https; None: http.")
    admin_tls: TlsFiles | None = Field(default=None, description="The same for the admin port.")
    engine_tls: EngineTls = EngineTls()
    issuers: tuple[Issuer, ...] = Field(default=(), description="Whose tokens are taken; then nobody asks unproven.")
    until_stdin_ends: bool = Field(default=False, description="Drain when stdin, a pipe, ends: with who started it.")

    @cached_property
    def asks_for_keys(self) -> bool:
        """Say whether a request needs a key even when none exists: revoking the last one must not open the door."""
        hosts = [self.host] if self.grpc_port is None else [self.host, self.grpc_host]
        return self.require_keys or not all(map(is_loopback, hosts))
