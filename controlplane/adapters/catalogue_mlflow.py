"""ModelCatalogue on an MLflow server, with its own small client: the one door to `mlflow-skinny`, an extra.

Credentials are what MLflow's client reads itself: MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from controlplane.domain.catalogue import Artifact, CatalogueModel, CatalogueVersion, check_url
from controlplane.domain.errors import InvalidInput, NotFound, Unavailable

T = TypeVar("T")

NEWEST = 100
"""Versions asked for; an older one that an alias points to is asked for by itself."""

_CLIENT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",  # seconds; the client's own is two minutes
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # our next pass is the retry
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",  # it reports to its makers otherwise
}
_UNKNOWN = 404


class MlflowCatalogue:
    """See `ports.ModelCatalogue`."""

    def __init__(self, url: str) -> None:
        """Raises InvalidInput for a URL that is none, and without the extra."""
        self._url = check_url(url)
        self._client, self._error = _open(self._url)

    def model(self, name: str) -> CatalogueModel:
        """See `ports.ModelCatalogue.model`."""
        aliases = dict(self._asked(lambda: self._client.get_registered_model(name)).aliases)
        newest = self._asked(lambda: self._newest(name))
        known = {found.version for found in newest}
        others = {version for version in aliases.values() if version not in known}
        named = [self._asked(lambda v=v: self._client.get_model_version(name, v)) for v in others]  # type: ignore[misc]
        ready = [found for found in (*newest, *named) if found.status == "READY"]
        versions = sorted((_version(found) for found in ready), key=lambda each: int(each.version))
        return CatalogueModel(name, tuple(versions), aliases)

    def move_alias(self, name: str, alias: str, version: str) -> None:
        """See `ports.ModelCatalogue.move_alias`."""
        self._asked(lambda: self._client.set_registered_model_alias(name, alias, version))

    def tag(self, name: str, version: str, tags: Mapping[str, str]) -> None:
        """See `ports.ModelCatalogue.tag`."""
        for key, value in tags.items():
            self._asked(lambda k=key, v=value: self._client.set_model_version_tag(name, version, k, v))  # type: ignore[misc]

    def artifacts(self, source: str) -> Sequence[Artifact]:
        """See `ports.ArtifactSource.artifacts`."""
        found = self._asked(lambda: list(self._files(self._kept(source), None)))
        if not found:
            raise NotFound(f"MLflow at {self._url} has no file at {source}")
        return found

    def fetch(self, source: str, path: str, folder: Path) -> Path:
        """See `ports.ArtifactSource.fetch`."""
        return Path(self._asked(lambda: self._kept(source).download_artifacts(path, str(folder))))

    def _kept(self, source: str) -> Any:
        import mlflow
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        mlflow.set_tracking_uri(self._url)  # `models:/` asks whom the process names: without, a database of its own
        mlflow.set_registry_uri(self._url)
        return get_artifact_repository(source, tracking_uri=self._url, registry_uri=self._url)

    def _files(self, kept: Any, folder: str | None) -> Iterator[Artifact]:
        for each in kept.list_artifacts(folder):
            if each.is_dir:
                yield from self._files(kept, each.path)
            else:
                yield Artifact(each.path, each.file_size)

    def _newest(self, name: str) -> list[Any]:
        wanted = f"name = '{name}'"
        return list(self._client.search_model_versions(wanted, max_results=NEWEST, order_by=["version_number DESC"]))

    def _asked(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except (OSError, RuntimeError) as error:  # of a download: the disk, or a connection that broke
            raise Unavailable(f"MLflow at {self._url} does not give it", why=type(error).__name__) from error
        except self._error as error:
            if error.get_http_status_code() == _UNKNOWN:
                raise NotFound(f"MLflow at {self._url} does not know it", why=_said(error)) from error
            raise Unavailable(f"MLflow at {self._url} does not answer", why=_said(error)) from error


def _open(url: str) -> tuple[Any, type[Any]]:
    for name, value in _CLIENT_SETTINGS.items():
        os.environ.setdefault(name, value)
    try:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient
    except ImportError as error:
        why, allowed = "its client is not installed", "pip install 'fleetune[mlflow]'"
        raise InvalidInput("MLflow cannot be asked", why=why, allowed=allowed) from error
    return MlflowClient(tracking_uri=url, registry_uri=url), MlflowException


def _version(found: Any) -> CatalogueVersion:
    return CatalogueVersion(found.version, found.source or "", dict(found.tags), (found.description or "")[:500])


def _said(error: Any) -> str:
    """Return what went wrong, without the URL and the client's stack of causes."""
    code, text = str(error.error_code), str(error)
    connection = next((word for word in _CONNECTION if word in text), None)
    if connection is not None:
        return _CONNECTION[connection]
    return " ".join(text.removeprefix(f"{code}: ").split())[:200]


_CONNECTION = {
    "NewConnectionError": "nobody listens there",
    "NameResolutionError": "its name is unknown",
    "timed out": "it takes longer than 10 s",
    "SSLError": "its certificate is not trusted",
    "Max retries exceeded": "the connection broke",
}
