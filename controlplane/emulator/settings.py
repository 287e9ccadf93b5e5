"""Everything one emulated engine was started with."""

from __future__ import annotations

from pydantic import Field

from controlplane.domain.base import Value
from controlplane.domain.engines.driver import EngineDriver
from controlplane.domain.engines.engine import EngineConfig
from controlplane.emulator.adapters import AdapterSpec
from controlplane.emulator.cors import Cors
from controlplane.emulator.faults import Faults


class EmulatorSettings(Value):
    """`config` holds vLLM's flags apart from those of the HTTP server, which have fields of their own."""

    model: str
    served_names: tuple[str, ...]
    host: str
    port: int = Field(ge=0, le=65535)
    api_keys: tuple[str, ...] = Field(default=(), repr=False)
    shutdown_timeout_s: int = Field(ge=0, description="Seconds SIGTERM waits for running requests; 0 cuts them.")
    cors: Cors = Cors()
    config: EngineConfig
    adapters: tuple[AdapterSpec, ...] = Field(default=(), description="--lora-modules: loaded at the start.")
    gpu: str
    profile: str | None
    startup_s: float | None = Field(default=None, description="Emulated start-up; None: what was measured on an H200.")
    first_use_s: float = Field(default=0, ge=0, description="Emulated stall at the first step of each size.")
    time_lapse: float = Field(default=1.0, ge=0.1, le=50, description="Emulated seconds per wall-clock second.")
    admin_port: int | None = None
    seed: int = 0
    speaks: EngineDriver | None = Field(default=None, description="Another engine's ways; None: vLLM's.")
    faults: Faults = Faults()
    runtime_adapters: bool = Field(default=False, description="VLLM_ALLOW_RUNTIME_LORA_UPDATING.")
    dev_mode: bool = Field(default=False, description="VLLM_SERVER_DEV_MODE: routes that nobody else may reach.")
    layer_partition: str | None = Field(default=None, description="VLLM_PP_LAYER_PARTITION: layers of each stage.")
    visible_devices: int | None = Field(default=None, description="GPUs in CUDA_VISIBLE_DEVICES; None: unset.")
