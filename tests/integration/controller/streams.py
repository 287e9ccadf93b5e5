"""Users of a gateway who ask for streams at a rate, whatever becomes of those before; every one is looked at."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx

TOKENS = 3


class Streams:
    """Run until `stop`. `url` is the gateway's; the model is `llama-8b`."""

    def __init__(self, url: str, *, rate_rps: float) -> None:
        self._url, self._asked_rps = f"{url}/v1/completions", rate_rps
        self.ends, self.rate_rps = Counter[str](), 0.0
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> Counter[str]:
        """Return how many streams were whole, failed or cut. `rate_rps` is then at what rate they were asked for."""
        self._stopping.set()
        self._thread.join()
        return self.ends

    def _run(self) -> None:
        with httpx.Client(timeout=240, trust_env=False, verify=False) as client, ThreadPoolExecutor(16) as pool:
            began_s, asked = time.monotonic(), 0
            while not self._stopping.wait(max(0.0, began_s + asked / self._asked_rps - time.monotonic())):
                pool.submit(self._ask, client)
                asked += 1
            lasted_s = time.monotonic() - began_s
            for _ in range(asked, int(lasted_s * self._asked_rps)):  # due by now, where the machine was late at the end
                pool.submit(self._ask, client)
                asked += 1
            self.rate_rps = asked / lasted_s

    def _ask(self, client: httpx.Client) -> None:
        asked = {"model": "llama-8b", "prompt": "a", "max_tokens": TOKENS, "stream": True}
        try:
            answer = client.post(self._url, json=asked)
            whole = answer.text.count('"a"') == TOKENS and answer.text.endswith("data: [DONE]\n\n")
            self.ends["failed" if answer.is_error else "whole" if whole else "cut"] += 1
        except httpx.HTTPError:
            self.ends["failed"] += 1
