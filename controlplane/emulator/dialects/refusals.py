"""How an engine says that it does not start: by the libraries it reads its command line with, and its own messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from controlplane.domain.engines.engine import EngineKind


class Refusals(NamedTuple):
    """Texts with `{flag}` (as given), `{value}`, `{type}`, `{place}` (host:port).

    `exit_code` is what a refused flag ends with.
    """

    unknown: str
    invalid: str
    without_value: str
    exit_code: int
    port: str
    out_of_memory: str
    no_model: str


_ARGPARSE = Refusals(
    unknown="usage: sglang serve [-h]\nsglang serve: error: unrecognized arguments: {flag}",
    invalid="usage: sglang serve [-h]\nsglang serve: error: argument {flag}: invalid {type} value: '{value}'",
    without_value="usage: sglang serve [-h]\nsglang serve: error: argument {flag}: expected one argument",
    exit_code=2,
    port="[Errno 98] error while attempting to bind on address {place}: address already in use",
    out_of_memory="RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.",
    no_model="OSError: {value} is not a local folder and is not a valid model identifier",
)
_CLICK = Refusals(
    unknown="Usage: trtllm-serve serve [OPTIONS] MODEL\n\nError: No such option: {flag}",
    invalid="Error: Invalid value for '{flag}': '{value}' is not a valid {type}.",
    without_value="Error: Option '{flag}' requires an argument.",
    exit_code=2,
    port="RuntimeError: Failed to bind socket to {place}: [Errno 98] Address already in use",
    out_of_memory="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate more than is free.",
    no_model="OSError: {value} is not a local folder and is not a valid model identifier",
)
_CLAP = Refusals(
    unknown="error: unexpected argument '{flag}' found",
    invalid="error: invalid value '{value}' for '{flag} <VALUE>'",
    without_value="error: a value is required for '{flag} <VALUE>' but none was supplied",
    exit_code=2,
    port="Error: Address already in use (os error 98): {place}",
    out_of_memory="RuntimeError: Not enough memory to handle 4096 prefill tokens. You need to decrease "
    "`--max-batch-prefill-tokens`",
    no_model="OSError: {value} is not a local folder and is not a valid model identifier",
)
_LLAMA = Refusals(
    unknown="error: invalid argument: {flag}",
    invalid='error while handling argument "{flag}": stoi',
    without_value='error while handling argument "{flag}": expected value for argument',
    exit_code=1,
    port="0.00.008.810 E srv         start: couldn't bind HTTP server socket, hostname and port: {place}",
    out_of_memory="0.00.008.810 E ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 1",
    no_model="0.00.038.698 E gguf_init_from_file: failed to open GGUF file '{value}' (No such file or directory)",
)

REFUSALS: Mapping[EngineKind, Refusals] = {
    EngineKind.SGLANG: _ARGPARSE,
    EngineKind.TENSORRT_LLM: _CLICK,
    EngineKind.TGI: _CLAP,
    EngineKind.LLAMA_CPP: _LLAMA,
}
