"""What of this host engines are given: GPUs and ports."""

from __future__ import annotations

import errno
import os
import random
import socket
import subprocess
from collections.abc import Mapping

from controlplane.domain.errors import InvalidInput

_PORTS = range(20000, 32000)
"""Below Linux's ephemeral ports (32768 on): no outgoing connection can take one before the engine binds it."""


def nvidia_gpus(base_env: Mapping[str, str] | None = None) -> tuple[int, ...]:
    """Return the indices of this host's GPUs, only those in CUDA_VISIBLE_DEVICES when it is set.

    Raises InvalidInput when there is none or nvidia-smi does not answer.
    """
    env = os.environ if base_env is None else base_env
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        text = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True, env=env).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise InvalidInput("this host has no NVIDIA GPU", why=f"nvidia-smi: {error}") from error
    rows = [[part.strip() for part in line.split(",")] for line in text.splitlines() if line.strip()]
    every = {name: int(index) for index, uuid in rows for name in (index, uuid)}
    visible = env.get("CUDA_VISIBLE_DEVICES")
    names = [index for index, _ in rows] if visible is None else [name.strip() for name in visible.split(",")]
    found = tuple(every[name] for name in names if name in every)
    if not found:
        raise InvalidInput("this host has no NVIDIA GPU to use", why=f"CUDA_VISIBLE_DEVICES is {visible!r}")
    return found


def free_port(host: str, taken: set[int]) -> int:
    """Return a port nobody listens on and no engine was given. Raises InvalidInput when the host is not this one's."""
    while True:
        port = random.choice(_PORTS)
        if port not in taken and _is_free(host, port):
            return port


def _is_free(host: str, port: int) -> bool:
    try:
        with socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET):
            return True
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EACCES):
            raise InvalidInput(f"engines cannot listen on {host}", why=error.strerror or str(error)) from error
        return False
