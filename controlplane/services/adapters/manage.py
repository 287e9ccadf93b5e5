"""What people do with adapters. Each function saves what is wanted; the adapter pass makes it true."""

from __future__ import annotations

from datetime import datetime
from typing import NamedTuple

from controlplane.domain.adapters import DEFAULT_MAX_RANK, AdapterVersion, ServedAdapter, check_rank
from controlplane.domain.base import ServiceName
from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import canonical_flag
from controlplane.domain.errors import Conflict, InvalidInput, NotFound
from controlplane.domain.event import Event
from controlplane.domain.service import ServiceSpec
from controlplane.domain.serving import Service
from controlplane.ports.store import Store, Versioned
from controlplane.services.answers import without_asking
from controlplane.services.fleet.bases import is_base, served_base

RUNTIME_LOADING = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
"""Without it vLLM has no routes for adapters; whoever reaches an engine could load one, so engines stay on loopback."""


class NewAdapter(NamedTuple):
    """What is to be loaded. `base` is the model that the adapter was made for, by its own account.

    `judged`: live records decide about it while it is a canary.
    """

    name: str
    path: str
    rank: int | None = None
    base: str | None = None
    judged: bool = True


def load_adapter(
    store: Store, service: ServiceName, new: NewAdapter, *, share_percent: int, actor: str, now: datetime
) -> ServedAdapter:
    """Serve a new adapter at once, or a new version of a known one as its canary, with a share of its requests.

    Raises NotFound for an unknown service, Conflict for a name that a model has, for what is served already or while
    another version is a canary, InvalidInput for an adapter of another model, a rank that replicas do not take, or
    engines without adapters.
    """
    saved = store.get_service(service)
    found = saved.value
    base = served_base(store, found)
    _check(store, found, new, base)
    known = found.adapter(new.name)
    _refuse_served(known, new)
    number = _next_number(store, service, new.name, known)
    version = AdapterVersion(number=number, path=new.path, rank=new.rank, base=base, added_at=now, added_by=actor)
    if known is None:
        after = ServedAdapter(name=new.name, versions=(version,), stable=number)
    else:
        compared = new.judged and without_asking(found.spec) is None
        after = known.with_canary(version, share_percent, judged=new.judged, compared=compared)
    reason = f"version {number}, {new.path}" + ("" if known is None else f", {share_percent} % of requests")
    return save_adapter(store, saved, after, "loaded", reason, actor=actor, now=now)


def _refuse_served(known: ServedAdapter | None, new: NewAdapter) -> None:
    """Raise Conflict for what replicas have loaded from the very path: a canary of it would be compared with itself."""
    same = next((each for each in known.served if each.path == new.path), None) if known is not None else None
    if same is not None:
        what = f"the adapter {new.path} is version {same.number} of {new.name} already"
        raise Conflict(what, why="replicas have it loaded from there", allowed="another folder for new weights")


def _next_number(store: Store, service: ServiceName, name: str, known: ServedAdapter | None) -> int:
    """Return a number that no version had, those of an adapter that was unloaded included.

    Replicas may have its weights yet, and are asked for a version by its number.
    """
    used = 0 if known is None else max(version.number for version in known.versions)
    return max(store.next_number(f"adapter/{service}/{name}"), used + 1)


def promote_adapter(store: Store, service: ServiceName, name: str, *, actor: str, now: datetime) -> ServedAdapter:
    """Give an adapter's canary all its requests. Raises NotFound, Conflict without a canary."""
    saved, present = _adapter(store, service, name)
    after = present.promoted()
    return save_adapter(store, saved, after, "promoted", f"version {after.stable}", actor=actor, now=now)


def roll_back_adapter(
    store: Store, service: ServiceName, name: str, *, to: int | None, actor: str, now: datetime
) -> ServedAdapter:
    """Take an adapter's canary back, or serve an earlier version again. Raises NotFound, Conflict."""
    saved, present = _adapter(store, service, name)
    after = present.taken_back() if to is None else present.back_to(to)
    return save_adapter(store, saved, after, "rolled_back", f"version {after.stable}", actor=actor, now=now)


