"""How much of batches may be kept: of a tenant, of all, and what the disk must have left. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from pydantic import Field

from controlplane.domain.base import Value


class BatchQuota(Value):
    """What may be kept. Results and what of a batch is answered so far count as uploads do."""

    tenant_bytes: int = Field(default=2 << 30, ge=0, description="Kept for one tenant.")
    all_bytes: int = Field(default=20 << 30, ge=0, description="Kept for all tenants.")
    tenant_files: int = Field(default=1_000, ge=0)
    tenant_open_batches: int = Field(default=50, ge=0, description="Batches of a tenant that have not ended.")
    tenant_batches: int = Field(default=10_000, ge=0, description="Batches of a tenant, those that ended too.")
    free_disk_bytes: int = Field(default=1 << 30, ge=0, description="Left free on the disk, whatever else is allowed.")


class Full(StrEnum):
    """Which bound is reached."""

    TENANT_BYTES = "tenant_bytes"
    TENANT_FILES = "tenant_files"
    TENANT_OPEN_BATCHES = "tenant_open_batches"
    TENANT_BATCHES = "tenant_batches"
    ALL_BYTES = "all_bytes"
    DISK = "disk"


class Kept(NamedTuple):
    """What is kept for a tenant, uploads under way with it."""

    size_bytes: int = 0
    files: int = 0


def upload_refused(
    quota: BatchQuota, kept: Mapping[str, Kept], *, tenant: str, size_bytes: int, free_bytes: int
) -> Full | None:
    """Return the bound that an upload of so many bytes would break, None when it may come.

    `free_bytes` is what the disk has left beside the uploads under way.
    """
    own = kept.get(tenant, Kept())
    if own.files >= quota.tenant_files:
        return Full.TENANT_FILES
    if own.size_bytes + size_bytes > quota.tenant_bytes:
        return Full.TENANT_BYTES
    if sum(each.size_bytes for each in kept.values()) + size_bytes > quota.all_bytes:
        return Full.ALL_BYTES
    return Full.DISK if free_bytes - size_bytes < quota.free_disk_bytes else None


def batch_refused(quota: BatchQuota, *, open_batches: int, batches: int, free_bytes: int) -> Full | None:
    """Return the bound that one more batch of a tenant would break, None when it may come."""
    if open_batches >= quota.tenant_open_batches:
        return Full.TENANT_OPEN_BATCHES
    if batches >= quota.tenant_batches:
        return Full.TENANT_BATCHES
    return Full.DISK if free_bytes < quota.free_disk_bytes else None
