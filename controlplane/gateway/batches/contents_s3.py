"""Contents in a bucket of S3, or of whatever speaks its protocol. The first door to obstore.

Large ones go there in parts, which S3 makes an object of at the end: one that dies before leaves nothing to be seen,
and is begun anew from the disk, where it still is.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from controlplane.domain.errors import InvalidInput
from controlplane.host.files import whole_file

if TYPE_CHECKING:
    from obstore.store import S3Store

PART_BYTES = 8 << 20
"""Also the most that goes in one piece: S3 takes 10,000 parts, 80 GB."""

_AT_ONCE = 4
_WITHIN = timedelta(seconds=60)
_RETRIED_FOR = timedelta(seconds=20)
_SUFFIX = ".jsonl"
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")


class S3Contents:
    """Contents as objects of a store."""

    def __init__(self, store: S3Store) -> None:
        import obstore

        self._store = store
        self._api: Any = obstore

    def take(self, file_id: str, path: Path) -> None:
        with _as_oserror():
            self._api.put(self._store, _key(file_id), path, chunk_size=PART_BYTES, max_concurrency=_AT_ONCE)
        path.unlink(missing_ok=True)

    def fetch(self, file_id: str, path: Path) -> Path:
        if not path.exists():
            with whole_file(path) as file:
                file.writelines(self.pieces(file_id))
        return path

    def here(self, file_id: str) -> Path | None:
        return None

    def pieces(self, file_id: str) -> Iterator[bytes]:
        with _as_oserror():
            for piece in self._api.get(self._store, _key(file_id)):
                yield bytes(piece)

    def delete(self, file_id: str) -> None:
        with _as_oserror():
            self._api.delete(self._store, _key(file_id))

    def ids(self) -> set[str]:
        with _as_oserror():
            found = [each for page in self._api.list(self._store) for each in page]
        paths = (each["path"] for each in found)
        return {path.removesuffix(_SUFFIX) for path in paths if path.endswith(_SUFFIX)}


def open_s3(bucket: str, prefix: str) -> S3Contents:
    """Return contents of a bucket. Who we are, where it is and in which region are the environment's `AWS_*`.

    Raises InvalidInput without the extra, and for what cannot be set up.
    """
    try:
        from obstore.store import S3Store
    except ImportError as error:
        raise InvalidInput(
            "files of batches cannot be kept in S3", why="obstore is not installed", allowed="pip install fleetune[s3]"
        ) from error
    plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
    wait: dict[str, Any] = {"timeout": _WITHIN, "connect_timeout": timedelta(seconds=5), "allow_http": plain}
    again: dict[str, Any] = {"max_retries": 3, "retry_timeout": _RETRIED_FOR}
    make: Callable[..., S3Store] = S3Store
    try:
        return S3Contents(make(bucket, prefix=prefix or None, client_options=wait, retry_config=again))
    except Exception as error:  # obstore's base class is none of ours to import for a message
        raise InvalidInput(
            f"the bucket {bucket} cannot be used", why=type(error).__name__, allowed="AWS_* variables of an S3"
        ) from error


def _key(file_id: str) -> str:
    return file_id + _SUFFIX


@contextmanager
def _as_oserror() -> Iterator[None]:
    """Raise what the store said as OSError, without its words: they name keys and addresses."""
    from obstore.exceptions import BaseError, NotFoundError

    try:
        yield
    except NotFoundError as error:
        raise FileNotFoundError("no such object") from error
    except BaseError as error:
        raise OSError(None, f"the storage of files does not answer as it should ({type(error).__name__})") from error
