"""One answer on its way to the client: tokens in, events (or one object) out, and the faults that befall it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import StrEnum
from typing import Any, NamedTuple

from controlplane.emulator.chunks import DONE, Said, Shape, WordEvents, frame, usage
from controlplane.emulator.endings import Output
from controlplane.emulator.speech import Speech
from controlplane.emulator.tokens import escaped

Tell = Callable[[int, int, int], dict[str, Any]]


class Mishap(StrEnum):
    NONE = "none"
    STALL = "stall"  # no more tokens, the connection stays open
    CUT = "cut"  # the connection breaks


class Doom(NamedTuple):
    """What happens to an answer once `after_tokens` tokens are out."""

    mishap: Mishap = Mishap.NONE
    after_tokens: int = 0


class Choice:
    """The text of one answer to one prompt: what it will say is settled, only when is open.

    `tell` makes the logprobs of tokens from a position on, with the characters before them; None: nobody wants any.
    """

    def __init__(
        self, index: int, prompt_tokens: int, output: Output, speech: Speech, tell: Tell | None = None
    ) -> None:
        self.index = index
        self.prompt_tokens = prompt_tokens
        self.output = output
        self.sent = 0
        self.is_over = False
        self._speech = speech
        self._tell = tell
        self._characters = 0
        self._left = output.characters

    @property
    def usage(self) -> dict[str, int]:
        return usage(self.prompt_tokens, self.sent)

    @property
    def is_plain(self) -> bool:
        """True when tokens go out as they are: no stop string cuts the text, nobody asks for logprobs."""
        return self._left is None and self._tell is None

    def take_word(self) -> bytes:
        """Return the next token's text, JSON-escaped (only while `is_plain`)."""
        word = self._speech.escaped_word(self.sent)
        self.sent += 1
        return word

    def take(self, tokens: int, *, finished: bool) -> Said:
        """Return what the next tokens say (cut before a stop string)."""
        start, before = self.sent, self._characters
        text = self._speech.text(start, tokens)
        self.sent += tokens
        if self._left is not None:
            text = text[: self._left]
            self._left -= len(text)
        self._characters += len(text)
        told = None if self._tell is None or not tokens else self._tell(start, tokens, before)
        if not finished:
            return Said(text, logprobs=told)
        return Said(text, self.output.finish_reason, self.output.stop_reason, told)

    def end_early(self) -> None:
        """Say no more: the answer ends here, aborted."""
        self.output = self.output._replace(finish_reason="abort", stop_reason=None)


class StreamAnswer:
    """Writes each token straight to the connection; `done` ends when the last byte but the terminator is written.

    Going through the transport saves a task switch per token: what holds 500 streams on one core.
    """

    def __init__(
        self,
        shape: Shape,
        choices: list[Choice],
        transport: asyncio.Transport,
        *,
        include_usage: bool,
        continuous_usage: bool,
        doom: Doom,
        per_prompt: int = 1,
    ) -> None:
        self._per_prompt = per_prompt
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._shape = shape
        self._choices = choices
        self._events = [WordEvents(shape, choice.index) for choice in choices]
        self._transport = transport
        self._include_usage = include_usage
        self._continuous = continuous_usage
        self._doom = doom
        self._unfinished = len(choices)
        self._plain = doom.mishap is Mishap.NONE and not continuous_usage and all(one.is_plain for one in choices)

    def deliver(self, index: int, tokens: int, finished: bool) -> None:
        """Write the next tokens of one choice."""
        choice = self._choices[index]
        if self._plain and tokens == 1 and choice.sent and not finished:  # nearly every token: kept short
            if not self._transport.is_closing():
                self._transport.write(self._events[index].framed(choice.take_word()))
            return
        opening = self._opening(choice) if choice.sent == 0 else b""
        said = choice.take(tokens, finished=finished)
        if self._transport.is_closing() or self._befallen(choice):
            return
        self._transport.write(opening + self._event(choice, said))
        if finished:
            choice.is_over = True
            self._finish()

    def abort(self) -> None:
        """End every choice that is not over where it is."""
        for choice in self._choices:
            if not choice.is_over:
                choice.end_early()
                self.deliver(choice.index, 0, finished=True)

    def cut(self) -> None:
        """Break the connection: what a stream sees when its engine ends."""
        self._transport.abort()

    def _opening(self, choice: Choice) -> bytes:
        event = self._shape.opening(choice.index, choice.usage if self._continuous else None)
        return frame(event) if event else b""

    def _event(self, choice: Choice, said: Said) -> bytes:
        if said.finish is None and said.logprobs is None and not self._continuous:
            return self._events[choice.index].framed(escaped(said.text))
        return frame(self._shape.event(choice.index, said, choice.usage if self._continuous else None))

    def _befallen(self, choice: Choice) -> bool:
        if self._doom.mishap is Mishap.NONE or choice.sent <= self._doom.after_tokens:
            return False
        if self._doom.mishap is Mishap.CUT:
            self._transport.abort()
        return True

    def _finish(self) -> None:
        self._unfinished -= 1
        if self._unfinished or self.done.done():
            return
        tail = b""
        if self._include_usage:
            tail = frame(self._shape.usage_event(total_usage(self._choices, self._per_prompt)))
        self._transport.write(tail + frame(DONE))
        self.done.set_result(None)


