"""Start failures are told apart by exit code and log. The logs are shortened from vLLM 0.26 and torch."""

from __future__ import annotations

import pytest

from controlplane.domain.engines.engine_failures import diagnose, diagnose_timeout
from controlplane.domain.engines.kinds.vllm import VLLM
from controlplane.domain.engines.start_failure import StartFailure

CORE = "(EngineCore pid=4711) ERROR 11-22 20:33:40 [core.py:880] "


@pytest.mark.parametrize(
    ("log", "failure", "telling"),
    [
        (
            CORE + "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 448.00 MiB. GPU 0 has a total "
            "capacity of 139.81 GiB of which 102.00 MiB is free.",
            StartFailure.OUT_OF_MEMORY,
            "torch.OutOfMemoryError",
        ),
        (
            CORE + "ValueError: No available memory for the cache blocks. Try increasing `gpu_memory_utilization` when "
            "initializing the engine.",
            StartFailure.OUT_OF_MEMORY,
            "No available memory",
        ),
        (
            CORE + "ValueError: To serve at least one request with the models's max seq len (131072), (16.00 GiB KV "
            "cache is needed, which is larger than the available KV cache memory (3.95 GiB).",
            StartFailure.OUT_OF_MEMORY,
            "16.00 GiB KV cache is needed",
        ),
        (  # the configuration asks for more than an empty GPU has free
            "ValueError: Free memory on device cuda:0 (138.1/139.81 GiB) on startup is less than desired GPU memory "
            "utilization (0.99, 138.4 GiB). Decrease GPU memory utilization or reduce GPU memory used by others.",
            StartFailure.OUT_OF_MEMORY,
            "Free memory on device",
        ),
        (  # something else is on the GPU: another start may well work
            "ValueError: Free memory on device cuda:0 (76.89/139.8 GiB) on startup is less than desired GPU memory "
            "utilization (0.92, 128.62 GiB). Decrease GPU memory utilization or reduce GPU memory used by others.",
            StartFailure.OTHER,
            "Free memory on device",
        ),
        (
            "usage: vllm serve [model_tag] [options]\nvllm serve: error: unrecognized arguments: --max-num-sqs=4",
            StartFailure.REFUSED_FLAG,
            "--max-num-sqs=4",
        ),
        (
            "vllm serve: error: argument --kv-cache-dtype: invalid choice: 'fp3' (choose from auto, bfloat16, fp8)",
            StartFailure.REFUSED_FLAG,
            "fp3",
        ),
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for VllmConfig\n  Value error, Total "
            "number of attention heads (32) must be divisible by tensor parallel size (3).",
            StartFailure.REFUSED_FLAG,
            "divisible by tensor parallel size (3)",
        ),
        (
            "pydantic_core._pydantic_core.ValidationError: 1 validation error for SchedulerConfig\n  Value error, "
            "max_num_batched_tokens (128) must be greater than or equal to max_num_seqs (256).",
            StartFailure.REFUSED_FLAG,
            "max_num_batched_tokens (128)",
        ),
        ("OSError: [Errno 98] Address already in use", StartFailure.PORT, "Errno 98"),
        (
            'ERROR:    [Errno 98] error while attempting to bind on address ("0.0.0.0", 8000): address already in use',
            StartFailure.PORT,
            "8000",
        ),
        ("RuntimeError: NCCL error: unhandled system error", StartFailure.OTHER, "NCCL error"),
        (  # NCCL names the cause in one line and the exception in another, in either order
            "host:12:34 [0] NCCL WARN Cuda failure 2 'out of memory'\nRuntimeError: NCCL error: unhandled cuda error "
            "(run with NCCL_DEBUG=INFO for details)\nRuntimeError: Engine core initialization failed. See root cause.",
            StartFailure.OUT_OF_MEMORY,
            "Cuda failure 2",
        ),
        (
            "torch.distributed.DistBackendError: NCCL error in: ProcessGroupNCCL.cpp:3356, unhandled cuda error\n"
            "ncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\nCuda failure 2 'out of memory'",
            StartFailure.OUT_OF_MEMORY,
            "Cuda failure 2",
        ),
        (  # survived, by the engine's own word
            "WARNING 07-06 23:18:23 [tuner.py:13] OutOfMemoryError caught while tuning, falling back\n"
            "ValueError: Unsupported GPU architecture",
            StartFailure.OTHER,
            "Unsupported GPU architecture",
        ),
        (  # a port was taken, another one found, and then something else ended it
            "OSError: [Errno 98] address already in use, trying 8001\ntorch.OutOfMemoryError: CUDA out of memory.",
            StartFailure.OUT_OF_MEMORY,
            "torch.OutOfMemoryError",
        ),
        (
            "torch.OutOfMemoryError: CUDA out of memory.\nOSError: [Errno 98] Address already in use",
            StartFailure.PORT,
            "Errno 98",
        ),
        (  # an exception that an exception led to says no more than the first
            "torch.OutOfMemoryError: CUDA out of memory.\nThe above exception was the direct cause of the following "
            "exception:\nTraceback (most recent call last):\nRuntimeError: profiling failed",
            StartFailure.OUT_OF_MEMORY,
            "torch.OutOfMemoryError",
        ),
        (  # the last one is no consequence: the first was survived
            "torch.OutOfMemoryError: CUDA out of memory.\nOSError: no such tokenizer",
            StartFailure.OTHER,
            "no such tokenizer",
        ),
        ("", StartFailure.OTHER, "exit code 1"),
    ],
)
def test_the_log_tells_why(log: str, failure: StartFailure, telling: str) -> None:
    found = diagnose(
        "INFO 11-22 20:33:40 [api_server.py:1] starting\n" * 3 + log, VLLM.log, exit_code=1, was_ready=False
    )
    assert found.failure is failure
    assert telling in found.detail
    assert "ended with exit code 1" in found.detail


