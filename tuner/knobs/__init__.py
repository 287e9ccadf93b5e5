"""The flags `vllm serve` knows, per vLLM version: `schema` reads and checks, `extract` makes the files."""
