"""Batches as OpenAI's API has them: their states, and what is shown of them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.door.identity import DEFAULT_TENANT, Principal

ENDPOINTS = frozenset({"/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"})
WINDOW_S = 24 * 3600
WINDOW = "24h"
"""The only `completion_window` that OpenAI has."""

MOST_LINES = 50_000
MOST_ERRORS = 100
MOST_METADATA = 16


class BatchStatus(StrEnum):
    VALIDATING = "validating"
    FAILED = "failed"  # its file cannot be used
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"  # the window was over: what was answered until then is kept
    CANCELLED = "cancelled"


ENDED = frozenset({BatchStatus.FAILED, BatchStatus.COMPLETED, BatchStatus.EXPIRED, BatchStatus.CANCELLED})


class LineError(Value):
    """What is wrong with a line of an input file."""

    line: int | None
    code: str
    message: str


class StoredFile(Value):
    """One file of a tenant."""

    file_id: str
    tenant: str
    filename: str
    purpose: str
    size: int
    created_at: int = Field(description="Unix seconds, as in OpenAI's API.")

    def shown(self) -> dict[str, Any]:
        """Return it as OpenAI's API has it."""
        return {
            "id": self.file_id,
            "object": "file",
            "bytes": self.size,
            "created_at": self.created_at,
            "filename": self.filename,
            "purpose": self.purpose,
            "status": "processed",
        }


class Batch(Value):
    """One batch. Times are Unix seconds."""

    batch_id: str
    principal: Principal | None = Field(description="Who gave it; None where nobody needs a key.")
    by_key: bool = Field(default=False, description="By an API key: it must still be there for each line.")
    endpoint: str
    input_file_id: str
    metadata: Mapping[str, str] = Field(default_factory=dict)
    created_at: int
    status: BatchStatus = BatchStatus.VALIDATING
    began_at: int | None = None
    ended_at: int | None = None
    output_file_id: str | None = None
    error_file_id: str | None = None
    total: int = 0
    completed: int = 0
    failed: int = 0
    errors: tuple[LineError, ...] = ()

    @property
    def tenant(self) -> str:
        return self.principal.tenant if self.principal else DEFAULT_TENANT

    @property
    def expires_at(self) -> int:
        return self.created_at + WINDOW_S

    @property
    def has_ended(self) -> bool:
        return self.status in ENDED

    def shown(self, *, cancelling: bool = False) -> dict[str, Any]:
        """Return it as OpenAI's API has it; `cancelling`: its end was asked for and is not there yet."""
        ended = {f"{state}_at": self.ended_at if self.status is state else None for state in ENDED}
        errors = [each.model_dump(mode="json") | {"param": None} for each in self.errors]
        return {
            "id": self.batch_id,
            "object": "batch",
            "endpoint": self.endpoint,
            "errors": {"object": "list", "data": errors} if errors else None,
            "input_file_id": self.input_file_id,
            "completion_window": WINDOW,
            "status": "cancelling" if cancelling and not self.has_ended else self.status.value,
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_at,
            "in_progress_at": self.began_at,
            "expires_at": self.expires_at,
            **ended,
            "request_counts": {"total": self.total, "completed": self.completed, "failed": self.failed},
            "metadata": dict(self.metadata) or None,
        }
