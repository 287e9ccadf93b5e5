"""A file is the old one or the new one, whole, and there is one way to replace it."""

from __future__ import annotations

import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from controlplane.host.files import whole_file, write_first, write_whole

ROOT = Path(__file__).parents[3]
ROOMS = ("controlplane", "tuner", "loadtests", "dashboards", "benchmarks")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_an_installation_keeps_is_for_its_owner_only_whatever_was_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "kept.json"
    write_whole(path, "{}")
    path.chmod(0o666)
    write_whole(path, "[]")
    assert (path.read_text(), mode(path)) == ("[]", 0o600)


def test_what_is_written_for_a_person_follows_their_umask(tmp_path: Path) -> None:
    script = (
        "import os, sys; from pathlib import Path; from controlplane.host.files import write_whole; os.umask(0o027)"
    )
    code = f"{script}; write_whole(Path(sys.argv[1]), 'x', private=False)"
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "trace.jsonl")], check=True, cwd=ROOT)
    assert mode(tmp_path / "trace.jsonl") == 0o640


def test_a_writer_that_fails_midway_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    write_whole(path, "old")

    def write() -> None:
        with whole_file(path) as file:
            file.write(b"half of the n")
            raise ValueError("the rest is wrong")

    with pytest.raises(ValueError, match="rest is wrong"):
        write()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [("kept.json", "old")]


_ENDLESS = """
import sys
from pathlib import Path
from controlplane.host.files import write_whole
for number in range(10**6):
    write_whole(Path(sys.argv[1]), str(number % 10) * 300_000)
    if number == 20: print("going", flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "kept"
    command = [sys.executable, "-c", _ENDLESS, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as child:
        assert child.stdout is not None
        child.stdout.readline()
        child.send_signal(signal.SIGKILL)
    text = path.read_text()
    assert (len(text), len(set(text))) == (300_000, 1)


def test_of_several_first_writers_one_wins_and_nothing_is_written_over(tmp_path: Path) -> None:
    start = threading.Barrier(8)

    def write(number: int) -> None:
        start.wait()
        write_first(tmp_path / "salt", bytes([number]) * 32)

    writers = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    (kept,) = tmp_path.iterdir()
    content = kept.read_bytes()
    assert (len(content), len(set(content)), mode(kept)) == (32, 1, 0o600)


def test_nothing_else_replaces_a_file_in_a_way_of_its_own() -> None:
    # Who appends to a log of his own may make it durable: that replaces nothing.
    own_way = re.compile(r"os\.replace\(|os\.rename\(|\.tmp\"|draft\.(replace|rename)\(")
    found = [
        str(path.relative_to(ROOT))
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        if own_way.search(path.read_text())
    ]
    assert found == ["controlplane/host/files.py"]
