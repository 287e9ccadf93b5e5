"""Models with layers in the embedding engine: a folder of sentence-transformers with its ONNX export, really run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer

from controlplane.embedding.batches import Batches
from controlplane.embedding.layers import LayeredModel, Pooling, pooled
from controlplane.embedding.main import load_model, run
from controlplane.embedding.model import ModelError
from controlplane.embedding.server import application
from controlplane.embedding.settings import parse_command_line
from tests.fakes.tiny_onnx import DIMENSIONS, WORDS, weights, write_model

pytest.importorskip("onnxruntime", reason="the extra embed-onnx; `make install` brings it")

MEAN, MAX, CLS, LAST = (mode.value for mode in (Pooling.MEAN, Pooling.MAX, Pooling.CLS, Pooling.LAST))


def loaded(folder: Path, *flags: str) -> LayeredModel:
    found = load_model(parse_command_line([str(folder), *flags]))
    assert isinstance(found, LayeredModel)
    return found


def by_hand(words: str, pooling: str) -> Any:
    """Compute a text's vector from the weights."""
    table, layer = weights()
    ids = [WORDS.index(word) for word in ("[CLS]", *words.split(), "[SEP]")]
    tokens = np.tanh(table[ids] @ layer)
    found = {MEAN: tokens.mean(axis=0), MAX: tokens.max(axis=0), CLS: tokens[0], LAST: tokens[-1]}[pooling]
    return found / np.linalg.norm(found)


@pytest.mark.parametrize("pooling", [MEAN, MAX, CLS, LAST])
def test_every_text_of_a_batch_has_the_vector_that_its_weights_and_its_pooling_make(
    tmp_path: Path, pooling: str
) -> None:
    model = loaded(write_model(tmp_path, pooling=pooling))
    texts = ["the cat sleeps", "dog", "The dog runs"]
    found = model.embed(texts)
    assert found.tokens == (5, 3, 5)
    assert (model.dimensions, model.vocabulary) == (DIMENSIONS, len(WORDS))
    for row, text in zip(found.vectors, texts, strict=True):
        np.testing.assert_allclose(row, by_hand(text.lower(), pooling), atol=1e-5)


def test_the_mean_is_taken_where_nothing_is_said_and_a_text_alone_has_the_vector_it_has_in_a_batch(
    tmp_path: Path,
) -> None:
    model = loaded(write_model(tmp_path, graph="model.onnx"))
    alone, among = model.embed(["dog"]).vectors[0], model.embed(["dog", "the cat sleeps the cat"]).vectors[0]
    np.testing.assert_allclose(alone, among, atol=1e-6)
    np.testing.assert_allclose(alone, by_hand("dog", MEAN), atol=1e-5)


def test_token_ids_are_taken_as_they_are_and_what_is_longer_than_the_model_takes_is_cut(tmp_path: Path) -> None:
    model = loaded(write_model(tmp_path, longest=6))
    ids = [WORDS.index(word) for word in ("[CLS]", "cat", "[SEP]")]
    np.testing.assert_allclose(model.embed([ids]).vectors[0], by_hand("cat", MEAN), atol=1e-5)
    assert model.embed(["cat " * 40, [4] * 40]).tokens == (6, 6)
    assert loaded(tmp_path, "--max-tokens=4").embed(["cat " * 40]).tokens == (4,)


def test_what_is_padding_is_in_no_vector() -> None:
    tokens = np.array([[[1.0], [-5.0], [99.0]]], dtype=np.float32)
    mask = np.array([[1, 1, 0]], dtype=np.int64)
    assert [float(pooled(tokens, mask, mode)[0, 0]) for mode in Pooling] == [-2.0, 1.0, 1.0, -5.0]


async def test_it_serves_embeddings_as_the_other_models_do(tmp_path: Path) -> None:
    model = loaded(write_model(tmp_path))
    batches = Batches(model.embed, max_batch_size=4, max_wait_s=0, threads=2, max_queue=99)
    async with TestClient(TestServer(application("tiny", batches, vocabulary=model.vocabulary))) as client:
        answer = await client.post("/v1/embeddings", json={"model": "tiny", "input": ["the cat", "dog"]})
        body = await answer.json()
        beyond = await client.post("/v1/embeddings", json={"model": "tiny", "input": [len(WORDS)]})
    batches.close()
    assert (answer.status, beyond.status) == (200, 400)
    np.testing.assert_allclose(body["data"][1]["embedding"], by_hand("dog", MEAN), atol=1e-5)
    assert body["usage"]["prompt_tokens"] == 7


def _broken_graph(folder: Path) -> None:
    (folder / "onnx" / "model.onnx").write_bytes(b"no graph")


def _no_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def _other_pooling(folder: Path) -> None:
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_weightedmean_tokens": True}))


def _broken_config(folder: Path) -> None:
    (folder / "config.json").write_text("{")


@pytest.mark.parametrize(
    ("harm", "flags", "says"),
    [
        (_broken_graph, (), "cannot read .*model.onnx"),
        (_no_tokenizer, (), "cannot read .*tokenizer.json"),
        (_other_pooling, (), "pools by pooling_mode_weightedmean_tokens .allowed: one of pooling_mode_mean_tokens"),
        (_broken_config, (), "cannot read .*config.json"),
        (
            lambda _: None,
            ("--device=cuda",),
            "this onnxruntime has no CUDAExecutionProvider: `pip install onnxruntime-gpu`",
        ),
    ],
)
def test_what_cannot_be_served_is_one_message_and_no_start(
    tmp_path: Path, harm: Any, flags: tuple[str, ...], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_model(tmp_path)
    harm(folder)
    with pytest.raises(ModelError, match=says):
        loaded(folder, *flags)
    assert run([str(folder), *flags]) == 1
    assert capsys.readouterr().err.startswith("ModelError: ")


def test_a_table_of_vectors_is_for_processors_alone() -> None:
    with pytest.raises(ModelError, match="wordllama has no ONNX export"):
        load_model(parse_command_line(["wordllama", "--device=cuda"]))