@pytest.mark.parametrize(
    "said",
    [
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "RuntimeError: cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "RuntimeError: HIP error: HIPBLAS_STATUS_ALLOC_FAILED",
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.00 GiB",
        "RuntimeError: HIP out of memory. Tried to allocate 1.00 GiB",
        "RuntimeError: HIP error: hipErrorOutOfMemory",
        "RuntimeError: CUDA driver error: out of memory",
        "RuntimeError: CUDA Error: out of memory at /workspace/csrc/cumem_allocator.cpp:62",
        "RuntimeError: CUDA error: out of memory",
        "RuntimeError: Triton Error [CUDA]: out of memory",
        "pycuda.MemoryError: CUDA_ERROR_OUT_OF_MEMORY",
        "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests.",
        "MemoryError",
        "terminate called after throwing an instance of 'std::bad_alloc'",
        "RuntimeError: [enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried",
        "OSError: [Errno 12] Cannot allocate memory",
    ],
)
@pytest.mark.parametrize(
    "after",
    [
        "",
        "\nRuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
        "\nERROR 09-01 10:00:00 [multiproc_executor.py:1] Worker proc VllmWorker-1 died unexpectedly, shutting down.",
        "\ntorch.distributed.DistNetworkError: Connection reset by peer\nConnectionResetError: [Errno 104]",
    ],
)
def test_memory_runs_out_in_many_words_whatever_the_other_processes_say_to_it(said: str, after: str) -> None:
    found = diagnose(said + after, VLLM.log, exit_code=1, was_ready=False)
    assert found.failure is StartFailure.OUT_OF_MEMORY
    assert said.split("(", maxsplit=1)[0][:40] in found.detail


@pytest.mark.parametrize("exit_code", [-9, 137])
def test_a_kill_that_nobody_explains_is_no_result_of_the_configuration(exit_code: int) -> None:
    found = diagnose(
        "INFO 09-01 10:00:00 [loader.py:1] Loading shards: 50%", VLLM.log, exit_code=exit_code, was_ready=False
    )
    assert found.failure is StartFailure.OTHER
    assert "host lacks memory" in found.detail


