"""AnswerJudge on a user's command: samples go through a pipe, scores come back through one, no file is written.

What the command prints as errors goes nowhere, as it may repeat what it was given. It is killed with all that it
started when it is done, takes too long or says too much, and when this process dies (`host.leash`).
"""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from controlplane.domain.door.judging import JudgeOptions, Sample, lines_for, most_bytes_of, scores_in
from controlplane.domain.errors import Unavailable
from controlplane.host import leash
from controlplane.host.environment import for_others

_PIECE = 65536


class CommandJudge:
    """Implements `ports.AnswerJudge`."""

    def scores(self, judge: JudgeOptions, samples: Sequence[Sample]) -> Sequence[float]:
        """See the port."""
        deadline = time.monotonic() + judge.timeout_s
        with _started(judge.command) as child:
            _feed(child, lines_for(samples))
            said = _read(child, most_bytes_of(len(samples)), deadline, judge)
            code = _code(child, deadline, judge)
        if code == leash.CANNOT_START:
            raise Unavailable("the judge command cannot be started", why=f"no program {judge.command[0]!r} here")
        if code:
            raise Unavailable("the judge command failed", why=f"exit code {code}")
        return scores_in(said, len(samples))


@contextmanager
def _started(command: Sequence[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run it while inside. Raises Unavailable."""
    lifeline, ours = os.pipe()
    words = [sys.executable, "-I", "-S", leash.__file__, str(lifeline), *command]
    try:
        child = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            pass_fds=[lifeline],
            start_new_session=True,
            env=for_others(os.environ),
        )
    except OSError as error:
        os.close(ours)
        raise Unavailable("the judge command cannot be started", why=error.strerror or "") from error
    finally:
        os.close(lifeline)
    try:
        yield child
    finally:
        _end(child)
        os.close(ours)


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill what is left of its group; the group's number is its own until it was waited for."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert child.stdout is not None
    child.stdout.close()


def _feed(child: subprocess.Popen[bytes], lines: bytes) -> None:
    """Write beside the reading: a judge may answer before it has read everything, or never read at all."""

    def write() -> None:
        assert child.stdin is not None
        with suppress(OSError), child.stdin:
            child.stdin.write(lines)

    threading.Thread(target=write, name="judge", daemon=True).start()


def _read(child: subprocess.Popen[bytes], most: int, deadline: float, judge: JudgeOptions) -> bytes:
    assert child.stdout is not None
    said = bytearray()
    with selectors.DefaultSelector() as ready:
        ready.register(child.stdout, selectors.EVENT_READ)
        while True:
            if not ready.select(max(0.0, deadline - time.monotonic())):
                raise _too_slow(judge)
            piece = os.read(child.stdout.fileno(), _PIECE)
            if not piece:
                return bytes(said)
            said += piece
            if len(said) > most:
                raise Unavailable("the judge command failed", why=f"it said more than {most} bytes")


def _code(child: subprocess.Popen[bytes], deadline: float, judge: JudgeOptions) -> int:
    """Return its exit code. It is not reaped here, so that its group can still be killed by number."""
    while os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        if time.monotonic() >= deadline:
            raise _too_slow(judge)
        time.sleep(0.005)
    found = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert found is not None, "it has ended"
    return found.si_status


def _too_slow(judge: JudgeOptions) -> Unavailable:
    return Unavailable("the judge command failed", why=f"it took longer than {judge.timeout_s:g} s")
