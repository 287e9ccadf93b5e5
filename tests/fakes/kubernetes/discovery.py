"""What a server says of itself: its version, its groups, and the kinds in each. Clients like helm ask this first."""

from __future__ import annotations

from collections.abc import Sequence

from tests.fakes.kubernetes.schemas import Object, Resource, resources

_VERBS = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"]


def discovered(path: str, *, missing: frozenset[str]) -> Object | None:
    """Answer a question about the server itself, None when the path is none. `missing` groups are not installed."""
    known = [each for each in resources() if each.group not in missing]
    match path.strip("/").split("/"):
        case ["version"]:
            return {"major": "1", "minor": "36", "gitVersion": "v1.36.2", "platform": "linux/amd64"}
        case ["api"]:
            return {"kind": "APIVersions", "apiVersion": "v1", "versions": ["v1"], "serverAddressByClientCIDRs": []}
        case ["apis"]:
            names = sorted({each.group for each in known if each.group})
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(name, known) for name in names]}
        case ["openapi", "v3"]:
            return {"paths": {each: {"serverRelativeURL": f"/openapi/v3/{each}"} for each in sorted(map(_root, known))}}
        case ["openapi", "v3", *root] | root:
            mine = [each for each in known if _root(each) == "/".join(root)]
            say = _openapi if path.startswith("/openapi") else _kinds
            return say(mine) if mine else None


def _root(resource: Resource) -> str:
    return f"apis/{resource.api_version}" if resource.group else f"api/{resource.version}"


def _openapi(known: Sequence[Resource]) -> Object:
    """Only what tells a client that fields are validated here, so that it need not do it itself."""
    strict = {"name": "fieldValidation", "in": "query", "schema": {"type": "string"}}

    def patch(resource: Resource) -> Object:
        kind = {"group": resource.group, "version": resource.version, "kind": resource.kind}
        return {"patch": {"parameters": [strict], "responses": {}, "x-kubernetes-group-version-kind": kind}}

    paths = {f"/{_root(each)}/{each.plural}/{{name}}": patch(each) for each in known}
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": "v1.36.2"}, "paths": paths}


def _group(name: str, known: Sequence[Resource]) -> Object:
    versions = sorted({each.version for each in known if each.group == name})
    told = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": told, "preferredVersion": told[0]}


def _kinds(known: Sequence[Resource]) -> Object:
    told = [_kind(each, "") for each in known]
    told += [_kind(each, sub) for each in known for sub in each.subresources]
    return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": known[0].api_version, "resources": told}


def _kind(resource: Resource, subresource: str) -> Object:
    name = f"{resource.plural}/{subresource}" if subresource else resource.plural
    verbs = ["get", "patch", "update"] if subresource else _VERBS
    singular = "" if subresource else resource.kind.lower()
    return {
        "name": name,
        "singularName": singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": verbs,
    }
