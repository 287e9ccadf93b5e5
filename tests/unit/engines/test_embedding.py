"""The embedding engine: batches, what it answers, and a real model behind it."""

from __future__ import annotations

import asyncio
import base64
import importlib.resources
import json
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from controlplane.embedding.batches import Batches, QueueFull
from controlplane.embedding.model import PACKAGED, Embedded, ModelError, StaticModel, Text, load_static
from controlplane.embedding.requests import BadRequest, read_request
from controlplane.embedding.server import application
from controlplane.embedding.settings import parse_command_line


def lengths(texts: Sequence[Text]) -> Embedded:
    """Embed as the length of a text."""
    return Embedded(np.array([[len(each)] for each in texts], dtype=np.float32), tuple(len(each) for each in texts))


def batches(**changes: Any) -> Batches:
    options: dict[str, Any] = {"max_batch_size": 4, "max_wait_s": 0.0, "threads": 1, "max_queue": 1000}
    return Batches(lengths, **(options | changes))


@given(
    requests=st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=6), min_size=1, max_size=8),
    size=st.integers(1, 5),
    threads=st.integers(1, 3),
)
@settings(max_examples=25, deadline=None)
def test_every_request_gets_its_own_vectors_in_order_however_they_are_batched(
    requests: list[list[str]], size: int, threads: int
) -> None:
    async def ask() -> tuple[list[list[float]], Batches]:
        mine = batches(max_batch_size=size, threads=threads)
        found = await asyncio.gather(*(mine.vectors(texts) for texts in requests))
        mine.close()
        return [[float(each.values[0]) for each in vectors] for vectors in found], mine

    found, used = asyncio.run(ask())
    assert found == [[len(text) for text in texts] for texts in requests]
    assert max(used.sizes) <= size
    assert sum(texts * times for texts, times in used.sizes.items()) == sum(map(len, requests))
    assert (used.running, used.waiting) == (0, 0)


async def test_texts_that_wait_are_computed_together() -> None:
    mine = batches(max_batch_size=3, max_wait_s=3600.0)
    await asyncio.gather(*(mine.vectors([text]) for text in ("a", "bb", "ccc")))
    mine.close()
    assert mine.sizes == {3: 1}


async def test_a_text_alone_does_not_wait_for_ever() -> None:
    mine = batches(max_wait_s=0.01)
    (vector,) = await mine.vectors(["four"])
    mine.close()
    assert vector.tokens == 4


async def test_a_full_queue_refuses_and_a_broken_batch_tells_each_request() -> None:
    with pytest.raises(QueueFull):
        await batches(max_queue=1).vectors(["a", "b"])

    def breaks(_: Sequence[Text]) -> Embedded:
        raise RuntimeError("broken")

    mine = Batches(breaks, max_batch_size=4, max_wait_s=0, threads=1, max_queue=9)
    said = await asyncio.gather(mine.vectors(["a"]), mine.vectors(["b"]), return_exceptions=True)
    mine.close()
    assert [str(each) for each in said] == ["broken", "broken"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"input": []}, "neither a text"),
        ({"input": 7}, "neither a text"),
        ({"input": ["a", 7]}, "holds something"),
        ({"input": ["a"] * 2049}, "2048 are allowed"),
        ({"input": [1, 32_000]}, "holds something"),
        ({"input": [[1, True]]}, "holds something"),
        ({"encoding_format": "hex"}, "neither float nor base64"),
        ({"dimensions": 8}, "one size"),
    ],
)
def test_a_body_that_cannot_be_answered_is_refused_without_its_text(change: dict[str, Any], says: str) -> None:
    with pytest.raises(BadRequest, match=says):
        read_request({"model": "m", "input": "a"} | change, served_name="m", vocabulary=32_000)


@pytest.fixture(scope="module")
def model() -> StaticModel:
    return load_static(PACKAGED, max_tokens=8192)


def test_a_real_model_knows_what_is_alike(model: StaticModel) -> None:
    cat, kitten, rates = model.embed(
        ["a cat sat on the mat", "a kitten lay on the rug", "interest rates rose again"]
    ).vectors
    assert cat @ kitten > 0.3
    assert cat @ rates < 0.1
    assert model.embed(["a cat"]).vectors.shape == (1, model.dimensions) == (1, 256)


def test_vectors_have_length_one_and_do_not_depend_on_their_batch(model: StaticModel) -> None:
    texts = ["one", "two words", "", "and a longer text of a few more words"]
    together = model.embed(texts)
    alone = np.concatenate([model.embed([text]).vectors for text in texts])
    np.testing.assert_array_equal(together.vectors, alone)
    np.testing.assert_allclose(np.linalg.norm(together.vectors, axis=1), [1, 1, 0, 1], atol=1e-6)
    assert together.tokens[2] == 0


