"""A ManifestRepository in memory. `edit` plays somebody else who writes to the branch."""

from __future__ import annotations

from controlplane.domain.errors import Conflict


class FakeManifestRepository:
    def __init__(self) -> None:
        self.files: dict[str, str] = {}
        self.commits: list[str] = []
        self._last: dict[str, int] = {}
        self._edited: set[str] = set()

    def write(self, path: str, text: str, *, subject: str) -> str:
        if path in self._edited:
            raise Conflict(f"{path} is not overwritten", why="somebody changed it: by hand")
        if self.files.get(path) != text:
            self.files[path] = text
            self.commits.append(subject)
            self._last[path] = len(self.commits)
        return f"c{self._last[path]}"

    def edit(self, path: str, text: str) -> None:
        self.files[path] = text
        self.commits.append("by hand")
        self._edited.add(path)
