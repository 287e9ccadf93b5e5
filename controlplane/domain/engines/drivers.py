"""Which kind of engine has which driver."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.domain.engines.driver import EngineDriver
from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.engines.flags import FlagValue
from controlplane.domain.engines.kinds.embed import EMBED
from controlplane.domain.engines.kinds.emulator import EMULATOR
from controlplane.domain.engines.kinds.llama_cpp import LLAMA_CPP
from controlplane.domain.engines.kinds.sglang import SGLANG
from controlplane.domain.engines.kinds.tensorrt_llm import TENSORRT_LLM
from controlplane.domain.engines.kinds.tgi import TGI
from controlplane.domain.engines.kinds.vllm import VLLM

_DRIVERS: Mapping[EngineKind, EngineDriver] = {
    EngineKind.VLLM: VLLM,
    EngineKind.EMULATOR: EMULATOR,
    EngineKind.SGLANG: SGLANG,
    EngineKind.TENSORRT_LLM: TENSORRT_LLM,
    EngineKind.TGI: TGI,
    EngineKind.LLAMA_CPP: LLAMA_CPP,
    EngineKind.EMBED: EMBED,
    EngineKind.COMMAND: EngineDriver(title="an engine of one's own", command=("{python}", "-c", "{port}", "{args}")),
}


def driver_of(kind: EngineKind, mapping: EngineDriver | None = None) -> EngineDriver:
    """Return how engines of a kind are launched, read and spoken to. `mapping` is the user's own, for kind command."""
    return mapping or _DRIVERS[kind]


def check_mapping(kind: EngineKind, mapping: EngineDriver | None) -> None:
    """Raise ValueError unless exactly the kind that is a user's own has a mapping."""
    if kind is EngineKind.COMMAND and mapping is None:
        raise ValueError("kind command needs a mapping: a file that says how the engine is driven (docs/engines.md)")
    if kind is not EngineKind.COMMAND and mapping is not None:
        raise ValueError(f"mapping goes with kind command; how {kind.value} is driven is known")


def engine_key(driver: EngineDriver, flags: Mapping[str, FlagValue], env: Mapping[str, str]) -> str | None:
    """Return the key an engine with these flags and variables asks its clients for, None when it asks for none."""
    key = flags.get(driver.key_flag or "", env.get(driver.key_variable or ""))
    return None if key is None else str(key).split()[0]
