"""Logs are JSON lines whatever is said, and nothing that people wrote is in them."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from controlplane.domain.errors import NotFound
from controlplane.telemetry.logs import JsonLine, ids

PROGRAM = """
import logging, os, sys, warnings
from pathlib import Path
from controlplane.telemetry.logs import begin
begin("worker-1", Path(sys.argv[1]), largest_bytes=int(sys.argv[2]))
print("printed\\nin two lines")
warnings.warn("a warning")
for number in range(int(sys.argv[3])):
    logging.getLogger("some.place").info("line %d", number)
os.write(2, b"not of Python\\n")
raise ValueError("what a client wrote")
"""


def line(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(JsonLine("api").format(record))
    return found


def record(
    text: str, *args: object, error: BaseException | None = None, extra: Mapping[str, object] | None = None
) -> logging.LogRecord:
    told = None if error is None else (type(error), error, error.__traceback__)
    made = logging.LogRecord("some.place", logging.WARNING, "file.py", 1, text, args, told)
    made.__dict__.update(extra or {})
    return made


def raised(error: Exception) -> Exception:
    try:
        raise error
    except (ValueError, NotFound) as caught:
        return caught


def run(file: Path, *, largest_bytes: int = 1 << 20, lines: int = 1) -> list[str]:
    command = [sys.executable, "-c", PROGRAM, str(file), str(largest_bytes), str(lines)]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 1
    return file.read_text().splitlines()


def test_a_line_has_its_level_event_and_ids() -> None:
    found = line(record("engine %s is gone", "e-1", extra=ids(service="chat", engine="e-1", revision=None)))
    assert found["event"] == "engine e-1 is gone"
    assert (found["level"], found["process"], found["where"]) == ("warning", "api", "some.place")
    assert (found["service"], found["engine"]) == ("chat", "e-1")
    assert "revision" not in found


def test_an_error_of_ours_says_why_and_what_is_allowed() -> None:
    error = line(record("it failed", error=raised(NotFound("no study s-1", why="it was never made"))))["error"]
    assert "it was never made" in error["said"]


def test_an_error_that_is_not_ours_is_told_without_its_message() -> None:
    found = line(record("it failed", error=raised(ValueError("what a client wrote"))))
    assert found["error"]["type"] == "ValueError"
    assert found["error"]["at"][-1].startswith("test_logs.py:")
    assert "client" not in json.dumps(found)


def test_what_is_printed_warned_of_and_raised_is_a_record_too(tmp_path: Path) -> None:
    text = run(tmp_path / "logs" / "worker-1.log")
    assert "not of Python" in text, "what no Python code wrote is kept as it is"
    found = [json.loads(each) for each in text if each != "not of Python"]
    assert [each["event"] for each in found[:2]] == ["printed", "in two lines"]
    assert any(each["where"] == "py.warnings" for each in found)
    assert found[-1]["error"]["type"] == "ValueError"
    assert "client" not in "".join(text)


def test_a_log_is_rotated_and_bounded(tmp_path: Path) -> None:
    run(tmp_path / "worker-1.log", largest_bytes=4000, lines=400)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 5, "the present one and four before it"
    assert all(file.stat().st_size <= 4000 + 500 for file in files)
    assert "not of Python" in files[0].read_text(), "also after a rotation"
