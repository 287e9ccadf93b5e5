"""Every answer of the API passes here: secrets are hidden in one place, not by each router."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse

from controlplane.domain.masking import masked


class MaskedJson(JSONResponse):
    """JSON without the values of environments, secret flags and secret words of commands."""

    def render(self, content: Any) -> bytes:
        return super().render(masked(content))
