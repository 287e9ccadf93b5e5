"""What of this host engines are given: its GPUs."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from controlplane.domain.errors import InvalidInput


class HostGpus(NamedTuple):
    """Which GPUs engines may be given, by their indices. `leaving` says which are under notice now."""

    all: tuple[int, ...]
    spot: frozenset[int] = frozenset()
    leaving: Callable[[], Collection[int]] = tuple

    def of_kind(self, spot: bool | None) -> Sequence[int]:
        """Return those that are spot, or on demand, or all."""
        return [gpu for gpu in self.all if spot is None or (gpu in self.spot) == spot]

    def free(self, spot: bool | None, *, held: Collection[int]) -> Sequence[int]:
        taken = {*held, *self.leaving()}
        return [gpu for gpu in self.of_kind(spot) if gpu not in taken]

    def require(self, gpus: int, *, spot: bool) -> None:
        """Raise InvalidInput when there are not so many of a kind, free or not."""
        there, kind = len(self.of_kind(spot)), " spot" if spot else " on demand" if self.spot else ""
        if gpus > there:
            raise InvalidInput(f"an engine on {gpus} GPUs cannot run here", why=f"there are {there}{kind}")


def host_gpus(gpus: int | Sequence[int] | HostGpus) -> HostGpus:
    """Return so many GPUs, or those with these indices, all on demand; or what was said of them already."""
    if isinstance(gpus, HostGpus):
        return gpus
    return HostGpus(tuple(range(gpus)) if isinstance(gpus, int) else tuple(gpus))


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
