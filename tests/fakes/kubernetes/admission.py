"""What a server's admission makes of a pod that somebody, or a controller, wants to make: what it adds and refuses.

In the default order of plug-ins: the account, tolerations, the priority, Pod Security, and last the quotas. Not
modelled: LimitRanger, webhooks, runtime classes.
"""

from __future__ import annotations

import copy
import uuid

from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.objects import Objects
from tests.fakes.kubernetes.pod_security import check_pod
from tests.fakes.kubernetes.quotas import check_quotas
from tests.fakes.kubernetes.schemas import Object, resource_of

_NAMESPACE, _ACCOUNT = resource_of("v1", "Namespace"), resource_of("v1", "ServiceAccount")
_PRIORITY = resource_of("scheduling.k8s.io/v1", "PriorityClass")
_LOST = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_BEARS_S = 300
_SYSTEM = {"system-cluster-critical": 2_000_000_000, "system-node-critical": 2_000_001_000}
_TOKEN_AT = "/var/run/secrets/kubernetes.io/serviceaccount"


def admitted_pod(objects: Objects, namespace: str, value: Object, *, dry_run: bool = False) -> Object:
    """Return a pod as it is made, or would be. Raises ApiError when it is not to be."""
    value = copy.deepcopy(value)
    metadata, spec = value.get("metadata", {}), value.get("spec")
    if not isinstance(spec, dict):  # refused when it is decoded
        return value
    name = str(metadata.get("name") or metadata.get("generateName"))
    with objects.changed:
        found = objects.get(_NAMESPACE, "", namespace)
        _give_account(objects, namespace, name, spec)
        _bear_lost_nodes(spec)
        _give_priority(objects, name, spec)
        check_pod(found, name, spec)
        check_quotas(objects, namespace, name, spec, dry_run=dry_run)
    return {**value, "spec": spec}


def _give_account(objects: Objects, namespace: str, name: str, spec: Object) -> None:
    account = str(spec.get("serviceAccountName") or spec.get("serviceAccount") or "default")
    spec |= {"serviceAccountName": account, "serviceAccount": account}
    try:
        found = objects.get(_ACCOUNT, namespace, account)
    except ApiError as error:
        why = f"error looking up service account {namespace}/{account}: {error.message}"
        raise ApiError(403, f'pods "{name}" is forbidden: {why}') from error
    if spec.get("automountServiceAccountToken", found.get("automountServiceAccountToken", True)):
        _give_token(spec)


def _give_token(spec: Object) -> None:
    volume = f"kube-api-access-{uuid.uuid4().hex[:5]}"
    token = {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}}
    root = {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}}
    spec["volumes"] = [*spec.get("volumes", []), {"name": volume, "projected": {"sources": [token, root]}}]
    for container in spec.get("containers", []):
        mount = {"name": volume, "mountPath": _TOKEN_AT, "readOnly": True}
        container["volumeMounts"] = [*container.get("volumeMounts", []), mount]


def _bear_lost_nodes(spec: Object) -> None:
    """A pod that says nothing of lost nodes is left on one for five minutes."""
    said = spec.get("tolerations", [])
    for key in _LOST:
        if not any(e.get("key") in (None, key) and e.get("effect") in (None, "NoExecute") for e in said):
            bears = {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _BEARS_S}
            spec["tolerations"] = [*spec.get("tolerations", []), bears]


def _give_priority(objects: Objects, name: str, spec: Object) -> None:
    wanted = spec.get("priorityClassName")
    known = {each["metadata"]["name"]: each for each in objects.list(_PRIORITY, shared=True)}
    if wanted and wanted not in known and wanted not in _SYSTEM:
        raise ApiError(403, f'pods "{name}" is forbidden: no PriorityClass with name {wanted} was found')
    found = known.get(wanted or "", {})
    spec["priority"] = _SYSTEM.get(wanted or "", found.get("value", 0))
    spec["preemptionPolicy"] = found.get("preemptionPolicy", "PreemptLowerPriority")
