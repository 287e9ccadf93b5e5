"""What lies under a URL of an object store, in one line, without reading it: the second door to obstore.

Stores say an ETag of each object, which another content changes. It is no hash of the content (an upload in parts has
one by its parts), so the same files uploaded otherwise are another digest.
"""

from __future__ import annotations

import hashlib
import os
from datetime import timedelta
from typing import Any

from controlplane.domain.errors import InvalidInput, Unavailable

SCHEMES = ("s3://", "gs://", "az://")

_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_WITHIN = timedelta(seconds=20)


def is_object_url(source: str) -> bool:
    """Say whether a source is in an object store."""
    return source.startswith(SCHEMES)


def listing_digest(url: str) -> str:
    """Return `etags:` and the hash of every object's path, size and ETag under a URL, in the order of paths.

    Who asks, and where the store is, are the environment's variables (`AWS_*`, `GOOGLE_*`, `AZURE_*`). Raises
    InvalidInput without the extra and where nothing lies, Unavailable when the store does not answer.
    """
    try:
        import obstore
        from obstore.store import from_url
    except ImportError as error:
        raise InvalidInput(
            f"{url} cannot be looked at", why="obstore is not installed", allowed="pip install fleetune[s3]"
        ) from error
    plain = any(os.environ.get(name, "").startswith("http://") for name in _ENDPOINTS)
    wait: dict[str, Any] = {"timeout": _WITHIN, "connect_timeout": timedelta(seconds=5), "allow_http": plain}
    again: dict[str, Any] = {"max_retries": 1, "retry_timeout": _WITHIN}
    open_url: Any = from_url
    listing: Any = obstore.list
    try:
        store = open_url(url, client_options=wait, retry_config=again)
        found = [each for page in listing(store) for each in page]
    except Exception as error:  # its base class is none of ours to import; its words name keys and addresses
        raise Unavailable(f"the store of {url} does not answer as it should", why=type(error).__name__) from error
    if not found:
        raise InvalidInput(f"nothing lies at {url}", allowed="a prefix with at least one object")
    return _digest(found)


def _digest(objects: list[dict[str, Any]]) -> str:
    whole = hashlib.sha256()
    for each in sorted(objects, key=lambda each: str(each["path"])):
        whole.update(f"{each['path']}\n{each['size']}\n{each.get('e_tag')}\n".encode())
    return f"etags:{whole.hexdigest()}"
