"""`kubernetes:` of service.yaml: where on a cluster the replicas of one service live."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from controlplane.domain.base import Value

DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$")]
_DNS = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
HostName = Annotated[str, Field(max_length=253, pattern=rf"^{_DNS}(\.{_DNS})*$")]
_PINNED = r"^[a-z0-9][a-zA-Z0-9._:/-]*@sha256:[0-9a-f]{64}$"


def _pinned(image: str) -> str:
    if re.match(_PINNED, image) is None:
        raise ValueError(
            f"{image!r} is not pinned, so that two replicas may run two things; "
            "give registry/name@sha256:<64 hex digits>, in small letters"
        )
    return image


PinnedImage = Annotated[str, AfterValidator(_pinned), WithJsonSchema({"type": "string", "pattern": _PINNED})]


class ModelCache(Value):
    """Where model files lie: one volume that exists already, seen by every replica at `mount_path`."""

    claim: DnsLabel | None = Field(default=None, description="A PersistentVolumeClaim of the namespace.")
    host_path: str | None = Field(default=None, pattern=r"^/", description="A folder of every GPU node.")
    mount_path: str = Field(default="/models", pattern=r"^/")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.claim is None) == (self.host_path is None):
            raise ValueError("give either claim or host_path")
        return self


class PickerOptions(Value):
    """An endpoint picker (Gateway API Inference Extension) that chooses the pod of each request; not Fleetune's."""

    service: DnsLabel = Field(description="Its Service, in the namespace of the engines.")
    port: int = Field(default=9002, ge=1, le=65535)


class RouteOptions(Value):
    """A route of the cluster's own gateway (Gateway API) that splits a host's traffic over the revisions."""

    gateway: DnsLabel
    gateway_namespace: DnsLabel | None = Field(default=None, description="None: that of the engines.")
    section: DnsLabel | None = Field(default=None, description="One listener of the gateway; None: all that fit.")
    hostname: HostName
    picker: PickerOptions | None = Field(
        default=None, description="Each revision is an InferencePool of this picker's. None: a Service."
    )


class CommitOptions(Value):
    """A branch that gets what is recommended as commits, for a tool that applies them. Credentials are git's own."""

    repository: str = Field(
        description="A URL (https, ssh) or a path, as git takes it; no password in it.",
        pattern=r"^(https://[^@\s]+|ssh://[^:\s]+(:\d+)?/\S+|[\w.-]+@[\w.-]+:\S+|file:///\S+|/\S+)$",
    )
    branch: str = Field(default="main", pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*([./][A-Za-z0-9_-]+)*$")
    folder: str = Field(
        default="fleetune",
        pattern=r"^[A-Za-z0-9_-][A-Za-z0-9_.-]*(/[A-Za-z0-9_-][A-Za-z0-9_.-]*)*$",
        description="Of the repository; it gets one file per service.",
    )


class SpotNodes(Value):
    """Nodes that may be taken back at a notice, where `spot:` of the service lets replicas run."""

    node_selector: Mapping[str, str] = Field(
        min_length=1, description="Labels that only they have, e.g. karpenter.sh/capacity-type: spot."
    )
    tolerations: Mapping[str, str] = Field(default_factory=dict, description="Their taints, as for the others.")


class ClusterOptions(Value):
    """What pods of this service need to know of the cluster."""

    image: PinnedImage = Field(description="Engine image, pinned: `registry/name@sha256:<64 hex digits>`.")
    namespace: DnsLabel = "default"
    gpu_resource: str = Field(default="nvidia.com/gpu", pattern=r"^[a-z0-9.-]+/[a-z0-9.-]+$")
    gpus_per_node: int = Field(default=8, ge=1, description="A larger replica is a LeaderWorkerSet.")
    node_selector: Mapping[str, str] = Field(
        default_factory=dict, description="Labels of nodes with the service's GPU, e.g. nvidia.com/gpu.product."
    )
    tolerations: Mapping[str, str] = Field(
        default_factory=dict,
        description="Taints of those nodes beside the GPU's, e.g. of spot nodes: key and value, an empty one for any.",
    )
    spot: SpotNodes | None = Field(default=None, description="Then node_selector names nodes on demand.")
    priority_class: DnsLabel | None = None
    trial_priority_class: DnsLabel | None = Field(
        default=None, description="Of trials and replays; a lower one than that of replicas, so that they never evict."
    )
    env_from_secret: DnsLabel | None = Field(
        default=None, description="A Secret whose entries are the variables named by engine.env; never its values."
    )
    model_cache: ModelCache | None = None
    shared_memory_gib: int = Field(default=16, ge=1, description="/dev/shm, which tensor parallelism uses.")
    route: RouteOptions | None = Field(
        default=None, description="Let the cluster's gateway split traffic too. What it sends leaves no records."
    )
    commit: CommitOptions | None = Field(
        default=None, description="Commit what is recommended to a repository instead of rolling it out here."
    )
    drain_s: int = Field(default=120, ge=1, description="How long a pod may finish what it has begun.")

    @model_validator(mode="after")
    def _told_apart(self) -> Self:
        if self.spot is not None and not self.node_selector:
            raise ValueError("spot needs node_selector, which names the nodes on demand")
        return self

    def selector(self, *, spot: bool) -> Mapping[str, str]:
        """Return the labels of the nodes that an engine runs on."""
        return self.spot.node_selector if spot and self.spot is not None else self.node_selector

    def tolerated(self, *, spot: bool) -> Mapping[str, str]:
        """Return the taints of those nodes."""
        return self.spot.tolerations if spot and self.spot is not None else self.tolerations
