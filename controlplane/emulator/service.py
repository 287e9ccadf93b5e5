"""From a parsed request to an answer: the part of the server that knows the twin, tokens and faults but no HTTP."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from controlplane.domain.errors import InvalidInput
from controlplane.emulator.adapters import Adapters
from controlplane.emulator.answers import Choice, Doom, Mishap, StreamAnswer, Tell, ToChoice, WholeAnswer
from controlplane.emulator.chunks import ChatShape, CompletionShape, Shape, ToolCallShape
from controlplane.emulator.errors import ApiError, bad_request
from controlplane.emulator.faults import Faults
from controlplane.emulator.live import Ask, LiveEngine
from controlplane.emulator.logprobs import candidates, chat_logprobs, check_top, completion_logprobs
from controlplane.emulator.outputs import plan_answer
from controlplane.emulator.protocol import ChatBody, CompletionBody, Message, check_context, refuse_wrong
from controlplane.emulator.speech import Speech
from controlplane.emulator.structured import shaped_text
from controlplane.emulator.tokens import OutputWords, Tokenizer, block_hashes
from controlplane.emulator.tools import ToolCall, ends_as, tool_call
from tuner.twin.setup import EngineSetup


class Model(NamedTuple):
    """The emulated model as clients know it."""

    names: tuple[str, ...]
    root: str
    created: int
    setup: EngineSetup
    tokenizer: Tokenizer
    words: OutputWords
    calls_tools: bool = False
    most_logprobs: int = 20


class Conversation:
    """Takes requests in, one after another; holds the seeded chance that decides lengths and faults."""

    def __init__(self, model: Model, adapters: Adapters, engine: LiveEngine, *, seed: int) -> None:
        self.model = model
        self.adapters = adapters
        self.engine = engine
        self.faults = Faults()
        self.open_answers: dict[StreamAnswer | WholeAnswer, list[int]] = {}
        self._draw = random.Random(seed)
        self._numbers = 0
        self._epoch = 0

    def begin(
        self, body: ChatBody | CompletionBody, transport: asyncio.Transport, *, received_wall_s: float
    ) -> tuple[StreamAnswer | WholeAnswer, list[int]]:
        """Send a request to the engine; return the answer to wait for and the numbers to cancel it by.

        Raises ApiError when it is refused.
        """
        self._refuse(body)
        call = self._call(body)
        prompts = self._prompts(body)
        choices = self._choices(body, call, prompts)
        shape = self._shape(body, call)
        answer = self._answer(body, shape, choices, transport)
        numbers = self._submit(_each(prompts, body), choices, answer, body, received_wall_s)
        self.open_answers[answer] = numbers
        return answer, numbers

    def end(self, answer: StreamAnswer | WholeAnswer, numbers: list[int]) -> None:
        """Take back what is still running of an answer (nothing, when it is complete)."""
        self.open_answers.pop(answer, None)
        for number in numbers:
            self.engine.cancel(number)

    def abort_all(self) -> None:
        """End everything that runs, with the reason `abort`."""
        for answer, numbers in tuple(self.open_answers.items()):
            self.end(answer, numbers)
            answer.abort()

    def forget_prefixes(self) -> None:
        """Let no later request find a prefix of an earlier one."""
        self._epoch += 1

    def check_model(self, name: str | None) -> None:
        """Raise ApiError 404 for a model that is not served here."""
        if name is not None and name not in self.model.names and name not in self.adapters:
            raise ApiError(404, f"The model `{name}` does not exist.", "NotFoundError", "model")

    def _refuse(self, body: ChatBody | CompletionBody) -> None:
        self.check_model(body.model)
        refuse_wrong(body)
        if self._draw.random() < self.faults.error_ratio:
            raise ApiError(500, "Internal server error (emulated fault)", "InternalServerError")

    def _call(self, body: ChatBody | CompletionBody) -> ToolCall | None:
        if not isinstance(body, ChatBody):
            return None
        last_role = body.messages[-1].role
        return tool_call(body.tools, body.tool_choice, last_role=last_role, auto_allowed=self.model.calls_tools)

    def _choices(
        self, body: ChatBody | CompletionBody, call: ToolCall | None, prompts: list[Sequence[Hashable]]
    ) -> list[Choice]:
        self._numbers += 1
        script = call.arguments if call else shaped_text(body.response_format, body.structured_outputs)
        choices, words = list[Choice](), self.model.words
        for index, prompt in enumerate(_each(prompts, body)):
            room, start = self._room(len(prompt), body), self._numbers * 97 + index
            plan = plan_answer(body, script, room=room, words=words, start=start, draw=self._draw)
            output = plan.output if call is None else ends_as(plan.output, call)
            choices.append(Choice(index, len(prompt), output, plan.speech, self._tell(body, plan.speech)))
        return choices

    def _tell(self, body: ChatBody | CompletionBody, speech: Speech) -> Tell | None:
        """Return what makes the logprobs of an answer, None when nobody asked for any."""
        top, words = body.top_logprobs_wanted(), self.model.words
        if top is None:
            return None
        check_top(top, self.model.most_logprobs)

        def tell(start: int, count: int, offset: int) -> dict[str, Any]:
            places = range(start, start + count)
            tokens = [candidates(speech.text(place, 1), place, top, words) for place in places]
            return chat_logprobs(tokens, top) if isinstance(body, ChatBody) else completion_logprobs(tokens, offset)

        return tell

    def _room(self, prompt_tokens: int, body: ChatBody | CompletionBody) -> int:
        longest = self.model.setup.max_model_len
        check_context(prompt_tokens, longest, body.limit())
        return longest - prompt_tokens

    def _shape(self, body: ChatBody | CompletionBody, call: ToolCall | None) -> Shape:
        name, now = body.model or self.model.names[0], int(time.time())
        code = f"{self._draw.getrandbits(128):032x}"
        if call is not None:
            call_id, content = f"chatcmpl-tool-{code}", "" if call.ends_as == "stop" else None
            return ToolCallShape(f"chatcmpl-{code}", name, now, call_id=call_id, name=call.name, content=content)
        if isinstance(body, ChatBody):
            return ChatShape(f"chatcmpl-{code}", name, now)
        return CompletionShape(f"cmpl-{code}", name, now)

    def _answer(
        self, body: ChatBody | CompletionBody, shape: Shape, choices: list[Choice], transport: asyncio.Transport
    ) -> StreamAnswer | WholeAnswer:
        if not body.stream:
            return WholeAnswer(shape, choices, transport, doom=self._doom(), per_prompt=body.n or 1)
        return StreamAnswer(
            shape,
            choices,
            transport,
            include_usage=body.include_usage,
            continuous_usage=body.continuous_usage,
            doom=self._doom(),
            per_prompt=body.n or 1,
        )

    def _doom(self) -> Doom:
        faults, chance = self.faults, self._draw.random()
        if chance < faults.stall_ratio:
            return Doom(Mishap.STALL, faults.stall_after_tokens)
        if chance < faults.stall_ratio + faults.cut_ratio:
            return Doom(Mishap.CUT, faults.cut_after_tokens)
        return Doom()

    def _submit(
        self,
        prompts: list[Sequence[Hashable]],
        choices: list[Choice],
        answer: StreamAnswer | WholeAnswer,
        body: ChatBody | CompletionBody,
        received_wall_s: float,
    ) -> list[int]:
        setup, numbers = self.model.setup, list[int]()
        adapter = body.model if body.model in self.adapters else None
        salt = (adapter, body.cache_salt, self._epoch)
        for prompt, choice in zip(prompts, choices, strict=True):
            hashes = block_hashes(prompt, setup.block_size, salt) if setup.prefix_caching else ()
            ask = Ask(len(prompt), choice.output.tokens, hashes, body.priority, adapter)
            listener = ToChoice(answer.deliver, choice.index)
            try:
                numbers.append(
                    self.engine.submit(
                        ask,
                        listener,
                        received_wall_s=received_wall_s,
                        finish_reason=_counted(choice.output.finish_reason),
                    )
                )
            except InvalidInput as error:
                self.end(answer, numbers)
                raise bad_request(str(error)) from error
        return numbers

    def _prompts(self, body: ChatBody | CompletionBody) -> list[Sequence[Hashable]]:
        tokenizer = self.model.tokenizer
        if isinstance(body, ChatBody):
            return [tokenizer.split(chat_text(body.messages))]
        prompt = body.prompt
        if isinstance(prompt, str):
            return [tokenizer.split(prompt)]
        if not prompt:
            raise bad_request("The decoder prompt cannot be empty", "prompt")
        many = [self._one(one) for one in prompt if not isinstance(one, int)]
        return many or [self._checked([one for one in prompt if isinstance(one, int)])]

    def _one(self, prompt: str | list[int]) -> Sequence[Hashable]:
        return self.model.tokenizer.split(prompt) if isinstance(prompt, str) else self._checked(prompt)

    def _checked(self, ids: list[int]) -> list[int]:
        worst = max(ids, default=0)
        if worst >= self.model.tokenizer.vocabulary_size or min(ids, default=0) < 0:
            raise bad_request(f"Token id {worst} is out of vocabulary", "prompt")
        return ids


def _each(prompts: list[Sequence[Hashable]], body: ChatBody | CompletionBody) -> list[Sequence[Hashable]]:
    """Return every prompt as often as answers to it are wanted."""
    return [prompt for prompt in prompts for _ in range(body.n or 1)]


def _counted(finish_reason: str) -> str:
    """Return the reason the engine counts: to it a call is an ordinary end."""
    return "stop" if finish_reason == "tool_calls" else finish_reason


def chat_text(messages: list[Message]) -> str:
    """Return what the chat template makes of messages (Llama 3's form)."""
    turns = [f"<|start_header_id|>{m.role}<|end_header_id|>\n\n{_content(m)}<|eot_id|>" for m in messages]
    return "<|begin_of_text|>" + "".join(turns) + "<|start_header_id|>assistant<|end_header_id|>\n\n"


def _content(message: Message) -> str:
    if isinstance(message.content, list):
        return "".join(str(part.get("text", "")) for part in message.content)
    return message.content or ""
