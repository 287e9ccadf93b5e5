"""Write a LoRA adapter of random weights for a shape of make_model.py, in PEFT's layout.

Usage: python make_adapter.py llama-8b adapters/support-1 [RANK]

What loading and serving an adapter takes does not depend on the weights' values.
"""

from __future__ import annotations

import argparse
import json
import pathlib

import numpy as np
from make_model import SHAPES, SHARED
from safetensors.numpy import save_file

TARGETS = ("q_proj", "v_proj")


def main(shape: str, folder: str, rank: int) -> None:
    out = pathlib.Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": f"models/{shape}",
        "r": rank,
        "lora_alpha": 2 * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": list(TARGETS),
    }
    (out / "adapter_config.json").write_text(json.dumps(config, indent=1))
    save_file(_weights({**SHARED, **SHAPES[shape]}, rank), str(out / "adapter_model.safetensors"))


def _weights(shape: dict[str, object], rank: int) -> dict[str, np.ndarray]:
    """Return A (rank x hidden) and B (output x rank) of each target in each layer."""
    hidden, heads = int(str(shape["hidden_size"])), int(str(shape["num_attention_heads"]))
    head = int(str(shape.get("head_dim", hidden // heads)))
    outputs = {"q_proj": heads * head, "v_proj": int(str(shape["num_key_value_heads"])) * head}
    random = np.random.default_rng(7)
    weights = {}
    for layer in range(int(str(shape["num_hidden_layers"]))):
        for target in TARGETS:
            where = f"base_model.model.model.layers.{layer}.self_attn.{target}"
            weights[f"{where}.lora_A.weight"] = random.normal(0, 0.02, (rank, hidden)).astype(np.float16)
            weights[f"{where}.lora_B.weight"] = random.normal(0, 0.02, (outputs[target], rank)).astype(np.float16)
    return weights


if __name__ == "__main__":
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("shape", choices=SHAPES, help="the shape of the base model")
    asked.add_argument("folder", help="where to write it; made if need be")
    asked.add_argument("rank", nargs="?", type=int, default=8, help="rank of the two matrices (8)")
    main(**vars(asked.parse_args()))
