"""Which GPU a name means, and how fast it is by its data sheet: what the vendor promises, before any efficiency.

Names are those of `nvidia-smi`, `rocm-smi` and people. PCIe, NVL and SXM boards are apart (a third apart in bandwidth),
and so are MIG slices. A GPU that is not in the sheet is unknown: it can be tuned on, but nothing is predicted for it,
unless the service says its memory, bandwidth and FLOP/s.
"""

from __future__ import annotations

import re

from controlplane.domain.errors import InvalidInput
from controlplane.domain.hardware import GpuPool
from tuner.twin.gpu_sheet import ALIASES, GPUS, Gpu

__all__ = ["GPUS", "Gpu", "find_gpu", "gpu_of", "known_gpu"]

_NOISE = re.compile(r"NVIDIA|AMD|INSTINCT|GEFORCE|TESLA|QUADRO|GRAPHICS|GENERATION|TENSOR CORE|OAM|HBM\w*|\(.*?\)")
_MIG = re.compile(r"(\d)G[.\s](\d+)GB")
_MIG_COMPUTE = 7
"""A whole A100, H100 or H200 is cut into sevenths of its compute (NVIDIA MIG user guide)."""
_USABLE = 0.97
"""Of the gigabytes in a slice's name, what a process can use, in GiB per labelled GB."""


def find_gpu(name: str) -> Gpu:
    """Return the GPU of that name: `H200`, `NVIDIA H100 PCIe`, `nvidia-h100-80gb-hbm3`, `RTX 4090`, `MI300X`, ...

    Raises InvalidInput when the data sheet has no such GPU.
    """
    found = known_gpu(name)
    if found is None:
        why = "the twin has no data sheet entry for it"
        allowed = f"{', '.join(GPUS)}; or gpus.memory_gib, bandwidth_gb_s and tflops in service.yaml"
        raise InvalidInput(f"unknown GPU {name!r}", why=why, allowed=allowed)
    return found


def known_gpu(name: str) -> Gpu | None:
    """Return the GPU of that name, None when the sheet has none."""
    upper = name.upper().replace("_", " ").replace("-", " ")
    slice_ = _MIG.search(name.upper())
    if slice_ is not None:
        whole = _whole(upper[: upper.find("MIG")] if "MIG" in upper else upper)
        return None if whole is None else _slice(whole, int(slice_[1]), int(slice_[2]))
    return None if "MIG" in upper else _whole(upper)


def gpu_of(pool: GpuPool) -> Gpu | None:
    """Return the GPUs of a pool: the sheet's figures, the service's own laid over them.

    None for a GPU that nothing is known of; without bandwidth and FLOP/s only its memory is known.
    """
    found = known_gpu(pool.type)
    given = {
        "memory_gib": pool.memory_gib,
        "bandwidth_gb_s": pool.bandwidth_gb_s,
        "bf16_tflops": pool.tflops,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    if found is not None:
        return found.evolve(**changes) if changes else found
    return None if pool.memory_gib is None else Gpu(name=pool.type, **changes)


def _whole(upper: str) -> Gpu | None:
    words = _NOISE.sub(" ", upper).replace("-", " ").split()
    size = next((word for word in words if re.fullmatch(r"\d+GB", word)), None)
    plain = [word for word in words if word != size and word not in ("SXM2", "SXM4", "SXM5", "SXM", "EDITION")]
    for key in (" ".join([*plain, size[:-2]]) if size else None, " ".join(plain)):
        if key is not None and (name := _CATALOGUE.get(key)) is not None:
            return GPUS[name]
    return None


def _slice(whole: Gpu, sevenths: int, gigabytes: int) -> Gpu:
    memory_gib = min(gigabytes * _USABLE, whole.memory_gib)
    compute, share = sevenths / _MIG_COMPUTE, min(1.0, memory_gib / whole.memory_gib)
    return whole.evolve(
        name=f"{whole.name}-MIG-{sevenths}g.{gigabytes}gb",
        memory_gib=memory_gib,
        bandwidth_gb_s=None if whole.bandwidth_gb_s is None else whole.bandwidth_gb_s * share,
        bf16_tflops=None if whole.bf16_tflops is None else whole.bf16_tflops * compute,
        fp8_tflops=None if whole.fp8_tflops is None else whole.fp8_tflops * compute,
        fp4_tflops=None if whole.fp4_tflops is None else whole.fp4_tflops * compute,
    )


_CATALOGUE = {**{name.upper().replace("-", " "): name for name in GPUS}, **ALIASES}
