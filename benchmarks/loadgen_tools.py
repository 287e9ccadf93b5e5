"""GuideLLM and AIPerf as the benchmark runs them, each from an environment of its own.

Neither was given a warm-up; their CPU includes their start-up, which the note says. GuideLLM's "TPOT" contains the
first token, so its ITL (mean gap per request) is compared; the same figure is AIPerf's inter-token latency.
"""

from __future__ import annotations

import json
import resource
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.loadgen_clients import Outcome

_NOTE = "CPU with start-up"


def run_guidellm(
    binary: str, url: str, *, rate: float, seconds: float, tokens: int, cores: set[int], scratch: Path
) -> Outcome:
    """Run GuideLLM 0.8's `guidellm run` with Poisson arrivals."""
    data = scratch / "data.jsonl"
    data.write_text("".join(f'{{"prompt": "word {i}", "output_tokens_count": {tokens}}}\n' for i in range(200)))
    out = scratch / "guidellm.json"
    command = [binary, "run", "--disable-console"]
    command += [
        "--backend",
        f"kind=openai_http,target={url},model=truth,request_format=/v1/completions,validate_backend=false",
    ]
    command += ["--profile", f"kind=poisson,rate={rate:g}", "--constraint", f"kind=max_duration,seconds={seconds:g}"]
    command += ["--data", f"kind=json_file,path={data}", "--output", f"kind=json,path={out}"]
    cpu_s, failure = _run(command, cores, seconds)
    if not out.exists():
        return _failed(failure)
    metrics = json.loads(out.read_text())["benchmarks"][0]["metrics"]
    totals = metrics["request_totals"]
    return Outcome(
        ttft_ms=metrics["time_to_first_token_ms"]["successful"]["percentiles"]["p99"],
        tpot_ms=metrics["inter_token_latency_ms"]["successful"]["percentiles"]["p99"],
        e2e_ms=1e3 * metrics["request_latency"]["successful"]["percentiles"]["p99"],
        cpu_s=cpu_s,
        tokens=totals["total"] * tokens,
        requests=totals["total"],
        failed=totals["errored"],
        skipped=0,
        note=_NOTE,
    )


def run_aiperf(
    binary: str, url: str, *, rate: float, seconds: float, tokens: int, cores: set[int], scratch: Path
) -> Outcome:
    """Run AIPerf's `aiperf profile` with Poisson arrivals and the server's token counts."""
    data = scratch / "data.jsonl"
    data.write_text("".join(f'{{"text": "word {i}"}}\n' for i in range(200)))
    command = [binary, "profile", "-m", "truth", "-u", url, "--endpoint-type", "completions", "--streaming"]
    command += ["--request-rate", f"{rate:g}", "--benchmark-duration", f"{seconds:g}", "--use-server-token-count"]
    command += [
        "--tokenizer",
        str(_tokenizer(scratch)),
        "--input-file",
        str(data),
        "--custom-dataset-type",
        "single_turn",
    ]
    command += ["--extra-inputs", json.dumps({"ignore_eos": True, "max_tokens": tokens})]
    command += ["--ui", "none", "--output-artifact-dir", str(scratch / "aiperf")]
    cpu_s, failure = _run(command, cores, seconds)
    found = scratch / "aiperf" / "profile_export_aiperf.json"
    if not found.exists():
        return _failed(failure)
    report: dict[str, Any] = json.loads(found.read_text())
    requests = int(report["request_count"]["avg"])
    return Outcome(
        ttft_ms=report["time_to_first_token"]["p99"],
        tpot_ms=report["inter_token_latency"]["p99"],
        e2e_ms=report["request_latency"]["p99"],
        cpu_s=cpu_s,
        tokens=requests * tokens,
        requests=requests,
        failed=int((report.get("error_request_count") or {"avg": 0})["avg"]),
        skipped=0,
        note=_NOTE,
    )


def _run(command: list[str], cores: set[int], seconds: float) -> tuple[float, str]:
    """Run pinned; return its CPU seconds and its last words."""
    before = _children_cpu_s()
    pinned = ["taskset", "-c", ",".join(map(str, sorted(cores))), *command]
    try:
        done = subprocess.run(pinned, capture_output=True, text=True, timeout=seconds + 180, check=False)
    except subprocess.TimeoutExpired:
        return _children_cpu_s() - before, "did not end in time"
    words = (done.stderr.strip() or done.stdout.strip() or "no answer").splitlines()
    return _children_cpu_s() - before, words[-1][:100]


def _children_cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _failed(note: str) -> Outcome:
    return Outcome(None, None, None, 0.0, 0, 0, 0, 0, note)


def _tokenizer(scratch: Path) -> Path:
    """A tokenizer of words, for a tool that asks for one but fetches it from the network."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace

    folder = scratch / "tokenizer"
    folder.mkdir(exist_ok=True)
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "word": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "unk_token": "[UNK]"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
