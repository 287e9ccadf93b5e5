"""Where manifests are kept for a tool that applies them: a branch of a repository."""

from __future__ import annotations

from typing import Protocol


class ManifestRepository(Protocol):
    """One branch. Each file in it that Fleetune writes is Fleetune's own."""

    def write(self, path: str, text: str, *, subject: str) -> str:
        """Make a file say this, in one commit, and return its id; that of the last one when it says so already.

        Raises Conflict naming who changed the file since, which is not overwritten; Refused when the repository lets
        nobody in; Unavailable when it cannot be reached, or others write to the branch all the time.
        """
