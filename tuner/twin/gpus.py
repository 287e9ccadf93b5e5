"""Data sheet of the GPUs the twin knows: what the vendor promises, before any efficiency is taken off.

Memory is what `torch.cuda.mem_get_info` reports as total, GiB (a few percent below the label); bandwidth and FLOP/s are
the vendor's dense figures (NVIDIA data sheets: A100 2021, L4/L40S 2023, H100/H200 SXM 2024, B200 2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from controlplane.domain.base import Value
from controlplane.domain.errors import InvalidInput


class Gpu(Value):
    """One GPU type. `*_tflops` are dense tensor-core rates, 1e12 FLOP/s; `fp8_tflops` is None without fp8 units."""

    name: str
    memory_gib: float
    bandwidth_gb_s: float
    bf16_tflops: float
    fp8_tflops: float | None
    link_gb_s: float
    """Bandwidth between two GPUs of one host in one direction, GB/s: NVLink where there is one, else PCIe."""

    large_batch_defaults: bool
    """vLLM's default batch limits are larger on GPUs with 70 GiB or more, A100 excepted."""

    def tflops(self, weight_bits: int) -> float:
        """Return the dense matrix rate for weights of `weight_bits` (fp8 units only help where they exist)."""
        if weight_bits == 8 and self.fp8_tflops is not None:
            return self.fp8_tflops
        return self.bf16_tflops


def _gpu(name: str, memory_gib: float, bandwidth: float, bf16: float, fp8: float | None, link: float) -> Gpu:
    large = memory_gib >= 70 and not name.startswith("A100")
    return Gpu(
        name=name,
        memory_gib=memory_gib,
        bandwidth_gb_s=bandwidth,
        bf16_tflops=bf16,
        fp8_tflops=fp8,
        link_gb_s=link,
        large_batch_defaults=large,
    )


_SHEET = (
    _gpu("A10G", 22.0, 600, 70, None, 16),
    _gpu("A100-40", 39.4, 1555, 312, None, 300),
    _gpu("A100-80", 79.2, 2039, 312, None, 300),
    _gpu("L4", 22.0, 300, 121, 242, 16),
    _gpu("L40S", 44.4, 864, 362, 733, 32),
    _gpu("H100", 79.2, 3350, 989, 1979, 450),
    _gpu("H100-NVL", 93.1, 3900, 835, 1671, 300),
    _gpu("H20", 95.0, 4000, 148, 296, 450),
    _gpu("H200", 139.8, 4800, 989, 1979, 450),
    _gpu("GH200", 94.5, 4000, 989, 1979, 450),
    _gpu("B200", 178.4, 8000, 2250, 4500, 900),
    _gpu("B300", 267.7, 8000, 2250, 4500, 900),
)
GPUS: Mapping[str, Gpu] = MappingProxyType({gpu.name: gpu for gpu in _SHEET})
_ALIASES = {"A100": "A100-80", "A100-80GB": "A100-80", "A100-40GB": "A100-40", "H100-SXM": "H100"}


def find_gpu(name: str) -> Gpu:
    """Return the GPU of that name: `H200`, `NVIDIA H200 141GB`, `nvidia-h100-80gb-hbm3`, `a100`, ...

    Raises InvalidInput when the data sheet has no such GPU.
    """
    words = name.upper().replace("NVIDIA", " ").replace("_", "-").strip(" -").replace(" ", "-")
    exact = _ALIASES.get(words, words)
    if exact in GPUS:
        return GPUS[exact]
    if words.startswith("A100") and "40" in words:
        return GPUS["A100-40"]
    first = words.split("-")[0]
    candidate = _ALIASES.get(first, first)
    if candidate in GPUS:
        return GPUS[candidate]
    raise InvalidInput(f"unknown GPU {name!r}", why="the twin has no data sheet entry for it", allowed=", ".join(GPUS))
