"""A process is known by what does not move when the clock is set or its number is used again."""

from __future__ import annotations

import os
import subprocess
import sys

from controlplane.host.processes import boot_id, identify, is_alive, this_process


def test_this_process_lives_and_knows_itself() -> None:
    me = this_process()
    assert (me.pid, me.boot_id) == (os.getpid(), boot_id())
    assert is_alive(me)


def test_another_process_with_its_number_or_of_another_boot_is_not_it() -> None:
    me = this_process()
    assert not is_alive(me.evolve(started_ticks=me.started_ticks - 1))
    assert not is_alive(me.evolve(boot_id="an earlier one"))


def test_one_that_ended_is_gone_though_nobody_asked_how() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        found = identify(child.pid)
        assert found is not None
        assert is_alive(found)
        assert child.stdin is not None
        child.stdin.close()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not is_alive(found)
