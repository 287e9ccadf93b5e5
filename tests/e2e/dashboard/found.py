"""What a person must find on each page of the seeded site."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

FOUND: Mapping[str, Sequence[str]] = {
    "overview": ["P99 TTFT", "limit 1500 ms", "Time to first token", "By revision", "canary"],
    "operations": ["Stands", "chat", "GPUs", "autoscale is off", "Cost of the last five minutes", "per hour"],
    "fleet": ["GPU 0", "GPU 7", "chat-canary-1", "free", "No available memory for the cache blocks."],
    "study": [
        *("Study st-1", "−62", "Baseline", "Winner", "Latency against rate", "What each knob did", "Trials"),
        *("What live traffic said", "taken back", "deploy freeze", "Warm start", "a prior only"),
        "What each knob is worth",
    ],
    "rollout": ["Rollout ro-1", "so far inconclusive", "Canary against stable", "within all margins", "Timeline"],
    "models": [
        "Model llama",
        "candidate",
        "/models/llama-ft-2",
        "What serves it",
        "What became of each version",
        "ro-1",
        "Follows Support Llama of MLflow.",
        "nobody listens there",
    ],
    "ab-tests": [
        "Does the fine-tune answer sooner?",
        "llama@2 is better",
        "llama@2 against stable: TTFT -9.0 %, certainly -12.1 to -5.8 %",
        "Undecided: length, feedback",
        "Beside it, against the control",
        "undecided",
    ],
    "load-report": ["Load report load-2", "Goodput", "P99 TTFT ≤ 1500 ms", "valid"],
    "replays": ["Replays nightly", "regressed", "Time to first token", "baseline P99", "replay.chat.nightly.14"],
    "what-if": ["Capacity of one replica", "Predicted", "P99 TTFT"],
    "schedules": ["weekly", "0 2 * * SUN", "tune, then roll out the winner"],
    "events": ["Who did what"],
}
