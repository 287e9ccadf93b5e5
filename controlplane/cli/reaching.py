"""Which server a question goes to: the one named, the installation's own while it is up, else an app in this process.

An app of our own reads the store with SQLAlchemy and answers with FastAPI: a second of CPU for what is computed, which
a running api gives at once. Who reads the data folder may act, so the key of its api lies there.
"""

from __future__ import annotations

import socket
from pathlib import Path

from controlplane import settings as installation
from controlplane.cli.client import ApiClient
from controlplane.cli.installation.running import supervisor_pid
from controlplane.domain.errors import InvalidInput
from controlplane.host.addresses import reachable

LOOK_S = 1.0


def client(api: str | None, key: str | None, data_dir: Path, *, make: bool = False) -> ApiClient:
    """Return the client the options ask for.

    `make` an installation where there is none: for what is wanted before the first `fleetune up`. Raises InvalidInput
    when there is no installation to look into, and makes nothing then.
    """
    if api is not None:
        return ApiClient(url=api, key=key, data_dir=data_dir)
    if make:
        data_dir.mkdir(parents=True, exist_ok=True)
    else:
        require_installation(data_dir)
    return _running(data_dir) or ApiClient(url=None, key=None, data_dir=data_dir)


def require_installation(data_dir: Path) -> None:
    """Raise InvalidInput unless the folder holds an installation; nothing is written."""
    if installation.is_there(data_dir):
        return
    raise InvalidInput(
        f"no installation in {data_dir}",
        why="nothing was ever brought up there" if data_dir.exists() else "the folder does not exist",
        allowed="--data-dir of one, --api URL, or start one with `fleetune up -f service.yaml`",
    )


def _running(data_dir: Path) -> ApiClient | None:
    """Return a client of the installation's own api, None while it is down, or of a version without such a key."""
    if supervisor_pid(data_dir) is None:
        return None
    settings = installation.load(data_dir)
    try:
        secret = settings.operator_key_file.read_text().strip()
        socket.create_connection((reachable(settings.host), settings.api_port), timeout=LOOK_S).close()
    except OSError:  # no key, or the api is just being started again
        return None
    return ApiClient(url=settings.api_url, key=secret, data_dir=data_dir)