class WholeAnswer:
    """Collects an answer that is sent in one piece."""

    def __init__(
        self,
        shape: Shape,
        choices: list[Choice],
        transport: asyncio.Transport,
        *,
        doom: Doom,
        per_prompt: int = 1,
    ) -> None:
        self._per_prompt = per_prompt
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._shape = shape
        self._choices = choices
        self._said: list[list[Said]] = [[] for _ in choices]
        self._transport = transport
        self._doom = doom
        self._unfinished = len(choices)

    def deliver(self, index: int, tokens: int, finished: bool) -> None:
        choice = self._choices[index]
        self._said[index].append(choice.take(tokens, finished=finished))
        if self._doom.mishap is not Mishap.NONE and choice.sent > self._doom.after_tokens:
            if self._doom.mishap is Mishap.CUT:
                self._transport.abort()
            return
        choice.is_over = finished
        self._unfinished -= finished
        if self._unfinished == 0 and not self.done.done():
            self.done.set_result(None)

    def abort(self) -> None:
        """End every choice that is not over where it is."""
        for choice in self._choices:
            if not choice.is_over:
                choice.end_early()
                self.deliver(choice.index, 0, finished=True)

    def cut(self) -> None:
        """Break the connection."""
        self._transport.abort()

    def body(self) -> dict[str, Any]:
        """Return the whole answer."""
        choices = [
            self._shape.full_choice(choice.index, _joined(said))
            for choice, said in zip(self._choices, self._said, strict=True)
        ]
        return self._shape.full(choices, total_usage(self._choices, self._per_prompt))


class ToChoice:
    """Hands the tokens of one twin request to one choice of an answer."""

    def __init__(self, deliver: Callable[[int, int, bool], None], index: int) -> None:
        self._deliver = deliver
        self._index = index

    def deliver(self, tokens: int, finished: bool) -> None:
        self._deliver(self._index, tokens, finished)


def total_usage(choices: list[Choice], per_prompt: int = 1) -> dict[str, int]:
    """Count a prompt once, however many answers it got."""
    return usage(sum(one.prompt_tokens for one in choices[::per_prompt]), sum(one.sent for one in choices))


def _joined(parts: list[Said]) -> Said:
    """Put an answer together; of logprobs each list goes on where the one before ended."""
    told = [part.logprobs for part in parts if part.logprobs is not None]
    logprobs = {name: [each for one in told for each in one[name]] for name in told[0]} if told else None
    last = parts[-1]
    return Said("".join(part.text for part in parts), last.finish, last.stop_reason, logprobs)
