"""ScoreFeed on the gateways' files of people's scores."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from controlplane.adapters.gateway.hourly_files import new_lines, parsed
from controlplane.domain.door.feedback import Feedback
from controlplane.domain.door.gateway_files import scores_dir
from controlplane.domain.errors import Unavailable
from controlplane.ports.gateways import Position, Scores


class SpooledScores:
    """Reads what gateways have appended."""

    def __init__(self, data_dir: Path) -> None:
        self._folder = scores_dir(data_dir)

    def scores(self, *, since: datetime, position: Position) -> Scores:
        """See `ports.ScoreFeed.scores`. Files by name: gateway after gateway, each hour by hour."""
        reached, found = dict(position), list[Feedback]()
        try:
            for name, lines in new_lines(self._folder, since, reached):
                reached[name] = reached.get(name, 0) + len(lines)
                found += [each for each in parsed(lines, Feedback, where="among the scores") if each.at >= since]
        except OSError as error:
            raise Unavailable("people's scores cannot be read", why=str(error)) from error
        return Scores(found, reached)
