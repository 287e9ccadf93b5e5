"""Which kind of engine has which driver."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.domain.engine import EngineKind
from controlplane.domain.engines.driver import EngineDriver
from controlplane.domain.engines.emulator import EMULATOR
from controlplane.domain.engines.vllm import VLLM
from controlplane.domain.flags import FlagValue


def driver_of(kind: EngineKind) -> EngineDriver:
    """Return how engines of a kind are launched, read and spoken to."""
    match kind:
        case EngineKind.VLLM:
            return VLLM
        case EngineKind.EMULATOR:
            return EMULATOR


def engine_key(driver: EngineDriver, flags: Mapping[str, FlagValue], env: Mapping[str, str]) -> str | None:
    """Return the key an engine with these flags and variables asks its clients for, None when it asks for none."""
    key = flags.get(driver.key_flag or "", env.get(driver.key_variable or ""))
    return None if key is None else str(key).split()[0]
