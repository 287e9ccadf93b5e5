"""Pod Security admission at the level `restricted`, for namespaces whose label asks for it.

After https://kubernetes.io/docs/concepts/security/pod-security-standards/. Not modelled: the other levels, versions,
warnings, Windows, ephemeral containers, sysctls, AppArmor, SELinux, host ports.
"""

from __future__ import annotations

from collections.abc import Iterator

from tests.fakes.kubernetes.errors import ApiError
from tests.fakes.kubernetes.schemas import Object

ENFORCE = "pod-security.kubernetes.io/enforce"
_VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
_PROFILES = ("RuntimeDefault", "Localhost")


def check_pod(namespace: Object, name: str, pod: Object) -> None:
    """Refuse a pod that its namespace does not admit. Raises ApiError."""
    if namespace["metadata"].get("labels", {}).get(ENFORCE) != "restricted":
        return
    found = list(violations(pod))
    if found:
        said = f'violates PodSecurity "restricted:latest": {", ".join(found)}'
        raise ApiError(403, f'pods "{name}" is forbidden: {said}')


def violations(pod: Object) -> Iterator[str]:
    """Yield what a restricted namespace has against the description of a pod."""
    for place in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(place):
            yield f"host namespaces ({place}=true)"
    for volume in pod.get("volumes", []):
        for kind in volume.keys() - {"name"} - _VOLUMES:
            yield f'restricted volume types (volume "{volume["name"]}" uses restricted volume type "{kind}")'
    for container in [*pod.get("initContainers", []), *pod.get("containers", [])]:
        yield from _of_container(container, pod.get("securityContext", {}))


def _of_container(container: Object, of_pod: Object) -> Iterator[str]:
    own = container.get("securityContext", {})
    named = f'container "{container["name"]}"'
    if own.get("privileged"):
        yield f"privileged ({named} must not set securityContext.privileged=true)"
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"allowPrivilegeEscalation != false ({named} must set securityContext.allowPrivilegeEscalation=false)"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f'unrestricted capabilities ({named} must set securityContext.capabilities.drop=["ALL"])'
    if not own.get("runAsNonRoot", of_pod.get("runAsNonRoot")):
        yield f"runAsNonRoot != true (pod or {named} must set securityContext.runAsNonRoot=true)"
    if 0 in (own.get("runAsUser"), of_pod.get("runAsUser")):
        yield f"runAsUser=0 (pod or {named} must not set runAsUser=0)"
    profile = own.get("seccompProfile", of_pod.get("seccompProfile", {})).get("type")
    if profile not in _PROFILES:
        yield f'seccompProfile (pod or {named} must set securityContext.seccompProfile.type to "RuntimeDefault")'
