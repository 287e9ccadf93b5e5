"""What is searched of engines other than vLLM when the user names nothing: by their guides, not by measurements."""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.domain.engines.engine import EngineKind
from controlplane.domain.studies.tuning_options import Knob

OTHER_TIERS: Mapping[EngineKind, Mapping[str, Knob]] = {
    EngineKind.SGLANG: {
        "max-running-requests": Knob(choices=(32, 64, 128, 256, 512)),
        "chunked-prefill-size": Knob(choices=(2048, 4096, 8192, 16384)),
        "mem-fraction-static": Knob(choices=(0.8, 0.85, 0.9)),
    },
    EngineKind.TENSORRT_LLM: {
        "max-batch-size": Knob(choices=(32, 64, 128, 256, 512)),
        "max-num-tokens": Knob(choices=(2048, 4096, 8192, 16384)),
    },
    EngineKind.TGI: {
        "max-batch-prefill-tokens": Knob(choices=(2048, 4096, 8192, 16384)),
        "cuda-memory-fraction": Knob(choices=(0.9, 0.95, 1.0)),
    },
    EngineKind.EMBED: {
        "max-batch-size": Knob(choices=(1, 4, 16, 64)),
        "threads": Knob(choices=(1, 2)),
        "max-wait-ms": Knob(choices=(0, 2)),
    },
    EngineKind.LLAMA_CPP: {
        "parallel": Knob(choices=(1, 2, 4, 8, 16)),
        "ubatch-size": Knob(choices=(128, 256, 512, 1024)),
    },
}
