"""A quick stub of an engine for the pods of the stand-in: starts at once, needs the standard library only.

It knows a few of vLLM's flags and refuses all others as vLLM does; `--emulator-startup-s` and `--emulator-fault` are
those of the emulator. With `--headless` it serves nobody.
GET /health and /metrics, POST /v1/completions (a token every 20 ms when streamed).
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="engine", allow_abbrev=False)
    parser.add_argument("model")
    for name, kind, default in (
        ("host", str, "127.0.0.1"),
        ("port", int, 8000),
        ("served-model-name", str, ""),
        ("shutdown-timeout", float, 0.0),
        ("emulator-startup-s", float, 0.0),
        ("emulator-fault", str, ""),
        ("emulator-gpu", str, ""),
        ("emulator-time-lapse", float, 1.0),
        ("max-model-len", int, 0),
        ("max-num-seqs", int, 0),
        ("tensor-parallel-size", int, 1),
        ("pipeline-parallel-size", int, 1),
        ("nnodes", int, 1),
        ("node-rank", int, 0),
        ("master-addr", str, ""),
    ):
        parser.add_argument(f"--{name}", type=kind, default=default)
    parser.add_argument("--headless", action="store_true")
    return parser.parse_args()


class _Engine(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    running = 0
    lock = threading.Lock()
    token_s = 0.02

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that left is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: _Engine

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        names = ("vllm:num_requests_running", "vllm:num_requests_waiting")
        counts = (self.server.running, 0)
        lines = "".join(f"{n} {c}.0\n" for n, c in zip(names, counts, strict=True))
        self._say(lines.encode() if self.path == "/metrics" else b"")

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.running += 1
        try:
            if asked.get("stream"):
                self._stream(asked["max_tokens"])
            else:
                own = self.server.server_address[0]  # tells who answered
                self._say(json.dumps({"choices": [{"text": "a"}], "system_fingerprint": own}).encode())
        finally:
            with self.server.lock:
                self.server.running -= 1

    def _stream(self, tokens: int) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        for _ in range(tokens):
            self.wfile.write(b'data: {"choices": [{"text": "a"}]}\n\n')
            time.sleep(self.server.token_s)
        self.wfile.write(b"data: [DONE]\n\n")

    def _say(self, content: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _end_with_parent() -> None:
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def main() -> None:
    given = _arguments()
    threading.Thread(target=_end_with_parent, daemon=True).start()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if "out-of-memory" in given.emulator_fault:
        sys.exit("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")
    time.sleep(given.emulator_startup_s)
    if given.headless:  # a part of an engine: it computes, and serves nobody
        threading.Event().wait()
    server = _Engine((given.host, given.port), _Handler)
    if given.emulator_fault.startswith("slow-factor="):
        server.token_s *= float(given.emulator_fault.partition("=")[2])

    def finish(*_: object) -> None:
        def wait() -> None:
            until_s = time.monotonic() + given.shutdown_timeout
            while server.running and time.monotonic() < until_s:
                time.sleep(0.02)
            server.shutdown()

        threading.Thread(target=wait, daemon=True).start()

    signal.signal(signal.SIGTERM, finish)
    server.serve_forever(poll_interval=0.05)


if __name__ == "__main__":
    main()
