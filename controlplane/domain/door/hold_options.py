"""How requests are held at the gateway while the first replica of a service starts."""

from __future__ import annotations

from pydantic import Field

from controlplane.domain.base import Value


class HoldOptions(Value):
    """Of a service that scales to zero."""

    wait_s: float = Field(gt=0, description="A request that no replica could take by then gets 503.")
    most: int = Field(ge=0, description="Requests held at once by one gateway; beyond it 503.")
