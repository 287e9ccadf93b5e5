"""What every AnswerJudge does, on the fake and on a real command; and what becomes of a command that misbehaves."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from controlplane.adapters.judge_command import CommandJudge
from controlplane.domain.door.judging import JudgeOptions, Sample
from controlplane.domain.errors import FleetuneError, InvalidInput, Unavailable
from controlplane.host.processes import runs
from controlplane.ports.judging import AnswerJudge
from tests.fakes.judge import FakeJudge

PLANTED = "planted-words-of-a-user"
BY_LENGTH = """
import json, sys
for line in sys.stdin:
    given = json.loads(line)
    print(json.dumps({"id": given["id"], "score": min(1, len(given["answer"]) / 10)}))
"""


def a_judge(script: str, *, timeout_s: float = 240) -> JudgeOptions:
    return JudgeOptions(command=(sys.executable, "-c", script), timeout_s=timeout_s)


def samples(*answers: str) -> list[Sample]:
    asked = {"prompt": PLANTED}
    return [Sample(request_id=f"r{n}", path="/v1/completions", asked=asked, answer=a) for n, a in enumerate(answers)]


@pytest.mark.parametrize("kind", ["fake", "command"])
def test_every_sample_gets_its_score_in_order(kind: str) -> None:
    judge: AnswerJudge = CommandJudge() if kind == "command" else FakeJudge(lambda s: min(1, len(s.answer) / 10))
    assert judge.scores(a_judge(BY_LENGTH), samples("a", "hello", "x" * 50)) == [0.1, 0.5, 1.0]


def test_more_than_a_pipe_holds_is_judged_though_the_judge_answers_before_it_has_read_all() -> None:
    many = samples(*("x" * 20_000 for _ in range(100)))
    assert CommandJudge().scores(a_judge(BY_LENGTH), many) == [1.0] * 100


KILLED = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
SLOW = "import time; time.sleep(600)"
WRONG: dict[str, tuple[str, type[FleetuneError], str]] = {
    "killed": (KILLED, Unavailable, "exit code 137"),
    "fails": (f"import sys; print('{PLANTED}', file=sys.stderr); sys.exit('{PLANTED}')", Unavailable, "exit code 1"),
    "slow": (SLOW, Unavailable, "longer than 1 s"),
    "closes its mouth and stays": (f"import os; os.close(1); {SLOW}", Unavailable, "longer than 1 s"),
    "babbles": ("while True: print('x' * 1000)", Unavailable, "more than"),
    "repeats": ("import sys; print(sys.stdin.read())", InvalidInput, "refused"),
    "says nothing": ("pass", InvalidInput, "0 lines for 1 samples"),
}


@pytest.mark.parametrize("how", WRONG)
def test_a_judge_that_misbehaves_is_one_reason_without_a_word_of_what_it_was_given(how: str) -> None:
    script, kind, says = WRONG[how]
    with pytest.raises(kind, match=says) as refusal:
        CommandJudge().scores(a_judge(script, timeout_s=1 if "longer" in says else 60), samples(PLANTED))
    assert PLANTED not in f"{refusal.value!r} {refusal.value}"


def test_one_that_is_not_there_says_so() -> None:
    with pytest.raises(Unavailable, match="no program '/nowhere/judge' here"):
        CommandJudge().scores(JudgeOptions(command=("/nowhere/judge",)), samples("a"))


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 240
    while runs(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not runs(pid)


def noted(path: Path) -> int:
    """Wait for a process number somebody writes."""
    deadline = time.monotonic() + 240
    while not (path.exists() and path.read_text().endswith(".")) and time.monotonic() < deadline:
        time.sleep(0.01)
    return int(path.read_text().rstrip("."))


def child_that_stays(path: Path) -> str:
    """A judge that starts another process, which would outlive it."""
    return f"""
import subprocess, sys, pathlib
child = subprocess.Popen(["sleep", "600"])
pathlib.Path({str(path)!r}).write_text(f"{{child.pid}}.")
"""


def test_what_a_judge_started_is_gone_with_it(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    with pytest.raises(Unavailable, match="longer than 8 s"):  # its child holds the pipe of scores
        CommandJudge().scores(a_judge(child_that_stays(path) + BY_LENGTH, timeout_s=8), samples("a"))
    assert gone(noted(path))


def test_a_judge_and_what_it_started_die_with_who_started_it_by_kill_9_too(tmp_path: Path) -> None:
    path = tmp_path / "pid"
    starter = f"""
from controlplane.adapters.judge_command import CommandJudge
from tests.contract.test_answer_judge import a_judge, child_that_stays, samples, SLOW
from pathlib import Path
CommandJudge().scores(a_judge(child_that_stays(Path({str(path)!r})) + SLOW, timeout_s=600), samples("a"))
"""
    process = subprocess.Popen([sys.executable, "-c", starter])
    try:
        pid = noted(path)
        assert runs(pid)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert gone(pid)


def test_it_is_not_told_where_the_store_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETUNE_STORE_URL", "postgresql://secret")
    script = """
import os
print('{"id": 0, "score": %d}' % ("FLEETUNE_STORE_URL" in os.environ))
"""
    assert CommandJudge().scores(a_judge(script), samples("a")) == [0.0]
