"""Manifests as commits, by the system's own git: it knows how to reach a repository, and with which credentials.

Every write begins with a fresh clone and ends with one push, so whoever is killed in between leaves nothing behind.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path

from controlplane.domain.cluster import CommitOptions
from controlplane.domain.errors import Conflict, InvalidInput, Refused, Unavailable

TRAILER = "Written-by: fleetune"
"""The last line of every commit of Fleetune's: a file whose last commit has no such line was changed by somebody."""
_AUTHOR = {"user.name": "fleetune", "user.email": "fleetune@localhost"}
_TIMEOUT_S = 60.0
_TRIES = 3
_DENIED = ("Permission denied", "Authentication failed", "could not read Username", "access denied", "403")


class GitManifests:
    """One branch of one repository, by URL or path."""

    def __init__(self, options: CommitOptions) -> None:
        self._repository, self._branch = options.repository, options.branch

    def write(self, path: str, text: str, *, subject: str) -> str:
        """Commit and push one file. Raises Conflict, Refused, InvalidInput, Unavailable."""
        for _ in range(_TRIES):
            with tempfile.TemporaryDirectory(prefix="fleetune-git-") as folder:
                found = self._written(Path(folder) / "clone", path, text, subject)
            if found is not None:
                return found
        raise Unavailable(
            f"{path} is not committed", why=f"others push to {self._branch} of {self._repository} meanwhile"
        )

    def _written(self, clone: Path, path: str, text: str, subject: str) -> str | None:
        """Return the commit, None when somebody else was faster."""
        self._clone(clone)
        file = clone / path
        if file.is_symlink() or not file.resolve().is_relative_to(clone.resolve()):
            raise InvalidInput(f"{path} leads out of {self._repository}", allowed="a folder of the repository itself")
        if file.exists():
            self._require_ours(clone, path)
            if file.read_text() == text:
                return _git("log", "-1", "--format=%H", "--", path, at=clone).strip()
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        _git("add", "--force", "--", path, at=clone)
        who = [word for name, value in _AUTHOR.items() for word in ("-c", f"{name}={value}")]
        _git(*who, "commit", "--quiet", "--no-verify", "-m", subject, "-m", TRAILER, "--", path, at=clone)
        return _git("rev-parse", "HEAD", at=clone).strip() if self._push(clone) else None

    def _clone(self, clone: Path) -> None:
        """Get the branch, or begin it where it is not there yet: from the repository's own, if it has any commit."""
        self._reached("clone", "--quiet", "--no-tags", "--", self._repository, str(clone))
        there = _ran("rev-parse", "--verify", "--quiet", f"refs/remotes/origin/{self._branch}", at=clone)
        begin = ["-B", self._branch] if there.returncode == 0 else ["-b", self._branch]
        if _git("branch", "--show-current", at=clone).strip() == self._branch:
            return
        _git("checkout", "--quiet", *begin, *([f"origin/{self._branch}"] if there.returncode == 0 else []), at=clone)

    def _require_ours(self, clone: Path, path: str) -> None:
        said = _git("log", "-1", "--format=%an%n%s%n%B", "--", path, at=clone)
        author, subject, *body = said.splitlines() or ["", ""]
        if TRAILER not in body:
            raise Conflict(
                f"{path} of {self._repository} is not overwritten",
                why=f"{author} changed it on {self._branch}: {subject}",
                allowed="revert that commit, or another kubernetes.commit.folder",
            )

    def _push(self, clone: Path) -> bool:
        done = _ran("push", "--quiet", "origin", f"HEAD:refs/heads/{self._branch}", at=clone)
        if done.returncode == 0:
            return True
        if "[rejected]" in done.stderr or "fetch first" in done.stderr or "non-fast-forward" in done.stderr:
            return False
        raise self._unreached(done.stderr)

    def _reached(self, *words: str) -> None:
        done = _ran(*words)
        if done.returncode != 0:
            raise self._unreached(done.stderr)

    def _unreached(self, said: str) -> Unavailable | Refused:
        lines = [line for line in said.splitlines() if line.strip()]
        why = next((line for line in lines if line.startswith(("fatal:", "remote:", "error:"))), "git gave up")
        if any(word in said for word in _DENIED):
            return Refused(f"{self._repository} does not let Fleetune in", why=why, allowed="credentials of git's own")
        return Unavailable(f"{self._repository} cannot be written to", why=why)


def _git(*words: str, at: Path) -> str:
    done = _ran(*words, at=at)
    if done.returncode != 0:
        raise Unavailable(f"git {words[0]} failed", why=done.stderr.strip()[:300])
    return done.stdout


def _ran(*words: str, at: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run git: it asks nobody anything, and takes no settings of the repository that this process may lie in."""
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_SSH_COMMAND": "ssh -oBatchMode=yes", "LC_ALL": "C"}
    known = {name: value for name, value in os.environ.items() if not name.startswith("GIT_DIR")}
    try:
        return subprocess.run(
            ["git", *words],
            cwd=at,
            env={**quiet, **known, "GIT_TERMINAL_PROMPT": "0"},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
        )
    except FileNotFoundError as error:
        raise InvalidInput(
            "manifests cannot be committed", why="git is not installed", allowed="install git"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"git {words[0]} takes longer than {_TIMEOUT_S:g} s") from error
