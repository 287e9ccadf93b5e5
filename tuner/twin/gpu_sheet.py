"""Data sheets. Memory is what `torch.cuda.mem_get_info` reports as total, GiB (some percent below the label).

Bandwidth in GB/s and dense tensor-core rates in 1e12 FLOP/s are the vendors': NVIDIA data sheets (T4 2019, V100 2017,
A100 2021, A10/A30/A40 2021, RTX A6000 2021, L4/L40/L40S and RTX Ada 2023, H100/H200 2024, Blackwell 2025),
AMD CDNA 2, 3 and 4 data sheets (2021 to 2025). Links count one direction between two GPUs of one host.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from controlplane.domain.base import Value
from controlplane.domain.errors import InvalidInput


class Gpu(Value):
    """One GPU type. A speed that is None is not known, and without bandwidth or bf16 rate nothing is predicted."""

    name: str
    memory_gib: float
    bandwidth_gb_s: float | None = None
    bf16_tflops: float | None = None
    """fp16 on GPUs without bf16 (T4, V100)."""
    fp8_tflops: float | None = None
    """None without fp8 units."""
    fp4_tflops: float | None = None
    link_gb_s: float = 16.0
    """Bandwidth between two GPUs of one host in one direction, GB/s: NVLink where there is one, else PCIe."""

    @property
    def large_batch_defaults(self) -> bool:
        """vLLM's default batch limits are larger on GPUs with 70 GiB or more, A100 excepted."""
        return self.memory_gib >= 70 and not self.name.upper().replace("NVIDIA ", "").startswith("A100")

    @property
    def has_speed(self) -> bool:
        """True when enough is known to predict anything."""
        return self.bandwidth_gb_s is not None and self.bf16_tflops is not None

    def tflops(self, bits: int) -> float:
        """Return the dense matrix rate for operands of `bits` (8 and 4 only help where there are such units).

        Raises InvalidInput when it is not known.
        """
        fastest = {8: self.fp8_tflops, 4: self.fp4_tflops}.get(bits) or self.bf16_tflops
        if fastest is None:
            raise self._unknown("tflops")
        return fastest

    def bandwidth(self) -> float:
        """Return bytes per second. Raises InvalidInput when it is not known."""
        if self.bandwidth_gb_s is None:
            raise self._unknown("bandwidth_gb_s")
        return self.bandwidth_gb_s * 1e9

    def _unknown(self, what: str) -> InvalidInput:
        why = "the twin has no data sheet entry for it, and the service does not say it"
        return InvalidInput(f"{what} of GPU {self.name!r} is unknown", why=why, allowed=f"gpus.{what} in service.yaml")


def _rows() -> tuple[Gpu, ...]:
    found = []
    for line in _SHEET.strip().splitlines():
        name, *figures = line.split()
        memory, bandwidth, bf16, fp8, fp4, link = (None if figure == "-" else float(figure) for figure in figures)
        assert memory is not None
        found.append(
            Gpu(
                name=name,
                memory_gib=memory,
                bandwidth_gb_s=bandwidth,
                bf16_tflops=bf16,
                fp8_tflops=fp8,
                fp4_tflops=fp4,
                link_gb_s=link or 16.0,
            )
        )
    return tuple(found)


# name            GiB    GB/s   bf16   fp8   fp4  link GB/s
_SHEET = """
T4               14.6    320     65     -     -    16
V100-16          15.8    900    125     -     -   150
V100             31.7    900    125     -     -   150
V100-PCIE-16     15.8    900    112     -     -    16
V100-PCIE        31.7    900    112     -     -    16
V100S            31.7   1134    130     -     -    16
A10              22.0    600    125     -     -    32
A10G             22.0    600     70     -     -    16
A30              23.6    933    165     -     -   100
A40              44.4    696    150     -     -    56
A6000            47.4    768    155     -     -    56
RTX-3090         23.6    936     71     -     -    16
RTX-4090         23.5   1008    165   330     -    16
RTX-5090         31.3   1792    210   419   838    32
RTX-6000-Ada     47.4    960    364   728     -    32
RTX-PRO-6000     94.9   1792    504  1007  2015    64
RTX-PRO-6000-Max-Q 94.9 1792    439   878  1755    64
A100-40          39.4   1555    312     -     -   300
A100-80          79.2   2039    312     -     -   300
A100-PCIE-40     39.4   1555    312     -     -    32
A100-PCIE-80     79.2   1935    312     -     -    32
A800             79.2   2039    312     -     -   200
L4               22.0    300    121   242     -    16
L40              44.4    864    181   362     -    32
L40S             44.4    864    362   733     -    32
H100             79.2   3350    989  1979     -   450
H100-PCIE        79.2   2039    756  1513     -    64
H100-NVL         93.1   3900    835  1671     -   300
H800             79.2   3350    989  1979     -   200
H20              95.0   4000    148   296     -   450
H200            139.8   4800    989  1979     -   450
H200-NVL        139.8   4800    835  1671     -   450
GH200            94.5   4000    989  1979     -   450
B200            178.4   8000   2250  4500  9000   900
B300            267.7   8000   2250  4500 13500   900
GB200           184.0   8000   2500  5000 10000   900
GB300           276.0   8000   2500  5000 15000   900
MI210            63.9   1638    181     -     -    64
MI250X           63.9   1638    192     -     -   100
MI300X          191.5   5300   1307  2615     -   448
MI325X          255.5   6000   1307  2615     -   448
MI350X          287.5   8000   2307  4614  9228   538
MI355X          287.5   8000   2516  5033 10066   538
"""
GPUS: Mapping[str, Gpu] = MappingProxyType({gpu.name: gpu for gpu in _rows()})

ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "A100": "A100-80",
        "A100 PCIE": "A100-PCIE-80",
        "A100 80 PCIE": "A100-PCIE-80",
        "A800 80": "A800",
        "V100 32": "V100",
        "V100S PCIE 32": "V100S",
        "V100 PCIE 32": "V100-PCIE",
        "RTX A6000": "A6000",
        "RTX3090": "RTX-3090",
        "RTX4090": "RTX-4090",
        "RTX5090": "RTX-5090",
        "4090": "RTX-4090",
        "5090": "RTX-5090",
        "RTX 6000 ADA": "RTX-6000-Ada",
        "6000 ADA": "RTX-6000-Ada",
        "RTX PRO 6000 BLACKWELL": "RTX-PRO-6000",
        "RTX PRO 6000 BLACKWELL SERVER": "RTX-PRO-6000",
        "RTX PRO 6000 BLACKWELL WORKSTATION": "RTX-PRO-6000",
        "RTX PRO 6000 BLACKWELL MAX Q WORKSTATION": "RTX-PRO-6000-Max-Q",
        "H100 PCI": "H100-PCIE",
        "GH200 480": "GH200",
    }
)
"""Other names (upper case, blanks for dashes, a label's gigabytes last) → the sheet's."""
