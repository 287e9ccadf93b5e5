"""One process per gateway name and data folder: two would overwrite each other's table and address."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from controlplane.domain.door.gateway_files import addresses_dir
from controlplane.domain.errors import InvalidInput


@contextmanager
def alone(data_dir: Path, name: str) -> Iterator[None]:
    """Hold the name while inside; the system lets go of it even after kill -9. Raises InvalidInput when it is held."""
    path = addresses_dir(data_dir) / f"{name}.lock"
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InvalidInput(
                f"a gateway named {name} already runs on {data_dir}", allowed="another --name, or that one's end first"
            ) from error
        yield
