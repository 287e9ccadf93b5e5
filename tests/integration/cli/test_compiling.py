"""A worker that has to compile the twin says so before it takes a study, and does not outstay a stop."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import psutil
import pytest

from controlplane.cli.installation.compiling import COMPILING, compile_unless_stopped
from tuner.twin.precompile import FOLDER_VARIABLE


def test_it_is_said_and_given_up_once_a_stop_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    stop = threading.Event()
    stop.set()
    with caplog.at_level(logging.INFO):
        compile_unless_stopped(stop)
    assert COMPILING in caplog.messages
    assert [each for each in psutil.Process().children() if "twin" in each.cmdline()] == []


def test_what_is_compiled_is_not_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    (tmp_path / "twin_1a2b").mkdir()
    (tmp_path / "twin_1a2b" / "compiled.run-41.py311.nbi").touch()
    with caplog.at_level(logging.INFO):
        compile_unless_stopped(threading.Event())
    assert caplog.messages == []
