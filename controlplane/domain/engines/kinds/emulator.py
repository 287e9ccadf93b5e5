"""The emulator: vLLM's flags, API, metrics and messages, and a start that is as short as the user says."""

from __future__ import annotations

from controlplane.domain.engines.kinds.vllm import VLLM

EMULATOR = VLLM.evolve(
    title="emulator",
    command=("{python}", "-m", "controlplane.emulator.main", *VLLM.command[2:]),
    install="it comes with Fleetune",
    compiles_at_first_use=False,  # unless `engine.emulator.first_use_s` says so
    dialect=VLLM.dialect.evolve(prompt_logprobs=False),  # its answers say nothing of a model's
)