def unload_adapter(store: Store, service: ServiceName, name: str, *, actor: str, now: datetime) -> None:
    """Serve an adapter no more. Raises NotFound."""
    (saved, version), _ = _adapter(store, service, name)
    kept = tuple(each for each in saved.adapters if each.name != name)
    event = _event(service, name, "unloaded", "", actor=actor, now=now)
    store.save_service(saved.evolve(adapters=kept, updated_at=now), version, events=[event])


def _check(store: Store, service: Service, new: NewAdapter, base: str) -> None:
    taken = next((each.name for each, _ in store.list_services() if _uses(each, new.name, service.name)), None)
    if taken is not None:
        raise Conflict(f"'{new.name}' is served already", why=f"by {taken}", allowed="another name")
    check_engines(store, service)
    check_rank(new.path, new.rank, highest_rank(store, service))
    if new.base is not None and not is_base(store, service, base, new.base):
        made_for, allowed = f"it was made for {new.base}", f"one made for {base}"
        raise InvalidInput(f"the adapter {new.path} is of another model", why=made_for, allowed=allowed)


def check_engines(store: Store, service: Service) -> None:
    """Raise InvalidInput for a service whose engines load no adapters."""
    check_config(service.spec, _stable(store, service))


def check_config(spec: ServiceSpec, config: EngineConfig) -> None:
    """Raise InvalidInput for a configuration of a service whose engines load no adapters."""
    flags, problem = {canonical_flag(name): value for name, value in config.flags.items()}, None
    if flags.get("enable-lora") is not True:
        problem = "stable runs without the flag enable-lora"
    elif spec.engine.env.get(RUNTIME_LOADING, "").lower() not in ("1", "true"):
        problem = f"its engines run without {RUNTIME_LOADING}"
    if problem is not None:
        allowed = f"engine.flags with enable-lora: true and engine.env with {RUNTIME_LOADING}: 'True'"
        raise InvalidInput(f"{spec.name} serves no adapters", why=problem, allowed=allowed)


def highest_rank(store: Store, service: Service) -> int:
    """Return the largest rank that stable's replicas take."""
    flags = {canonical_flag(name): value for name, value in _stable(store, service).flags.items()}
    given = flags.get("max-lora-rank")
    return given if isinstance(given, int) else DEFAULT_MAX_RANK


def _uses(other: Service, name: str, mine: ServiceName) -> bool:
    return other.spec.model.name == name or (other.name != mine and other.adapter(name) is not None)


def _stable(store: Store, service: Service) -> EngineConfig:
    return store.get_revision(service.stable).config if service.stable else service.spec.baseline


def _adapter(store: Store, service: ServiceName, name: str) -> tuple[Versioned[Service], ServedAdapter]:
    """Return an adapter and the very service it was read from, whose version guards what is saved of it."""
    saved = store.get_service(service)
    found = saved.value.adapter(name)
    if found is None:
        known = ", ".join(each.name for each in saved.value.adapters) or "it has none"
        raise NotFound(f"{service} has no adapter '{name}'", allowed=known)
    return saved, found


def save_adapter(
    store: Store, saved: Versioned[Service], after: ServedAdapter, verb: str, reason: str, *, actor: str, now: datetime
) -> ServedAdapter:
    """Save an adapter of the service that was read, and tell it. Raises StaleVersion when somebody was faster."""
    service = saved.value
    others = tuple(each for each in service.adapters if each.name != after.name)
    event = _event(service.name, after.name, verb, reason, actor=actor, now=now)
    changed = service.evolve(adapters=(*others, after), updated_at=now)
    store.save_service(changed, saved.version, events=[event])
    return after


def _event(service: ServiceName, name: str, verb: str, reason: str, *, actor: str, now: datetime) -> Event:
    action, subject = f"adapter.{verb}", f"adapter/{service}/{name}"
    return Event(at=now, actor=actor, action=action, subject=subject, service=service, reason=reason)
