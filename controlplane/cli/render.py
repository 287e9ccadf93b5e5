"""`fleetune render`: the Kubernetes manifests of one revision, for Argo CD, Flux or `kubectl apply`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from controlplane.adapters.fleet_kubernetes.autoscaler import Autoscaler, Scaling, pod_autoscaler, scaled_object
from controlplane.adapters.fleet_kubernetes.manifests import as_yaml, manifests, owner_of
from controlplane.cli.asking import HERE, Api, DataDir, Key
from controlplane.cli.client import ApiClient
from controlplane.cli.errors import plain_errors
from controlplane.cli.flags import parse_flags
from controlplane.cli.reaching import client
from controlplane.domain.cluster import ClusterOptions
from controlplane.domain.errors import InvalidInput, NotFound
from controlplane.domain.operations.replica_capacity import ReplicaCapacity, declared
from controlplane.domain.revision import Revision
from controlplane.domain.service import ServiceSpec
from controlplane.reading.service_file import load_service


@plain_errors
def render(
    file: Annotated[Path, typer.Option("--file", "-f", help="service.yaml with a `kubernetes:` section.")],
    revision: Annotated[str | None, typer.Option(help="A revision that Fleetune knows; default: base flags.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="flag=value, laid over the base flags.")] = None,
    replicas: Annotated[int | None, typer.Option(min=0, help="Default: the service's initial_replicas.")] = None,
    autoscale: Annotated[Autoscaler | None, typer.Option(help="Let the cluster scale the replicas, by this.")] = None,
    prometheus: Annotated[
        str, typer.Option(help="Where KEDA asks for the load.")
    ] = "http://prometheus-operated.monitoring:9090",
    in_rollout: Annotated[bool, typer.Option(help="A rollout is under way: no replica goes.")] = False,
    api: Api = None,
    key: Key = None,
    data_dir: DataDir = HERE,
) -> None:
    """Print the manifests of one revision as YAML. Nothing is applied, no cluster is asked."""
    if revision is not None and set_:
        raise InvalidInput("--revision and --set", why="a revision's flags are fixed", allowed="one of them")
    spec = load_service(file)
    cluster = _cluster(spec, file)
    config, budget_s = spec.baseline.with_flags(parse_flags(set_ or [])), None
    if revision is not None:
        known = _known(client(api, key, data_dir).get(f"/services/{spec.name}/revisions"), spec, revision)
        config, budget_s = known.config, known.start_budget_s
    count = spec.initial_replicas if replicas is None else replicas
    left = count if autoscale is None else None
    found = manifests(spec, cluster, config, replicas=left, start_budget_s=budget_s)
    if autoscale is None:
        typer.echo(as_yaml(found), nl=False)
        return
    capacity = _capacity(spec, lambda: client(api, key, data_dir))
    target = found[0]["apiVersion"], found[0]["kind"]
    scaling = _scaling(spec, capacity, prometheus, in_rollout=in_rollout).evolve(target=target)
    made = scaled_object if autoscale is Autoscaler.KEDA else pod_autoscaler
    scaler = made(spec, owner_of(spec, config), cluster, scaling)
    typer.echo(as_yaml([*found, scaler]), nl=False)


def _capacity(spec: ServiceSpec, asked: Callable[[], ApiClient]) -> ReplicaCapacity:
    """Return what a replica sustains: as service.yaml declares it, else as the installation knows it."""
    options = spec.autoscale
    if options.capacity_rps is not None:
        return declared(options.capacity_rps, startup_s=options.startup_s)
    try:
        return ReplicaCapacity.model_validate(asked().get(f"/services/{spec.name}/capacity"))
    except NotFound as error:
        raise InvalidInput(
            f"nobody knows what one replica of {spec.name} sustains",
            why=str(error),
            allowed="a study of it, or autoscale.capacity_rps in service.yaml",
        ) from error


def _scaling(spec: ServiceSpec, capacity: ReplicaCapacity, prometheus: str, *, in_rollout: bool) -> Scaling:
    options, gpus = spec.autoscale, max(1, spec.baseline.gpus_per_replica)
    return Scaling(
        capacity=capacity,
        headroom=spec.tuning.objective.headroom if options.headroom is None else options.headroom,
        max_replicas=options.max_replicas or max(options.min_replicas, spec.gpus.count // gpus),
        prometheus_url=prometheus,
        in_rollout=in_rollout,
    )


def _cluster(spec: ServiceSpec, file: Path) -> ClusterOptions:
    if spec.kubernetes is None:
        raise InvalidInput(
            f"{file} does not say where on a cluster it runs",
            why="it has no `kubernetes:` section",
            allowed="kubernetes: {image: registry/name@sha256:..., namespace: ...}",
        )
    return spec.kubernetes


def _known(page: dict[str, list[dict[str, object]]], spec: ServiceSpec, revision: str) -> Revision:
    found = {str(each["revision_id"]): each for each in page["items"]}
    if revision not in found:
        raise NotFound(
            f"service {spec.name} has no revision {revision}", allowed=", ".join(sorted(found)) or "none yet"
        )
    return Revision.model_validate(found[revision])
