"""How what a worker on another host writes comes home: as it grows, over the connection to its master."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import gevent

from controlplane.host.files import write_whole

_FILES = re.compile(r"(records|status)-\d+\.jsonl|gaps-\d+\.u32|summary-\d+\.json")


class Home(Protocol):
    """What carries messages to the master: Locust's runner of a worker."""

    def send_message(self, msg_type: str, data: dict[str, Any] | None = None) -> None: ...


def ship(runner: Home, folder: Path, worker: int) -> None:
    """Send what a worker's files grow by to the master, the summary last: it says the run is over."""
    names = [f"records-{worker}.jsonl", f"gaps-{worker}.u32", f"status-{worker}.jsonl"]
    sent = dict.fromkeys(names, 0)
    summary = folder / f"summary-{worker}.json"
    over = False
    while not over:
        gevent.sleep(0.3)
        over = summary.exists()
        for name in names:
            with contextlib.suppress(FileNotFoundError), (folder / name).open("rb") as file:
                file.seek(sent[name])
                data = file.read()
                sent[name] += len(data)
                runner.send_message("fleetune_file", {"name": name, "data": data})
    runner.send_message("fleetune_file", {"name": summary.name, "data": summary.read_bytes()})


def keep(folder: Path, file: Mapping[str, Any]) -> None:
    """Append what a worker sent to its file in a folder; names are those of its own files and nothing else.

    A summary appears at once with all it says: that it is there ends the run.
    """
    if not _FILES.fullmatch(file["name"]):
        return
    path = folder / file["name"]
    if path.suffix == ".json":
        write_whole(path, file["data"], private=False)
        return
    with path.open("ab") as whole:
        whole.write(file["data"])
