"""Environment variables of engines carry hub tokens: the API names them and hides their values."""

from __future__ import annotations

from controlplane.domain.fleet import Engine
from controlplane.domain.revision import Revision
from controlplane.domain.service import EngineOptions, ServiceSpec
from controlplane.domain.serving import Service
from controlplane.domain.study import Study

HIDDEN = "(hidden)"


def mask_engine(engine: Engine) -> Engine:
    """Return the engine without the values of its environment."""
    return engine.evolve(spec=engine.spec.evolve(env=dict.fromkeys(engine.spec.env, HIDDEN)))


def mask_service(service: Service) -> Service:
    """Return the service without the values of its engines' environment."""
    return service.evolve(spec=_mask_spec(service.spec)) if service.spec.engine.env else service


def mask_study(study: Study) -> Study:
    """Return the study without the values of its engines' environment."""
    return study.evolve(spec=_mask_spec(study.spec)) if study.spec.engine.env else study


def mask_revision(revision: Revision) -> Revision:
    """Return the revision without the values of its environment."""
    return revision.evolve(engine=_mask_options(revision.engine))


def _mask_spec(spec: ServiceSpec) -> ServiceSpec:
    return spec.evolve(engine=_mask_options(spec.engine))


def _mask_options(engine: EngineOptions) -> EngineOptions:
    return engine.evolve(env=dict.fromkeys(engine.env, HIDDEN))