def test_token_ids_are_as_good_as_their_text_and_long_texts_are_cut(model: StaticModel) -> None:
    short = StaticModel(model._table, model._tokenizer, max_tokens=2)
    assert short.embed(["one two three four"]).tokens == (2,)
    assert model.embed([[1000, 2000, 3000]]).tokens == (3,)


def test_a_folder_in_model2vecs_form_is_served_and_one_without_a_model_refused(tmp_path: Path) -> None:
    from safetensors.numpy import save_file

    package = Path(str(importlib.resources.files(PACKAGED)))
    (tmp_path / "tokenizer.json").write_bytes(
        (package / "tokenizers" / "l2_supercat_tokenizer_config.json").read_bytes()
    )
    with pytest.raises(ModelError, match=r"model\.safetensors missing"):
        load_static(str(tmp_path), max_tokens=10)
    save_file({"embeddings": np.ones((32_000, 3), dtype=np.float16)}, tmp_path / "model.safetensors")
    assert load_static(str(tmp_path), max_tokens=10).dimensions == 3
    save_file({"other": np.ones(3)}, tmp_path / "model.safetensors")
    with pytest.raises(ModelError, match="no table of vectors"):
        load_static(str(tmp_path), max_tokens=10)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError, match="cannot read"):
        load_static(str(tmp_path), max_tokens=10)


@pytest.fixture
async def client(model: StaticModel) -> AsyncIterator[TestClient[Any, Any]]:
    mine = Batches(model.embed, max_batch_size=8, max_wait_s=0, threads=2, max_queue=4)
    async with TestClient(TestServer(application("small", mine, vocabulary=model.vocabulary))) as found:
        yield found
    mine.close()


async def test_openais_answer_in_both_forms_with_usage(client: TestClient[Any, Any], model: StaticModel) -> None:
    body = {"model": "small", "input": ["a cat", "a dog"]}
    plain = await (await client.post("/v1/embeddings", json=body)).json()
    packed = await (await client.post("/v1/embeddings", json=body | {"encoding_format": "base64"})).json()
    vectors = np.array([each["embedding"] for each in plain["data"]], dtype=np.float32)
    unpacked = [np.frombuffer(base64.b64decode(each["embedding"]), dtype="<f4") for each in packed["data"]]
    np.testing.assert_allclose(vectors, model.embed(["a cat", "a dog"]).vectors, rtol=1e-6)
    np.testing.assert_allclose(unpacked, vectors, rtol=1e-6)
    assert [each["index"] for each in plain["data"]] == [0, 1]
    assert plain["usage"]["prompt_tokens"] == sum(model.embed(["a cat", "a dog"]).tokens)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"\xff", 400),
        (b"[]", 400),
        (json.dumps({"model": "large", "input": "planted-text"}).encode(), 404),
        (json.dumps({"model": "small", "input": {"a": "planted-text"}}).encode(), 400),
        (json.dumps({"model": "small", "input": ["planted-text"] * 5}).encode(), 503),
    ],
)
async def test_refusals_are_openais_errors_and_never_repeat_the_text(
    client: TestClient[Any, Any], body: bytes, status: int
) -> None:
    answered = await client.post("/v1/embeddings", data=body)
    text = await answered.text()
    assert answered.status == status
    assert json.loads(text)["error"]["message"]
    assert "planted-text" not in text


async def test_metrics_name_the_model_and_count(client: TestClient[Any, Any]) -> None:
    await client.post("/v1/embeddings", json={"model": "small", "input": "a cat"})
    await client.post("/v1/embeddings", data=b"{")
    page = await (await client.get("/metrics")).text()
    found = {s.name: s for family in text_string_to_metric_families(page) for s in family.samples}
    assert found["fleetune_embed:request_seconds_count"].value == 1
    assert found["fleetune_embed:refused_total"].value == 1
    assert found["fleetune_embed:num_texts_waiting"].labels == {"model_name": "small"}
    assert (await client.get("/health")).status == 200
    assert (await (await client.get("/v1/models")).json())["data"][0]["id"] == "small"


@pytest.mark.parametrize("flags", [["--threads=0"], ["--max-wait-ms=-1"], ["--colour=blue"], ["--max-wait-ms=nan"]])
def test_a_wrong_flag_ends_with_argparses_message(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_command_line(["wordllama", *flags])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
