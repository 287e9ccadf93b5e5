"""`fleetune render`: the Kubernetes manifests of one revision, for Argo CD, Flux or `kubectl apply`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from controlplane.adapters.fleet_kubernetes.manifests import as_yaml, manifests
from controlplane.cli.asking import HERE, Api, DataDir, Key
from controlplane.cli.errors import plain_errors
from controlplane.cli.flags import parse_flags
from controlplane.cli.reaching import client
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.errors import InvalidInput, NotFound
from controlplane.domain.service import ServiceSpec
from controlplane.reading.service_file import load_service


@plain_errors
def render(
    file: Annotated[Path, typer.Option("--file", "-f", help="service.yaml with a `kubernetes:` section.")],
    revision: Annotated[str | None, typer.Option(help="A revision that Fleetune knows; default: base flags.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="flag=value, laid over the base flags.")] = None,
    replicas: Annotated[int | None, typer.Option(min=0, help="Default: the service's initial_replicas.")] = None,
    api: Api = None,
    key: Key = None,
    data_dir: DataDir = HERE,
) -> None:
    """Print the manifests of one revision as YAML. Nothing is applied, no cluster is asked."""
    if revision is not None and set_:
        raise InvalidInput("--revision and --set", why="a revision's flags are fixed", allowed="one of them")
    spec = load_service(file)
    cluster = _cluster(spec, file)
    config = spec.baseline.with_flags(parse_flags(set_ or []))
    if revision is not None:
        config = _known(client(api, key, data_dir).get(f"/services/{spec.name}/revisions"), spec, revision)
    count = spec.initial_replicas if replicas is None else replicas
    typer.echo(as_yaml(manifests(spec, cluster, config, replicas=count)), nl=False)


def _cluster(spec: ServiceSpec, file: Path) -> ClusterOptions:
    if spec.kubernetes is None:
        raise InvalidInput(
            f"{file} does not say where on a cluster it runs",
            why="it has no `kubernetes:` section",
            allowed="kubernetes: {image: registry/name@sha256:..., namespace: ...}",
        )
    return spec.kubernetes


def _known(page: dict[str, list[dict[str, object]]], spec: ServiceSpec, revision: str) -> EngineConfig:
    found = {str(each["revision_id"]): each["config"] for each in page["items"]}
    if revision not in found:
        raise NotFound(
            f"service {spec.name} has no revision {revision}", allowed=", ".join(sorted(found)) or "none yet"
        )
    return EngineConfig.model_validate(found[revision])
