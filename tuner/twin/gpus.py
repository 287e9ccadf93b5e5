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
_MIG = re.compile(r"(?:(\d)C[.\s])?(\d)G[.\s](\d+)GB")
"""A slice as `nvidia-smi` names it, 3g.40gb: with a part of its compute before it, 1c.3g.40gb."""
_MIG_COMPUTE = {"A30": 4, "RTX-PRO-6000": 4}
"""Into how many parts a GPU's compute is cut; all others into sevenths (NVIDIA MIG user guide)."""
_LABEL = (0.97, 1.13)
"""A label's gigabytes over what a process can use, GiB: 16 of a T4's 14.6, 40 of an A100's 39.4, 192 of an MI300X's
191.5. A board labelled otherwise is another one (A100 of 64 GB, H20 of 141 GB)."""
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
    """Return the GPU of that name, None when the sheet has none, or none with the memory that the name says."""
    upper = name.upper().replace("_", " ").replace("-", " ")
    slice_ = _MIG.search(name.upper())
    if slice_ is not None:
        whole = _whole(upper[: upper.find("MIG")] if "MIG" in upper else upper)
        part = int(slice_[1]) if slice_[1] else None
        return None if whole is None else _slice(whole, part, int(slice_[2]), int(slice_[3]))
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
    board = re.sub(r"H100\b(.*)HBM2E", r"H100 PCIE\1", upper)  # only the PCIe board has that memory
    words = _NOISE.sub(" ", board).replace("-", " ").split()
    size = next((word for word in words if re.fullmatch(r"\d+GB", word)), None)
    plain = [word for word in words if word != size and word not in ("SXM2", "SXM4", "SXM5", "SXM", "EDITION")]
    if size is None:
        return _sheet(" ".join(plain))
    labelled = _sheet(" ".join([*plain, size[:-2]]))
    found = labelled or _sheet(" ".join(plain))
    return found if labelled or (found and _is_of(found, int(size[:-2]))) else None


def _sheet(key: str) -> Gpu | None:
    name = _CATALOGUE.get(key)
    return None if name is None else GPUS[name]


def _is_of(gpu: Gpu, gigabytes: int) -> bool:
    low, high = _LABEL
    return low <= gigabytes / gpu.memory_gib <= high


def _slice(whole: Gpu, part: int | None, slices: int, gigabytes: int) -> Gpu | None:
    """Return `slices` of a GPU, or of their compute a `part`; None for a slice larger than the GPU."""
    of = _MIG_COMPUTE.get(whole.name, 7)
    if slices > of or (part or slices) > slices or gigabytes > whole.memory_gib * _LABEL[1]:
        return None
    memory_gib = min(gigabytes * _USABLE, whole.memory_gib)
    compute, share = (part or slices) / of, min(1.0, memory_gib / whole.memory_gib)
    cut = "" if part is None else f"{part}c."
    return whole.evolve(
        name=f"{whole.name}-MIG-{cut}{slices}g.{gigabytes}gb",
        memory_gib=memory_gib,
        bandwidth_gb_s=None if whole.bandwidth_gb_s is None else whole.bandwidth_gb_s * share,
        bf16_tflops=None if whole.bf16_tflops is None else whole.bf16_tflops * compute,
        fp8_tflops=None if whole.fp8_tflops is None else whole.fp8_tflops * compute,
        fp4_tflops=None if whole.fp4_tflops is None else whole.fp4_tflops * compute,
    )


_CATALOGUE = {**{name.upper().replace("-", " "): name for name in GPUS}, **ALIASES}
