"""Looking for what does not belong in a request's text, and taking it out. Pure.

Taking one thing out may make another of what stood around it (`<scr<script>ipt>`), so it is repeated until nothing is
left: what was stripped never holds what was looked for.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

from controlplane.domain.door.personal import Recogniser
from controlplane.domain.door.privacy import Action, InputPolicy
from controlplane.domain.door.redacting import redacted


class Found(StrEnum):
    """What was found in a request."""

    INVISIBLE = "invisible"
    SCRIPT = "script"
    SPECIAL_TOKEN = "special_token"
    PERSONAL = "personal"
    TOO_LONG = "too_long"
    TOKEN_IDS = "token_ids"
    INJECTION = "injection"
    NESTED = "nested"  # stripped again and again, there was still more: nobody writes so by chance
    UNCHECKED = "unchecked"  # the classifier did not answer


class Screened(NamedTuple):
    """A text after the policy, and what was found in it."""

    text: str
    found: frozenset[Found]


# Kept: tab and line ends; joiners, without which Persian, Indic scripts and emoji families break; variation selectors
# of emoji; the soft hyphen. Taken: other control characters, direction overrides (CVE-2021-42574), zero-width spaces,
# the byte order mark, fillers, tag characters (text that people do not see and models read), variation
# selectors 17 to 256.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f"
    "\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff]"
)
_SCRIPT = re.compile(
    r"<\s{0,9}/?\s{0,9}(?:script|iframe|object|embed|svg)\b[^<>]*>?"
    r"|\b(?:javascript|vbscript)\s{0,9}:|\bdata\s{0,9}:\s{0,9}text/html"
    r"|(?<=[\s\"'/])on[a-z]{3,20}\s{0,9}=(?=\s{0,9}[\"'a-z])(?=[^<>]{0,300}>)",
    re.IGNORECASE,
)
_TOKENS = (
    r"<\|[A-Za-z0-9_ -]{1,40}\|>",  # ChatML, Llama 3, GPT, Phi, Qwen, GLM
    r"<｜[^<>｜]{1,40}｜>",  # DeepSeek
    # Mistral
    r"\[/?(?:INST|SYSTEM_PROMPT|AVAILABLE_TOOLS|TOOL_CALLS|TOOL_RESULTS|TOOL_CONTENT|IMG|PREFIX|MIDDLE|SUFFIX)\]",
    r"<</?SYS>>",  # Llama 2
    r"</?(?:s|bos|eos|pad|unk|mask|start_of_turn|end_of_turn|start_of_image|end_of_image)>",  # SentencePiece, Gemma
    r"<\|?(?:tool_call|tool_response|think)\|?>",
)
_PHRASES = re.compile(
    r"\b(?:ignore|disregard|forget|override|bypass)\b[^.\n]{0,40}\b(?:previous|prior|above|earlier|preceding|system|your)\b"
    r"[^.\n]{0,40}\b(?:instructions?|prompts?|rules?|guidelines?|directions?)\b"
    r"|\b(?:reveal|print|repeat|show|output)\b[^.\n]{0,30}\b(?:system prompt|hidden prompt|initial instructions)\b"
    r"|\byou are now (?:DAN|in developer mode|unrestricted|jailbroken)\b",
    re.IGNORECASE,
)

# What those hold at least, in small letters: quickly looked for, where the patterns above try every place of a text.
# A space is any of Unicode's here, of at most three bytes.
_SPACES = rb"[\s\x1c-\x1f\x80-\xff]{0,27}"
_OF_TAGS = re.compile(rb"<%b/?%b(?:script|iframe|object|embed|svg)" % (_SPACES, _SPACES))
_OF_LINKS = (re.compile(rb"script%b:" % _SPACES), re.compile(rb"text/html"))
_OF_HANDLERS = re.compile(rb"on[a-z]{3,20}%b=" % _SPACES)
_OF_PHRASES = tuple(
    re.compile(words)
    for words in (
        *(b"ignore", b"disregard", b"forget", b"override", b"bypass"),
        *(b"system prompt", b"hidden prompt", b"initial instructions", b"you are now"),
    )
)

_SHORT = 512
"""Characters that a pattern is through with sooner than anybody could tell whether it is worth the trouble."""

_CONTROLS = (*map(chr, range(0x09)), "\x0b", "\x0c", *map(chr, range(0x0E, 0x20)), "\x7f")
_PLAIN = bytes(each for each in range(128) if chr(each) not in _CONTROLS)
_MOSTLY_ASCII = 1.25  # bytes a character

_PIECE = 64 << 10
"""Characters looked at in one go: a search holds Python's lock, and others want it."""

_OVERLAP = 512
_ROUNDS = 10
_PERSONAL = Recogniser()


def screened(text: str, policy: InputPolicy) -> Screened:
    """Return a text as the policy lets it pass, and what was found; what is not to be stripped stays in the text."""
    found: set[Found] = set()
    text = _cut(text, policy, found)
    text = _personal(text, policy, found)
    everything = _sought(policy)
    for _ in range(_ROUNDS):
        before = text
        for what, sought, action in everything:
            if sought.is_in(text):
                found.add(what)
                text = sought.pattern.sub("", text) if action is Action.STRIP else text
        if text == before:
            return Screened(text, frozenset(found))
    return Screened(text, frozenset(found | {Found.NESTED}))


