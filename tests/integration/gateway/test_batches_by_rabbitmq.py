"""Batches queued in a real RabbitMQ: run by either of two gateways, gone on with when one is killed."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import openai
import pytest
from pydantic import SecretStr

from controlplane.domain.door.gateway_files import batches_dir
from controlplane.gateway.__main__ import RABBITMQ_VARIABLE, main
from tests.integration.gateway.harness import gateway, revision, table
from tests.integration.gateway.test_batches import answering, client, ended, given, lines, results, routed, until
from tests.integration.gateway.test_process import give, process, serving
from tests.integration.gateway.upstream import upstream
from tests.rabbitmq import own_rabbitmq

NOWHERE = SecretStr("amqp://guest:planted-word@127.0.0.1:9/")


@pytest.mark.slow
async def test_a_batch_goes_on_at_another_gateway_when_the_one_that_ran_it_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = {"q3", "q5"}
    with TemporaryDirectory() as folder, own_rabbitmq(Path(folder)) as node:
        monkeypatch.setenv(RABBITMQ_VARIABLE, node.url)
        async with (
            upstream("e1", answering(lambda question: question in late)) as engine,
            process(tmp_path, "--batch-days=1") as first,
        ):
            address = await serving(first, tmp_path)
            await give(address, table(revision("rev-a", 100, engine)))
            async with openai.AsyncOpenAI(base_url=f"{address.url}/v1", api_key="none") as made:
                batch = await given(made, lines(8))
            state = batches_dir(tmp_path) / "batches" / batch.id / "batch.json"
            await until(lambda: json.loads(state.read_bytes())["completed"] == 6)
            other = gateway(tmp_path, name="gw-2", batch_days=1, batch_rabbitmq_url=SecretStr(node.url))
            async with other as gw:
                await gw.route(revision("rev-a", 100, engine))
                first.kill()
                await first.wait()
                late.clear()
                async with client(gw, "none") as made:
                    batch = await ended(made, batch.id)
                    found = await results(made, batch.output_file_id)
    assert Counter(each["custom_id"] for each in found) == Counter(f"c{number}" for number in range(8))
    assert batch.request_counts.model_dump() == {"total": 8, "completed": 8, "failed": 0}


async def test_without_its_queue_a_batch_is_refused_and_leaves_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with gateway(tmp_path, batch_days=1, batch_rabbitmq_url=NOWHERE) as gw, upstream("e1") as engine:
        await gw.push(routed(engine, "a"))
        async with client(gw) as made:
            file = await made.files.create(file=("in.jsonl", lines(1)), purpose="batch")
            with pytest.raises(openai.InternalServerError) as raised:
                await made.batches.create(
                    input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h"
                )
            assert (raised.value.status_code, raised.value.code) == (503, "storage_unavailable")
            assert [each async for each in made.batches.list()] == []
        await gw.until(lambda status: any("the queue of batches" in each for each in status["troubles"]))
    assert engine.seen == []
    assert "the queue of batches does not answer" in caplog.text
    assert "planted-word" not in caplog.text
    assert "planted-word" not in str(raised.value)


def test_a_url_that_is_none_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(RABBITMQ_VARIABLE, "http://guest:planted-word@host/")
    assert main([f"--data-dir={tmp_path}", "--batch-days=1", "--port=0", "--admin-port=0"]) == 2
    said = capsys.readouterr().err
    assert "amqp://" in said
    assert "planted-word" not in said
