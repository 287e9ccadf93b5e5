"""What judge commands said of sampled answers, in files: JudgedLog and JudgedFeed. Scores and reasons, never text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from controlplane.adapters.gateway.hourly_files import append, new_lines, parsed
from controlplane.domain.base import ServiceName
from controlplane.domain.door.gateway_files import judged_dir, records_hour, records_name
from controlplane.domain.door.judging import Judged
from controlplane.domain.errors import Unavailable
from controlplane.ports import Clock
from controlplane.ports.gateways import Judgements, Position

KEPT = timedelta(days=57)
"""As long as the longest test may take."""


class JudgedFiles:
    """One writer per data folder: the controller. A line that was cut by its end is skipped by readers."""

    def __init__(self, data_dir: Path, *, clock: Clock) -> None:
        self._folder = judged_dir(data_dir)
        self._clock = clock

    def keep(self, service: ServiceName, judged: Sequence[Judged]) -> None:
        """See `ports.JudgedLog.keep`."""
        now = self._clock()
        path = self._folder / records_name(service, now)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                self._prune(now)
            append(path, judged)
        except OSError as error:
            raise Unavailable("what the judge said cannot be written", why=error.strerror or str(error)) from error

    def judged(self, service: ServiceName, *, since: datetime, position: Position) -> Judgements:
        """See `ports.JudgedFeed.judged`."""
        reached, found = dict(position), list[Judged]()
        try:
            for name, lines in new_lines(self._folder, since, reached):
                reached[name] = reached.get(name, 0) + len(lines)
                given = parsed(lines, Judged, where="among what the judge said")
                found += [each for each in given if each.at >= since and each.service == service]
        except OSError as error:
            raise Unavailable("what the judge said cannot be read", why=str(error)) from error
        return Judgements(found, reached)

    def _prune(self, now: datetime) -> None:
        for path in self._folder.glob("*.jsonl"):
            hour = records_hour(path.name)
            if hour is not None and hour < now - KEPT:
                path.unlink(missing_ok=True)
