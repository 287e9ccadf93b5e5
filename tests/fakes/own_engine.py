"""An engine of nobody's kind: other paths, other flags, other names of metrics. Run as a script."""

from __future__ import annotations

import argparse
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answers(BaseHTTPRequestHandler):
    """`/up` when it lives, `/ask` for one question, `/numbers` for its metrics."""

    name = ""

    def do_GET(self) -> None:
        match self.path:
            case "/up":
                self._say(200, "yes")
            case "/numbers":
                self._say(200, "busy 1\nqueued 2\n")
            case _:
                self._say(404, "")

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        right = self.path == "/ask" and body == {"model": self.name, "question": "are you there?"}
        right = right and self.headers["Authorization"] == "Bearer k3y"
        self._say(200 if right else 400, "{}")

    def log_message(self, *_: object) -> None:
        pass

    def _say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--listen", required=True)
    parser.add_argument("--known_as", required=True)
    parser.add_argument("--worker_threads", type=int, default=1)
    given = parser.parse_args()
    if given.worker_threads > 8:
        sys.exit("fatal: too many worker threads")
    Answers.name = given.known_as
    host, port = given.listen.split(":")
    ThreadingHTTPServer((host, int(port)), Answers).serve_forever()


if __name__ == "__main__":
    main()
