"""What is loaded on running engines beside their own weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from controlplane.domain.engines.fleet import Engine


class AdapterLoader(Protocol):
    """LoRA adapters of running engines. Every method raises Unavailable when the engine does not answer."""

    def loaded(self, engine: Engine) -> Mapping[str, str]:
        """Return the names an engine has loaded, with what it says of their path."""

    def load(self, engine: Engine, name: str, path: str) -> None:
        """Load an adapter; one of that name that is loaded already stays. Raises InvalidInput for what is refused."""

    def unload(self, engine: Engine, name: str) -> None:
        """Unload an adapter; one that is not loaded is fine."""
