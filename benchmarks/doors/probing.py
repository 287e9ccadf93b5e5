"""Asks `/health` on a port every 10 ms until stdin ends, and prints how long the answers took. Started by `attacks.py`.

Its first line says that it began.

A process of its own, so that what the attacker is busy with is not measured.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time

_ASK = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
_EVERY_S = 0.01


def probe(port: int) -> list[float]:
    """Return how long each answer took, milliseconds."""
    took: list[float] = []
    with socket.create_connection(("127.0.0.1", port)) as connection:
        while not took or not select.select([sys.stdin], [], [], _EVERY_S)[0]:
            began = time.monotonic()
            connection.sendall(_ASK)
            answer = b""
            while not answer.endswith(b'"ok"}'):
                answer = answer[-8:] + connection.recv(4096)
            took.append((time.monotonic() - began) * 1000)
            if len(took) == 1:
                print("began", flush=True)
    return took


if __name__ == "__main__":
    sys.stdout.write(json.dumps(probe(int(sys.argv[1]))))
