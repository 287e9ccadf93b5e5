"""What of this host engines are given: its GPUs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from controlplane.domain.errors import InvalidInput


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
