"""Health, and the schema of service.yaml: open to everybody who reaches the port, for probes and editors."""

from __future__ import annotations

from html import escape
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse

from controlplane.api.context import Ctx
from controlplane.domain.base import Value
from controlplane.domain.service import ServiceSpec

router = APIRouter(tags=["about"])


class Health(Value):
    status: str = "ok"


@router.get("/health", summary="Say whether the API and its store answer")
def health(ctx: Ctx) -> Health:
    ctx.store.read_setting("health")  # raises Unavailable (503) when the store does not answer
    return Health()


@router.get("/schema", summary="Show the JSON Schema of service.yaml")
def schema() -> dict[str, Any]:
    return ServiceSpec.model_json_schema()


@router.get("/docs", summary="List every operation, for a browser", include_in_schema=False)
def docs(request: Request) -> HTMLResponse:
    """A page of our own, since the usual viewers load scripts from other hosts and this works offline."""
    spec = request.app.openapi()
    operations = [
        (path, method, operation) for path, methods in spec["paths"].items() for method, operation in methods.items()
    ]
    rows = "".join(_row(*operation) for operation in operations)
    return HTMLResponse(_PAGE.format(title=escape(spec["info"]["title"]), url=request.app.openapi_url, rows=rows))


def _row(path: str, method: str, operation: dict[str, Any]) -> str:
    more = escape(operation.get("description", ""))
    summary = escape(operation["summary"])
    return f"<tr><td>{method.upper()}</td><td><code>{escape(path)}</code></td><td>{summary}<br><i>{more}</i></td></tr>"


_PAGE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} API</title><style>
body {{ font: 15px system-ui, sans-serif; margin: 3rem auto; max-width: 60rem; color: #20262e; }}
td {{ padding: .35rem .8rem; border-bottom: 1px solid #e8e5df; vertical-align: top; }} i {{ color: #6c7480; }}
</style></head><body><h1>{title} API</h1><p>Full description: <a href="{url}">{url}</a>.
Authenticate with <code>Authorization: Bearer KEY</code>.</p><table>{rows}</table></body></html>"""
