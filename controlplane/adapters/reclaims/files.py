"""Notices as files of one folder: `gpu-3` takes that GPU back, `host` all of them, `cloud` is what the cloud said last.

A file may hold the moment at which it happens (ISO 8601, with a zone); it stands as long as the file is there. Whoever
starts engines looks at the same folder, so nothing new lands on what is going.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from pathlib import Path

from controlplane.domain.errors import Unavailable
from controlplane.domain.operations.spot import Notice
from controlplane.host.clock import utc_now
from controlplane.host.files import write_whole
from controlplane.ports import Clock

CLOUD = "cloud"
_GPU = re.compile(r"gpu-(\d{1,4})")
_HOST = frozenset({"host", CLOUD})

AskCloud = Callable[[], datetime | None]
"""Returns when the cloud takes this host back, by the wall clock; None: it does not. Raises Unavailable."""


class ReclaimFolder:
    """The notices port on a folder, which need not be there. `spot_gpus` are those that the cloud's notice is about.

    Times in files are of the wall clock; notices are in the installation's time.
    """

    def __init__(
        self,
        folder: Path,
        *,
        gpus: Sequence[int],
        clock: Clock,
        wall: Clock = utc_now,
        ask_cloud: AskCloud | None = None,
    ) -> None:
        self._folder = folder
        self._gpus = frozenset(gpus)
        self._clock, self._wall = clock, wall
        self._ask_cloud = ask_cloud

    def notices(self) -> Sequence[Notice]:
        """Return the notices that stand, the cloud asked first. What it said last stands while it does not answer."""
        if self._ask_cloud is not None:
            self._keep(self._ask_cloud())
        return [self._notice(name) for name in self._names()]

    def leaving(self) -> Collection[int]:
        """Return the GPUs under notice. Raises Unavailable when the folder cannot be read."""
        named = [_gpus_of(name) for name in self._names()]
        return self._gpus if None in named else frozenset().union(*(each for each in named if each is not None))

    def _keep(self, ends_at: datetime | None) -> None:
        path = self._folder / CLOUD
        if ends_at is None:
            path.unlink(missing_ok=True)
        elif not path.exists():
            write_whole(path, ends_at.isoformat())

    def _names(self) -> Sequence[str]:
        try:
            names = sorted(path.name for path in self._folder.iterdir())
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise Unavailable(f"cannot read {self._folder}", why=error.strerror or str(error)) from error
        return [name for name in names if name in _HOST or _GPU.fullmatch(name)]

    def _notice(self, name: str) -> Notice:
        what = "the cloud takes this host back" if name == CLOUD else f"{name.replace('-', ' ')} is taken back"
        return Notice(gpus=_gpus_of(name), ends_at=self._ends_at(name), why=what)

    def _ends_at(self, name: str) -> datetime | None:
        """A file without a time, or with one that cannot be read, says that it is soon."""
        try:
            text = (self._folder / name).read_text().strip()
            at = datetime.fromisoformat(text)
        except (OSError, ValueError):
            return None
        return None if at.tzinfo is None else self._clock() + (at - self._wall())


def _gpus_of(name: str) -> frozenset[int] | None:
    found = _GPU.fullmatch(name)
    return None if found is None else frozenset({int(found[1])})