def is_clearly_clean(text: str, policy: InputPolicy) -> bool:
    """Say whether a long text holds surely nothing that the policy looks for; quickly, and no when it takes a while."""
    if policy.personal is not Action.OFF or (policy.too_long is not Action.OFF and len(text) > policy.longest_text):
        return False
    return not any(sought.may_be_in(text) for _, sought, _ in _sought(policy))


def rejected(found: frozenset[Found], policy: InputPolicy) -> Sequence[Found]:
    """Return what of it refuses the request."""
    return [what for what in Found if what in found and action_on(what, policy) is Action.REJECT]


def action_on(what: Found, policy: InputPolicy) -> Action:
    """Return what the policy says of a thing."""
    actions: Mapping[Found, Action] = {
        Found.INVISIBLE: policy.invisible,
        Found.SCRIPT: policy.scripts,
        Found.SPECIAL_TOKEN: policy.special_tokens,
        Found.PERSONAL: policy.personal,
        Found.TOO_LONG: policy.too_long,
        Found.TOKEN_IDS: policy.token_ids,
        Found.INJECTION: policy.injection.action,
        Found.NESTED: Action.REJECT,
        Found.UNCHECKED: policy.injection.unchecked,
    }
    return actions[what]


def holds_known_phrase(text: str) -> bool:
    """Say whether a text holds one of the phrases that everybody tries first. No more than that."""
    return _Sought(_PHRASES, _may_hold_phrases).is_in(text)


class _Sought(NamedTuple):
    """A pattern, and what says quickly, and never wrongly no, whether a piece of a text may hold it."""

    pattern: re.Pattern[str]
    may_hold: Callable[[str], bool]

    def is_in(self, text: str) -> bool:
        for at in range(0, len(text), _PIECE):
            end = at + _PIECE + _OVERLAP
            if self.may_hold(text[at:end]) and self.pattern.search(text, at, end):
                return True
        return False

    def may_be_in(self, text: str) -> bool:
        return any(self.may_hold(text[at : at + _PIECE + _OVERLAP]) for at in range(0, len(text), _PIECE))


def _may_be_invisible(piece: str) -> bool:
    """ASCII's are looked for one by one, in a twentieth of the pattern's time; among some others, in these alone."""
    if len(piece) <= _SHORT:
        return True
    if piece.isascii():
        return any(map(piece.__contains__, _CONTROLS))
    written = piece.encode("utf-8", "surrogatepass")
    if len(written) > _MOSTLY_ASCII * len(piece):
        return True
    others = written.translate(None, _PLAIN).decode("utf-8", "surrogatepass")
    return _INVISIBLE.search(others) is not None


def _may_hold_scripts(piece: str) -> bool:
    tags, links, handlers = "<" in piece, ":" in piece, "=" in piece and ">" in piece
    if not (tags or links or handlers):
        return False
    small = _small(piece)
    signs = ((_OF_TAGS,) if tags else ()) + (_OF_LINKS if links else ()) + ((_OF_HANDLERS,) if handlers else ())
    return _is_any(signs, small)


def _may_hold_phrases(piece: str) -> bool:
    return _is_any(_OF_PHRASES, _small(piece))


def _is_any(signs: Sequence[re.Pattern[bytes]], small: bytes) -> bool:
    return any(sign.search(small) for sign in signs)


def _small(text: str) -> bytes:
    """Return a text in UTF-8, ASCII in small letters, those too that a pattern without case takes for ASCII's."""
    if not text.isascii():
        text = text.replace("\u0130", "i").replace("\u0131", "i").replace("\u017f", "s").replace("\u212a", "k")
    return text.encode("utf-8", "surrogatepass").lower()


def _sought(policy: InputPolicy) -> Sequence[tuple[Found, _Sought, Action]]:
    return _of_actions(policy.invisible, policy.scripts, policy.special_tokens, policy.more_special_tokens)


@lru_cache(maxsize=64)
def _of_actions(
    invisible: Action, scripts: Action, special_tokens: Action, more: tuple[str, ...]
) -> Sequence[tuple[Found, _Sought, Action]]:
    given = (
        (Found.INVISIBLE, _Sought(_INVISIBLE, _may_be_invisible), invisible),
        (Found.SCRIPT, _Sought(_SCRIPT, _may_hold_scripts), scripts),
        (Found.SPECIAL_TOKEN, _special(more), special_tokens),
    )
    return tuple(each for each in given if each[2] is not Action.OFF)


@lru_cache(maxsize=64)
def _special(more: tuple[str, ...]) -> _Sought:
    begins = tuple({"<", "[", *(each[0] for each in more)})

    def may_hold(piece: str) -> bool:
        return any(map(piece.__contains__, begins))

    return _Sought(re.compile("|".join([*_TOKENS, *map(re.escape, more)])), may_hold)


def _cut(text: str, policy: InputPolicy, found: set[Found]) -> str:
    if policy.too_long is Action.OFF or len(text) <= policy.longest_text:
        return text
    found.add(Found.TOO_LONG)
    return text[: policy.longest_text] if policy.too_long is Action.STRIP else text


def _personal(text: str, policy: InputPolicy, found: set[Found]) -> str:
    if policy.personal is Action.OFF:
        return text
    without = redacted(text, _PERSONAL)
    if without == text:
        return text
    found.add(Found.PERSONAL)
    return without if policy.personal is Action.STRIP else text
