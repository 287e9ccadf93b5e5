"""Names of drivers, people and clouds → the data sheet, or an honest nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput
from controlplane.domain.hardware import GpuPool
from tuner.twin.gpus import GPUS, find_gpu, gpu_of, known_gpu
from tuner.twin.setup import resolve
from tuner.twin.shapes import load_shape


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("NVIDIA H200 141GB", "H200"),
        ("nvidia-h100-80gb-hbm3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIE"),
        ("NVIDIA H100 NVL", "H100-NVL"),
        ("a100", "A100-80"),
        ("NVIDIA A100-SXM4-40GB", "A100-40"),
        ("NVIDIA A100-PCIE-40GB", "A100-PCIE-40"),
        ("NVIDIA A100 80GB PCIe", "A100-PCIE-80"),
        ("L40S", "L40S"),
        ("NVIDIA L40", "L40"),
        ("NVIDIA GeForce RTX 4090", "RTX-4090"),
        ("RTX4090", "RTX-4090"),
        ("NVIDIA RTX 6000 Ada Generation", "RTX-6000-Ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
        ("NVIDIA RTX A6000", "A6000"),
        ("NVIDIA A10", "A10"),
        ("Tesla T4", "T4"),
        ("Tesla V100-SXM2-16GB", "V100-16"),
        ("NVIDIA H800", "H800"),
        ("NVIDIA GB200", "GB200"),
        ("AMD Instinct MI300X OAM", "MI300X"),
        ("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "H100-MIG-3g.40gb"),
        ("NVIDIA H100 80GB HBM3 MIG 1c.3g.40gb", "H100-MIG-1c.3g.40gb"),
        ("NVIDIA H100 PCIe MIG 1g.10gb+me", "H100-PCIE-MIG-1g.10gb"),
        ("NVIDIA H100 80GB HBM2e", "H100-PCIE"),
        ("NVIDIA B200 192GB", "B200"),
        ("T4 16GB", "T4"),
        ("Tesla V100-PCIE-32GB", "V100-PCIE"),
        ("Tesla V100S-PCIE-32GB", "V100S"),
        ("NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition", "RTX-PRO-6000-Max-Q"),
    ],
)
def test_gpus_are_found_under_the_names_drivers_give_them(name: str, known: str) -> None:
    assert find_gpu(name).name == known


@pytest.mark.parametrize("name", GPUS)
def test_every_gpu_is_found_by_its_own_name_in_any_writing(name: str) -> None:
    for written in (name, name.lower(), name.replace("-", " "), f"NVIDIA {name}"):
        assert known_gpu(written) == GPUS[name]


@pytest.mark.parametrize("name", ["RTX 9999", "NVIDIA GB10", "H1000", "Gaudi 3", "Z9 MIG 1g.10gb", "", "H100 MIG"])
def test_what_is_not_in_the_sheet_is_unknown_and_not_something_near(name: str) -> None:
    assert known_gpu(name) is None
    with pytest.raises(InvalidInput, match="memory_gib"):
        find_gpu(name)


@pytest.mark.parametrize(
    "name",
    [
        *("NVIDIA A100-SXM-64GB", "NVIDIA H100 SXM5 64GB", "H100 96GB", "H20 141GB", "A800-SXM4-40GB", "RTX 4090 48GB"),
        *("H100 MIG 9g.80gb", "H100 MIG 1g.800gb", "A30 MIG 5g.24gb", "H100 MIG 4c.3g.40gb"),
    ],
)
def test_a_board_of_another_memory_or_a_slice_larger_than_the_board_is_unknown(name: str) -> None:
    """An A100 of 64 GB was taken for one of 80."""
    assert known_gpu(name) is None


@pytest.mark.parametrize(
    ("name", "share"),
    [
        ("A30 MIG 1g.6gb", 1 / 4),
        ("RTX PRO 6000 Blackwell Server Edition MIG 2g.48gb", 2 / 4),
        ("H100 MIG 3g.40gb", 3 / 7),
        ("H100 MIG 1c.3g.40gb", 1 / 7),
    ],
)
def test_a_slice_has_its_part_of_the_compute(name: str, share: float) -> None:
    whole = find_gpu(name.split(" MIG", maxsplit=1)[0])
    assert find_gpu(name).tflops(16) == pytest.approx(whole.tflops(16) * share)


@pytest.mark.parametrize(("one", "other"), [("RTX-6000-Ada", "L40S"), ("A6000", "A40"), ("H100", "H800")])
def test_boards_of_one_chip_are_as_fast_as_each_other(one: str, other: str) -> None:
    """The RTX 6000 Ada stood there at half the rate of the L40S, which has as many of the same tensor cores."""
    assert GPUS[one].tflops(16) == pytest.approx(GPUS[other].tflops(16), rel=0.05)


@given(st.text(max_size=40))
def test_no_name_breaks_the_search(name: str) -> None:
    known_gpu(name)


@pytest.mark.parametrize("slice_name", ["H100 80GB HBM3 MIG 1g.10gb", "A100-SXM4-80GB MIG 3g.40gb", "H200 MIG 4g.71gb"])
def test_a_slice_is_less_than_the_card(slice_name: str) -> None:
    part, whole = find_gpu(slice_name), find_gpu(slice_name.split(" MIG", maxsplit=1)[0])
    assert part.memory_gib < whole.memory_gib
    assert part.bandwidth() < whole.bandwidth()
    assert part.tflops(16) < whole.tflops(16)


def a_pool(gpu: str, **given: float) -> GpuPool:
    return GpuPool(type=gpu, count=1, price_usd_per_gpu_hour=1, **given)


def test_what_the_service_says_of_a_gpu_goes_before_the_sheet() -> None:
    found = gpu_of(a_pool("H100", memory_gib=60, bandwidth_gb_s=3000))
    assert found is not None
    assert (found.memory_gib, found.bandwidth_gb_s, found.bf16_tflops) == (60, 3000, 989)


def test_an_unknown_gpu_is_known_as_far_as_the_service_says() -> None:
    assert gpu_of(a_pool("Zeta 1")) is None
    memory_only = gpu_of(a_pool("Zeta 1", memory_gib=48))
    assert memory_only is not None
    config = EngineConfig(flags={"max-model-len": 8192})
    with pytest.raises(InvalidInput, match=r"gpus\.bandwidth_gb_s"):
        resolve(load_shape("llama-8b"), memory_only, config)
    whole = gpu_of(a_pool("Zeta 1", memory_gib=48, bandwidth_gb_s=1000, tflops=200))
    assert whole is not None
    assert resolve(load_shape("llama-8b"), whole, config).profile.transferred_from
