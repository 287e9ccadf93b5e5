"""What pods of every kind have in common: whose they are on their node, and which taints they bear. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from kubernetes import client

_USER = 2000


def pod_security() -> client.V1PodSecurityContext:
    """Return that a pod runs as nobody in particular."""
    return client.V1PodSecurityContext(
        run_as_non_root=True,
        run_as_user=_USER,
        run_as_group=_USER,
        fs_group=_USER,
        seccomp_profile=client.V1SeccompProfile(type="RuntimeDefault"),
    )


def container_security() -> client.V1SecurityContext:
    """Return that a container has no privilege and a root that it cannot write to."""
    return client.V1SecurityContext(
        allow_privilege_escalation=False,
        privileged=False,
        read_only_root_filesystem=True,
        capabilities=client.V1Capabilities(drop=["ALL"]),
    )


def tolerated(taints: Mapping[str, str]) -> list[client.V1Toleration]:
    """Return tolerations of taints by key and value, an empty value for any."""
    return [
        client.V1Toleration(key=key, operator="Equal" if value else "Exists", value=value or None, effect="NoSchedule")
        for key, value in sorted(taints.items())
    ]