@pytest.mark.parametrize("line", ["OSError: [Errno 98] Address already in use", "vllm serve: error: argument --x: y"])
def test_an_engine_that_was_ready_has_crashed_whatever_its_log_says_but_of_memory(line: str) -> None:
    found = diagnose(f"RuntimeError: first\n{line}", VLLM.log, exit_code=1, was_ready=True)
    assert found.failure is StartFailure.CRASHED
    assert "was ready, then" in found.detail


@pytest.mark.parametrize(
    ("exit_code", "ending"), [(-9, "killed by signal 9"), (3, "exit code 3"), (None, "exit code unknown")]
)
def test_the_detail_says_how_it_ended(exit_code: int | None, ending: str) -> None:
    assert ending in diagnose("", VLLM.log, exit_code=exit_code, was_ready=False).detail


def test_the_detail_is_a_few_short_lines_without_log_prefixes() -> None:
    log = CORE + "Traceback (most recent call last):\n" + CORE + "RuntimeError: " + "x" * 5000
    detail = diagnose(log, VLLM.log, exit_code=1, was_ready=False).detail
    assert detail.startswith("RuntimeError: xxx")
    assert len(detail) < 500


def test_a_timeout_says_how_long_and_what_was_last_done() -> None:
    found = diagnose_timeout("INFO 11-22 20:33:40 [x.py:1] Loading weights took 80 s", VLLM.log, timeout_s=90)
    assert found.failure is StartFailure.TIMEOUT
    assert "not ready within 90 s" in found.detail
    assert "Loading weights" in found.detail


def test_only_memory_and_flags_make_a_configuration_infeasible() -> None:
    assert {failure for failure in StartFailure if failure.is_infeasible} == {
        StartFailure.OUT_OF_MEMORY,
        StartFailure.REFUSED_FLAG,
    }


STARTUP = "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}"


@pytest.mark.parametrize(
    "line",
    [
        "RuntimeError: CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "NCCL WARN Cuda failure 2 'out of memory'",
        "Cuda failure 2 'out of memory'",
        "torch.OutOfMemoryError: HIP out of memory. Tried to allocate 1.00 GiB",
        "RuntimeError: HIP out of memory. Tried to allocate 1.00 GiB",
        "RuntimeError: CUDA driver error: out of memory",
        "RuntimeError: CUDA Error: out of memory at /workspace/csrc/cumem_allocator.cpp:62",
        "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests.",
        "CUDA_ERROR_OUT_OF_MEMORY",
        "OSError: [Errno 12] Cannot allocate memory",
        "MemoryError",
    ],
)
@pytest.mark.parametrize("was_ready", [False, True])
def test_memory_that_ran_out_is_told_in_many_words_before_and_after_readiness(line: str, was_ready: bool) -> None:
    found = diagnose(f"{CORE}{line}\n{STARTUP}", VLLM.log, exit_code=1, was_ready=was_ready)
    assert found.failure is StartFailure.OUT_OF_MEMORY
    assert ("was ready, then" in found.detail) is was_ready


@pytest.mark.parametrize(
    ("lines", "failure"),
    [
        (
            ["OSError: [Errno 98] Address already in use", "torch.OutOfMemoryError: CUDA out of memory."],
            "out_of_memory",
        ),
        (["torch.OutOfMemoryError: CUDA out of memory.", "OSError: [Errno 98] Address already in use"], "port"),
        (
            [
                "WARNING 07-06 23:18:23 autotuner.py:1315 - OOM detected: OutOfMemoryError, falling back",
                "WARNING: OutOfMemoryError caught while tuning, falling back",
                "ValueError: Unsupported GPU architecture",
            ],
            "other",
        ),
    ],
)
def test_the_last_cause_ended_the_engine_and_a_warning_did_not(lines: list[str], failure: str) -> None:
    assert diagnose("\n".join(lines), VLLM.log, exit_code=1, was_ready=False).failure == failure
