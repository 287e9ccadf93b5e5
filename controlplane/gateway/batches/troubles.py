"""What keeps batches waiting: said in the gateway's status while it lasts, and once in its log."""

from __future__ import annotations

import logging

from controlplane.telemetry.lasting import Lasting


class Troubles:
    """At most one trouble of each part: the queue, the disk, the storage."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._lasting = Lasting(logging.getLogger(__name__))

    def note(self, part: str, trouble: str | None) -> None:
        """Note how a part is now; None: well."""
        if trouble is None:
            self._known.pop(part, None)
        else:
            self._known[part] = trouble
        self._lasting.tell(self._known.values())

    def told(self) -> list[str]:
        """Return them, one sentence each."""
        return list(self._known.values())
