"""What redaction holds of a stream is bounded, however long the stream and whatever is in it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from typing import Any

from controlplane.domain.door.personal import Recogniser
from controlplane.domain.door.redacting import Channel
from controlplane.gateway.privacy.redaction import MOST_HELD_BYTES, MOST_HELD_EVENTS, MOST_TEXTS, Redaction
from tests.unit.gateway.test_redaction import chat, event, events_of, finish, said

KEY = "-----BEGIN PRIVATE KEY-----\n" + "QUJD\n" * 2000 + "-----END PRIVATE KEY-----"


def of_choice(index: int, **delta: Any) -> bytes:
    return event({"choices": [{"index": index, "delta": delta}]})


async def test_an_answer_goes_on_although_its_reasoning_ended_in_a_word() -> None:
    redaction, out = Redaction(Recogniser()), b""
    out += await redaction.feed(chat(reasoning_content="Ask alice@ex") + chat(reasoning_content="ample.com"))
    out += await redaction.feed(chat(content="Fine "))
    assert said(out, "reasoning_content") == "Ask [EMAIL]"
    assert said(out) == "Fine "


async def test_texts_that_come_side_by_side_are_each_looked_at_whole() -> None:
    redaction = Redaction(Recogniser())
    pieces = [chat(reasoning=word, reasoning_content=word) for word in ("Ask alice@ex", "ample.com ", "now")]
    out = await redaction.feed(b"".join(pieces) + finish())
    assert said(out, "reasoning") == said(out, "reasoning_content") == "Ask [EMAIL] now"
    empty = [chat(reasoning_content=word, content="") + chat(content="") for word in ("bob@ex", "ample.com ")]
    assert said(await redaction.feed(b"".join(empty) + finish()), "reasoning_content") == "[EMAIL] "


async def test_a_choice_that_stops_in_a_word_holds_the_others_up_to_a_bound() -> None:
    redaction = Redaction(Recogniser())
    out = await redaction.feed(of_choice(0, content="alice"))
    sent = [of_choice(1, content=" token") for _ in range(3 * MOST_HELD_EVENTS)]
    for number, each in enumerate(sent):
        out += await redaction.feed(each)
        assert out or number < MOST_HELD_EVENTS
    assert len(events_of(out)) >= len(sent)
    large = of_choice(1, content=" token", more="x" * (MOST_HELD_BYTES // 4))
    held = [await redaction.feed(each) for each in (of_choice(0, content="bob"), *[large] * 5)]
    assert sum(map(len, held)) > MOST_HELD_BYTES


async def test_a_private_key_that_is_cut_is_taken_out_to_its_end() -> None:
    redaction, sent = Redaction(Recogniser()), list[bytes]()
    others = b"".join(of_choice(1, content="and ") for _ in range(20))
    for at in range(0, len(KEY), 3):
        sent.append(await redaction.feed(of_choice(0, content=KEY[at : at + 3])))
        sent.append(await redaction.feed(others))
    sent.append(await redaction.feed(of_choice(0, content=" Bye") + finish(0) + finish(1)))
    out = b"".join(sent)
    assert said(out).replace("[KEY]", "").strip() in ("Bye", "")
    assert "QUJD" not in said(out)


async def test_a_key_of_which_much_waits_again_and_again_is_taken_out() -> None:
    redaction, sent = Redaction(Recogniser()), list[bytes]()
    for at in range(0, len(KEY), 20):
        sent.append(await redaction.feed(of_choice(0, content=KEY[at : at + 20], more="x" * (MOST_HELD_BYTES // 2))))
    sent.append(await redaction.feed(finish()))
    assert "QUJD" not in "".join(said(each) for each in sent)  # the events themselves are hundreds of megabytes


def a_long_answer(events: int) -> Iterator[bytes]:
    for number in range(events):
        yield chat(content=" to alice@example.com and")
        yield event({"type": "content_block_delta", "index": number, "delta": {"text": f"Part {number}, bob@ex.com"}})


async def test_a_stream_with_much_to_take_out_takes_no_more_memory_the_longer_it_lasts() -> None:
    redaction, held = Redaction(Recogniser()), []
    tracemalloc.start()
    for number, each in enumerate(a_long_answer(3 * MOST_TEXTS)):
        await redaction.feed(each)
        if number in (3 * MOST_TEXTS, 6 * MOST_TEXTS - 1):
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert held[1] - held[0] < 32 << 10  # before, some 140 bytes for each that was taken out, and 600 for each text
    assert held[1] < 2 << 20


def test_a_text_waits_while_something_of_it_is_held_back_and_its_end_changes_nothing_else() -> None:
    channel = Channel(Recogniser())
    channel.push("It was alice@ex")
    assert channel.waits
    channel.push("ample.com, I think. ")
    channel.finish()
    settled, changes = channel.settled, list(channel.changes)
    assert not channel.waits
    channel.finish()
    assert (channel.settled, channel.changes) == (settled, changes)
    channel.push(KEY[:40])
    channel.cut()
    assert channel.waits  # what goes on of the key is taken out as it comes
