"""What the API may be asked, by its routers: every test process names its tests by it, and a description is dear."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterator
from importlib import import_module

from fastapi import APIRouter
from fastapi.routing import APIRoute

import controlplane.api


def operations() -> Iterator[tuple[str, str]]:
    """Yield the method and the path, beneath the prefix, of every operation that the API describes."""
    for found in pkgutil.iter_modules(controlplane.api.__path__, f"{controlplane.api.__name__}."):
        router = getattr(import_module(found.name), "router", None)
        for route in router.routes if isinstance(router, APIRouter) else ():
            if isinstance(route, APIRoute) and route.include_in_schema:
                yield from ((method, route.path) for method in route.methods or ())
