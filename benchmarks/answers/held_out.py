"""Scenarios held aside: no rule is made by them. They run only when asked for (`--held-out`)."""

from __future__ import annotations

from benchmarks.answers.scenarios import Scenario, limits, scenario


def held_out() -> list[Scenario]:
    """Return them."""
    return [
        scenario(
            "32b-code-8xh200-held-out",
            model="qwen-32b",
            gpus={"type": "H200", "count": 8, "price_usd_per_gpu_hour": 3.2},
            workload={"kind": "trace", "trace": "azure-llm-2023/code", "arrivals": {"process": "trace"}},
            slos={"latency": limits(99, ttft_ms=3000, tpot_ms=60), "target_qps": 8},
            space={
                "quantization": (None, "fp8"),
                "max-num-seqs": (16, 64, 256),
                "max-num-batched-tokens": (1024, 4096),
                "tensor-parallel-size": (1, 2, 4),
            },
            flags={"tensor-parallel-size": 2},
            nature_seed=31,
        ),
        scenario(
            "14b-chat-4xa100-held-out",
            model="qwen-14b",
            gpus={"type": "A100-80", "count": 4, "price_usd_per_gpu_hour": 1.6},
            workload={
                "kind": "synthetic",
                "prompt_tokens": {"mean": 700, "cv": 1.2, "max": 6000},
                "output_tokens": {"mean": 320, "cv": 0.6, "max": 1000},
            },
            slos={"latency": limits(95, ttft_ms=1500, tpot_ms=70), "target_qps": 9},
            space={
                "max-num-seqs": (32, 64, 128, 256),
                "max-num-batched-tokens": (512, 2048, 8192),
                "gpu-memory-utilization": (0.85, 0.92, 0.95),
            },
            flags={"max-num-seqs": 32, "gpu-memory-utilization": 0.85},
            nature_seed=32,
        ),
        *_second(),
    ]


def _second() -> list[Scenario]:
    """Return those that were added when three rules had been made by what the first two showed."""
    return [
        scenario(
            "3b-code-4xl40s-held-out",
            model="qwen-3b",
            gpus={"type": "L40S", "count": 4, "price_usd_per_gpu_hour": 0.9},
            workload={"kind": "trace", "trace": "azure-llm-2023/code"},
            slos={"latency": limits(95, ttft_ms=900, tpot_ms=40), "target_qps": 12},
            space={
                "quantization": (None, "fp8"),
                "max-num-seqs": (16, 64, 256),
                "max-num-batched-tokens": (1024, 2048, 8192),
            },
            flags={"max-num-batched-tokens": 8192, "max-num-seqs": 16},
            nature_seed=33,
        ),
        scenario(
            "14b-bursty-2xh200-held-out",
            model="qwen-14b",
            gpus={"type": "H200", "count": 2, "price_usd_per_gpu_hour": 3.0},
            workload={
                "kind": "synthetic",
                "prompt_tokens": {"mean": 1800, "cv": 1.3, "min": 40, "max": 7000},
                "output_tokens": {"mean": 140, "cv": 1.0, "min": 8, "max": 900},
                "arrivals": {"process": "gamma", "burstiness": 0.4},
            },
            slos={"latency": limits(95, ttft_ms=1500, tpot_ms=50), "target_qps": 5},
            space={
                "quantization": (None, "fp8"),
                "max-num-seqs": (32, 128, 256),
                "max-num-batched-tokens": (1024, 2048, 8192),
                "tensor-parallel-size": (1, 2),
            },
            flags={"tensor-parallel-size": 2},
            nature_seed=34,
        ),
        scenario(
            "32b-conv-8xh100-held-out",
            model="qwen-32b",
            gpus={"type": "H100", "count": 8, "price_usd_per_gpu_hour": 2.5},
            workload={"kind": "trace", "trace": "azure-llm-2023/conv", "arrivals": {"process": "trace"}},
            slos={"latency": limits(95, ttft_ms=2000, tpot_ms=60), "target_qps": 8},
            space={
                "quantization": (None, "fp8"),
                "max-num-seqs": (64, 128, 256),
                "max-num-batched-tokens": (2048, 4096),
                "tensor-parallel-size": (1, 2, 4),
            },
            flags={"tensor-parallel-size": 4},
            nature_seed=35,
        ),
    ]
