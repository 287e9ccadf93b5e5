"""Whether a real engine sees the trace that the gateway began, or went on with: `python -m benchmarks.h200.traced`.

Usage: python -m benchmarks.h200.traced --data-dir DIR --json OUT [--file SERVICE]
Half of the requests come with a trace context of their own (W3C `traceparent`), half without. Told is, of each request,
the trace of the gateway's `attempt` and of the engine's span, and whether the one lies within the other.
"""

from __future__ import annotations

import argparse
import json
import secrets
import time
from pathlib import Path
from typing import Any

import httpx

from benchmarks.h200.canary import until
from benchmarks.h200.installed import install, parser
from controlplane.cli.client import ApiClient
from controlplane.reading.service_file import load_service
from tests.collector import Collector, collector, told

SERVICE = Path("examples/h200/traced-1b.yaml")
PORT = 4318  # which the service's flags name
ASKED = 10


def main() -> None:
    options = _options()
    model = load_service(options.file).model.name
    with collector(PORT) as seen:
        up, ports = install(options.file, options.data_dir, f"--otlp-endpoint={seen.url}", "--trace-share=1")
        api = ApiClient(url=f"http://127.0.0.1:{ports['api']}", key=None, data_dir=options.data_dir)
        try:
            until(lambda: any(engine["state"] == "ready" for engine in api.get("/fleet")["engines"]), 300)
            own = [_ask(f"http://127.0.0.1:{ports['gateway']}", model, own=index % 2 == 0) for index in range(ASKED)]
            time.sleep(12)  # both sides send what they have every five seconds
        finally:
            up.terminate()
            up.wait()
        options.json.write_text(json.dumps(_facts(seen, [each for each in own if each]), indent=1))
        print(options.json.read_text()[:2000], flush=True)


def _ask(gateway: str, model: str, *, own: bool) -> str | None:
    """Ask for four tokens; return the trace that the request came with, None where it came without."""
    trace = secrets.token_hex(16) if own else None
    headers = {"traceparent": f"00-{trace}-{secrets.token_hex(8)}-01"} if own else {}
    body = {"model": model, "prompt": "w5 w6 w7", "max_tokens": 4}
    httpx.post(f"{gateway}/v1/completions", json=body, headers=headers, timeout=60, trust_env=False).raise_for_status()
    return trace


def _facts(seen: Collector, own: list[str]) -> dict[str, Any]:
    """Return each engine span beside the attempt it lies within; those of no attempt are told as `elsewhere`."""
    attempts = {span.span_id: span for span in seen.named("attempt")}
    engines = [span for span in seen.spans if any(name.startswith("gen_ai.") for name in told(span))]
    within = [span for span in engines if span.parent_span_id in attempts]
    traces = {span.trace_id.hex() for span in within}
    return {
        "requests": ASKED,
        "attempts": len(attempts),
        "engine_spans": len(engines),
        "within_their_attempt": sum(attempts[span.parent_span_id].trace_id == span.trace_id for span in within),
        "own_traces_continued": sum(trace in traces for trace in own),
        "elsewhere": [span.name for span in engines if span.parent_span_id not in attempts],
        "names": sorted({span.name for span in seen.spans}),
        "example": {name: str(value) for name, value in told(within[0]).items()} if within else None,
    }


def _options() -> argparse.Namespace:
    return parser(__doc__, SERVICE).parse_args()


if __name__ == "__main__":
    main()
