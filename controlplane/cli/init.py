"""`fleetune init`: a first service.yaml from four answers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from controlplane.cli.errors import plain_errors
from controlplane.cli.files import require_writable
from controlplane.domain.errors import Conflict, InvalidInput

SHAPES = "llama-1b, llama-8b, llama-70b, qwen3-14b or qwen3-30b-a3b"
"""What the twin ships. Written out: importing the twin costs more than showing help may."""

_GPUS = re.compile(r"(\d+)\s*[x×]\s*(\S.*)")


class _Answers(NamedTuple):
    model: str
    gpus: str
    limits: str
    qps: float


@plain_errors
def init(
    model: Annotated[str | None, typer.Option(help=f"Model folder, or {SHAPES}; with --real also a hub name.")] = None,
    gpus: Annotated[str | None, typer.Option(help="How many of which, e.g. 8xH200.")] = None,
    limits: Annotated[
        str | None, typer.Option(help="P95 of the first token and of every further one, ms: e.g. 2000,80.")
    ] = None,
    qps: Annotated[float | None, typer.Option(help="Requests per second the fleet must hold.")] = None,
    name: Annotated[str, typer.Option(help="Name of the service, and what clients ask for as `model`.")] = "chat",
    usd: Annotated[float, typer.Option(help="Price of one GPU for an hour.")] = 3.5,
    real: Annotated[bool, typer.Option("--real/--emulated", help="Real vLLM on real GPUs, or the emulator.")] = False,
    out: Annotated[Path, typer.Option("--out", "-f", help="File to write.")] = Path("service.yaml"),
    force: Annotated[bool, typer.Option(help="Write over a file that is there.")] = False,
) -> None:
    """Write a minimal service.yaml that runs. Asks four questions; what is given as an option is not asked."""
    if out.exists() and not force:
        raise Conflict(f"{out} is there already", allowed="--out of another file, or --force")
    answers = _Answers(
        model or typer.prompt(_which_model(real=real), default="llama-8b"),
        gpus or typer.prompt("Which GPUs", default="4xH200"),
        limits or typer.prompt("P95 limits in ms: first token, every further token", default="2000,80"),
        typer.prompt("How many requests per second must the fleet hold", default=5.0) if qps is None else qps,
    )
    require_writable(out)
    text = written(answers, name=name, usd=usd, real=real)
    out.write_text(text)
    typer.echo(f"wrote {out}; next: fleetune predict -f {out}, then fleetune up -f {out}")


def written(answers: _Answers, *, name: str, usd: float, real: bool) -> str:
    """Return a commented service.yaml. Raises InvalidInput for an answer that cannot be used."""
    from controlplane.reading.service_file import parse_service
    from tuner.twin.gpus import find_gpu, known_gpu

    counted = _GPUS.fullmatch(answers.gpus.strip())
    if counted is None or int(counted[1]) < 1:
        raise InvalidInput(f"{answers.gpus!r} names no GPUs", allowed="how many of which, e.g. 8xH200")
    count, found = int(counted[1]), known_gpu(counted[2]) if real else find_gpu(counted[2])
    gpu = counted[2] if found is None else found.name  # a real one is tuned on though no twin knows it
    ttft_ms, tpot_ms = _limits(answers.limits)
    text = TEMPLATE.format(
        name=name,
        model=_plain(answers.model),
        kind="vllm" if real else "emulator",
        said="real vLLM on this host's GPUs" if real else "no GPU needed: latencies come from the digital twin",
        flags=_flags(answers.model, gpu, count, real=real),
        gpu=gpu,
        count=count,
        usd=usd,
        ttft_ms=ttft_ms,
        tpot_ms=tpot_ms,
        qps=answers.qps,
    )
    parse_service(text, source="what was answered")
    return text


def _plain(text: str) -> str:
    """Return a text as YAML takes it: quoted where it holds what YAML would read as something else."""
    return text if re.fullmatch(r"[\w/.][\w/.@+-]*", text) else json.dumps(text)


def _which_model(*, real: bool) -> str:
    return f"Which model (folder, {'hub name, ' if real else ''}or {SHAPES})"


def _limits(text: str) -> tuple[float, float]:
    try:
        ttft_ms, tpot_ms = (float(each) for each in text.split(","))
    except ValueError as error:
        raise InvalidInput(f"{text!r} are no two limits", allowed="e.g. 2000,80 (ms)") from error
    return ttft_ms, tpot_ms


def _flags(model: str, gpu: str, count: int, *, real: bool) -> str:
    """Return the base flags as YAML: as few GPUs for one replica as the model fits on, where that can be known."""
    from tuner.twin.shapes import load_shape

    try:
        shape = load_shape(model)
    except InvalidInput as error:
        if not real:  # the emulator has nothing but the shape
            allowed = f"{error.allowed}; --real for what vLLM fetches from a hub"
            raise InvalidInput(error.what, why=error.why, allowed=allowed) from error
        return "{max-model-len: 8192}   # add tensor-parallel-size when one GPU is too small"
    from controlplane.domain.engines.engine import EngineConfig
    from tuner.twin.setup import DoesNotFit, resolve

    refusal: DoesNotFit | None = None
    for size in (each for each in (1, 2, 4, 8) if each <= count):
        try:
            resolve(shape, gpu, EngineConfig(flags={"max-model-len": 8192, "tensor-parallel-size": size}))
        except DoesNotFit as error:
            refusal = error
        else:
            return f"{{max-model-len: 8192, tensor-parallel-size: {size}}}"
    raise InvalidInput(f"{model} does not fit on {count} × {gpu}", why=str(refusal), allowed="more or larger GPUs")


TEMPLATE = """\
# A service of Fleetune. `fleetune schema` says what else may stand here.
version: 1
name: {name}
model:
  name: {name}   # what clients send as `model`
  path: {model}
engine:
  kind: {kind}   # {said}
  # What serves first; tuning looks for better ones.
  flags: {flags}
gpus: {{type: {gpu}, count: {count}, price_usd_per_gpu_hour: {usd:g}}}
workload:
  # What a study replays: an hour of a public conversation service. `fleetune trace --help` makes one of your own.
  kind: trace
  trace: azure-llm-2023/conv
slos:
  # What the fleet must keep, at the lowest cost: the first token, and every further one.
  latency:
    - {{metric: ttft_ms, percentile: 95, limit_ms: {ttft_ms:g}}}
    - {{metric: tpot_ms, percentile: 95, limit_ms: {tpot_ms:g}}}
  target_qps: {qps:g}
"""
