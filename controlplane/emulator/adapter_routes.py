"""Loading and unloading adapters while the engine runs: routes that vLLM has under VLLM_ALLOW_RUNTIME_LORA_UPDATING."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from pydantic import BaseModel

from controlplane.emulator.adapters import Adapters, AdapterSpec
from controlplane.emulator.protocol import read_body


class LoadBody(BaseModel):
    lora_name: str
    lora_path: str
    load_inplace: bool = False
    is_3d_lora_weight: bool = False


class UnloadBody(BaseModel):
    lora_name: str


def adapter_routes(adapters: Adapters, log: Callable[[str], None]) -> list[web.RouteDef]:
    """Return the two routes. Answers are plain text, as vLLM's."""

    async def load(request: web.Request) -> web.StreamResponse:
        body = read_body(LoadBody, await request.read())
        spec = AdapterSpec(name=body.lora_name, path=body.lora_path, is_3d_lora_weight=body.is_3d_lora_weight)
        said = adapters.load(spec, in_place=body.load_inplace)
        log(f"Loaded new LoRA adapter: name '{spec.name}', path '{spec.path}'")
        return web.Response(text=said)

    async def unload(request: web.Request) -> web.StreamResponse:
        body = read_body(UnloadBody, await request.read())
        said = adapters.unload(body.lora_name)
        log(f"Removed LoRA adapter: name '{body.lora_name}'")
        return web.Response(text=said)

    return [web.post("/v1/load_lora_adapter", load), web.post("/v1/unload_lora_adapter", unload)]
