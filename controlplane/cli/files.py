"""Files that a command is given: looked at before the work whose result they hold, or that would wait for them."""

from __future__ import annotations

import os
from pathlib import Path

from controlplane.domain.errors import InvalidInput
from controlplane.reading.text_file import is_pipe_or_device


def require_folder(path: Path | None) -> None:
    """Make the folder a command is to write into. Raises InvalidInput where it cannot be made; None stands for none."""
    try:
        if path is not None:
            path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidInput(f"cannot write into {path}", why=error.strerror or str(error), allowed="a folder") from error


def require_readable(*paths: Path | str | None) -> None:
    """Raise InvalidInput for the first path that a library would wait for; None stands for none.

    What we read ourselves is looked at where it is read (`controlplane/reading/text_file.py`).
    """
    for path in (Path(each) for each in paths if each is not None):
        if is_pipe_or_device(path):
            raise InvalidInput(f"cannot read {path}", why="it is a pipe or a device", allowed="a regular file")


def require_writable(*paths: Path | None) -> None:
    """Raise InvalidInput for the first path that could not be written; None stands for none."""
    for path in paths:
        if path is None:
            continue
        if path.exists() and not path.is_file():
            why = "it is a folder" if path.is_dir() else "it is a pipe or a device"
            raise InvalidInput(f"cannot write {path}", why=why, allowed="a file")
        target = path if path.exists() else path.parent
        if not target.exists() or not os.access(target, os.W_OK):
            raise InvalidInput(f"cannot write {path}", why=f"{path.parent} is no folder that can be written")


def require_folder_place(path: Path) -> None:
    """Raise InvalidInput where a folder is neither there, for this user to write, nor could be made. Makes none."""
    place = next(each for each in (path.absolute(), *path.absolute().parents) if each.exists())
    if not place.is_dir():
        raise InvalidInput(f"cannot write into {path}", why=f"{place} is a file", allowed="a folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InvalidInput(
            f"cannot write into {path}", why=f"{place} cannot be written", allowed="a folder of this user"
        )
