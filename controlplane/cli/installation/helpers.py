"""Further tuner workers beside the one in the foreground."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from controlplane.cli.installation.programs import process_command
from controlplane.domain.base import StudyId
from controlplane.settings import Settings

_STOP_S = 20.0


@contextmanager
def helping_workers(settings: Settings, study_id: StudyId, count: int) -> Iterator[None]:
    """Run `count` processes that help with a study; they let go of it when this ends, or this process dies."""
    settings.logs_dir.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for number in range(2, count + 2):
            stack.enter_context(_helper(settings, study_id, f"helper-{number}"))
        yield


@contextmanager
def _helper(settings: Settings, study_id: StudyId, name: str) -> Iterator[None]:
    command = process_command(settings, "worker", f"--name={name}", f"--study={study_id}", name=name)
    with (settings.logs_dir / f"{name}.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(timeout=_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
