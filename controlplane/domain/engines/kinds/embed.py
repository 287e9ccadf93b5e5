"""`fleetune-embed`, our own engine for small embedding models on processors (`controlplane/embedding`)."""

from __future__ import annotations

from controlplane.domain.engines.driver import (
    Api,
    Dialect,
    EngineDriver,
    FailurePattern,
    FlagStyle,
    LogReading,
    MetricNames,
    Readiness,
)
from controlplane.domain.engines.start_failure import StartFailure

EMBED = EngineDriver(
    title="fleetune-embed",
    command=(
        *("{python}", "-m", "controlplane.embedding.main", "{model}"),
        *("--host", "{host}", "--port", "{port}", "{args}"),
    ),
    install="it comes with Fleetune; `pip install fleetune[embed]` brings a model",
    flags=FlagStyle(negated=False),
    name_flag="served-model-name",
    drain_flag="shutdown-timeout",
    readiness=Readiness(request_path="/v1/embeddings", request={"input": "a"}),
    metrics=MetricNames(
        running="fleetune_embed:num_texts_running",
        waiting="fleetune_embed:num_texts_waiting",
        model_label="model_name",
    ),
    log=LogReading(
        failures=(FailurePattern(failure=StartFailure.REFUSED_FLAG, pattern=r"^ModelError: "),),
    ),
    dialect=Dialect(apis=(Api.EMBEDDINGS,), token_ids=False, ignore_eos=False),
    start_s=2.0,
)
