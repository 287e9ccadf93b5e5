"""Logs as JSON lines: one object a line, of every process, in a file that is rotated or on stderr.

Never in them: prompts, answers, secrets. So an unexpected error is told by its type and the lines of code it came
through, without its message, which may quote what a client sent; errors of our own say what, why and what is allowed.
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import threading
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from types import TracebackType

from controlplane.domain.errors import FleetuneError
from controlplane.telemetry.tracing import present_ids

LARGEST_BYTES = 10 << 20
KEPT_FILES = 4
"""Beside the one that is written: a process keeps 50 MiB of logs at most."""

_CHATTY = {name: logging.WARNING for name in ("alembic", "httpx", "kubernetes", "urllib3")}
_CHATTY |= {"opentelemetry": logging.ERROR}  # a collector that is down is said once a batch, not once a try
_MOST_FRAMES = 8
_LONGEST_STRAY = 2000


def ids(**named: object) -> Mapping[str, Mapping[str, str]]:
    """Return a log call's `extra`, so that its line carries these ids: `service="chat"`. None is left out."""
    return {"ids": {name: str(value) for name, value in named.items() if value is not None}}


def begin(process: str, file: Path | None = None, *, largest_bytes: int = LARGEST_BYTES) -> None:
    """Let this process log as JSON lines from now on: to `file`, rotated, or to stderr. Raises OSError for the file.

    What anybody prints goes there too, a line a record; with a file, what no Python code prints lands in it as it is.
    """
    handler = logging.StreamHandler(sys.__stderr__) if file is None else _Rotated(file, largest_bytes)
    handler.setFormatter(JsonLine(process))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for name, level in _CHATTY.items():
        logging.getLogger(name).setLevel(level)
    logging.captureWarnings(True)
    logging.raiseExceptions = False  # a line that a full disk refuses is lost, and not told by more lines
    sys.excepthook = _unexpected
    threading.excepthook = lambda told: _unexpected(told.exc_type, told.exc_value, told.exc_traceback)
    if file is not None:
        sys.stdout, sys.stderr = _Stray("stdout", logging.INFO), _Stray("stderr", logging.WARNING)


def file_log(process: str, file: Path) -> logging.Logger:
    """Return a log to a file of its own, for a process that belongs to a terminal. Raises OSError."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handler = RotatingFileHandler(file, maxBytes=LARGEST_BYTES, backupCount=KEPT_FILES, encoding="utf-8")
    handler.setFormatter(JsonLine(process))
    log = logging.getLogger(f"fleetune.{process}")
    log.handlers, log.propagate = [handler], False
    return log


def places(error: BaseException) -> list[str]:
    """Return the last lines of code an exception came through, innermost last."""
    frames = traceback.extract_tb(error.__traceback__)[-_MOST_FRAMES:]
    return [f"{frame.filename.rsplit('/', 1)[-1]}:{frame.lineno} {frame.name}" for frame in frames]


class JsonLine(logging.Formatter):
    """One record as one JSON object: at, level, process, event, where, its ids, the trace it belongs to, its error."""

    def __init__(self, process: str) -> None:
        super().__init__()
        self._process = process

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "process": self._process,
            "pid": record.process,
            "event": record.getMessage(),
            "where": record.name,
            **getattr(record, "ids", {}),
            **present_ids(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = _told(record.exc_info[1])
        return json.dumps(line, ensure_ascii=False, default=str)


def _told(error: BaseException) -> Mapping[str, object]:
    said = {"said": str(error)} if isinstance(error, FleetuneError) else {}
    return {"type": type(error).__name__, **said, "at": places(error)}


def _unexpected(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    if error is not None and not issubclass(kind, KeyboardInterrupt):
        logging.getLogger("process").critical("an unexpected error", exc_info=(kind, error, trace))


class _Rotated(RotatingFileHandler):
    """The file; the process's own stdout and stderr always lead to the one that is written now."""

    def __init__(self, file: Path, largest_bytes: int) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        super().__init__(file, maxBytes=largest_bytes, backupCount=KEPT_FILES, encoding="utf-8")
        self._lead_here()

    def doRollover(self) -> None:  # noqa: N802 - logging's name
        super().doRollover()
        self._lead_here()

    def _lead_here(self) -> None:
        assert self.stream is not None, "opened with the handler"
        for stream in (1, 2):
            os.dup2(self.stream.fileno(), stream)


class _Stray(io.TextIOBase):
    """Stands in for stdout and stderr: what is printed becomes a record a line."""

    encoding = "utf-8"

    def __init__(self, name: str, level: int) -> None:
        self._log, self._level = logging.getLogger(name), level
        self._rest = threading.local()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        *lines, self._rest.text = (getattr(self._rest, "text", "") + text).split("\n")
        for line in lines:
            if line.strip():
                self._log.log(self._level, "%s", line[:_LONGEST_STRAY])
        return len(text)
