"""Finding personal data and secrets in text: e-mail addresses, phone and card numbers, IBANs, keys. Pure.

Built in, so that redaction works without a model of any language; names and places need one (the extra `presidio`).
What has a checksum is checked by it: cards by Luhn (ISO/IEC 7812-1), IBANs by their remainder (ISO 13616, mod 97).
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import NamedTuple


class Personal(StrEnum):
    """What is recognised without a model."""

    KEY = "key"  # API keys by their prefixes, JSON web tokens, private keys
    EMAIL = "email"
    IBAN = "iban"
    CARD = "card"
    PHONE = "phone"


class Span(NamedTuple):
    """Where something was found, `text[start:end]`, and what it is called."""

    start: int
    end: int
    kind: str


LONGEST_CHAIN = 64
"""Numbers written in groups are at most so long, an IBAN of 34 characters and its spaces being the longest."""

_BEFORE = r"(?<![A-Za-z0-9._%+@-])"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_EMAIL = _BEFORE + rf"[A-Za-z0-9._%+-]{{1,64}}@(?:{_LABEL}\.){{1,8}}[A-Za-z]{{2,24}}(?![A-Za-z0-9@]|-(?!----BEGIN ))"
_IBAN = r"(?<![A-Za-z0-9])[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?(?![A-Za-z0-9])"
_CARD = r"(?<![A-Za-z0-9.+-])[2-6][0-9]{3}(?:[ -]?[0-9]{4}){2}[ -]?[0-9]{1,7}(?![A-Za-z0-9]|[.-][0-9])"
_AMEX = r"(?<![A-Za-z0-9.+-])3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5}(?![A-Za-z0-9]|[.-][0-9])"
_PHONE_ABROAD = (
    r"(?<![A-Za-z0-9+])(?:\+|00(?=[1-9][0-9]{0,2}[ ./-]))[1-9][0-9]{0,2}"
    r"(?:[ ./-]?(?:\([0-9]{1,5}\)|[0-9]{1,12})){1,6}(?![A-Za-z0-9])"
)
_PHONE_HERE = (
    r"(?<![A-Za-z0-9+./-])(?:\([0-9]{2,5}\) ?|0[0-9]{1,4}[ /-])[0-9]{2,8}(?:[ -][0-9]{2,4}){0,3}"
    r"(?![A-Za-z0-9]|[./-][0-9])"
    r"|(?<![A-Za-z0-9+./-])[2-9][0-9]{2}([ .-])[0-9]{3}\1[0-9]{4}(?![A-Za-z0-9]|[./-][0-9])"
)
_KEYS = (
    r"sk-[A-Za-z0-9_-]{16,}",
    r"gh[pousr]_[A-Za-z0-9]{30,}",
    r"github_pat_[A-Za-z0-9_]{22,}",
    r"glpat-[A-Za-z0-9_-]{20,}",
    r"hf_[A-Za-z0-9]{30,}",
    r"(?:AKIA|ASIA)[A-Z0-9]{16}(?![A-Za-z0-9])",
    r"AIza[A-Za-z0-9_-]{35}",
    r"xox[abeprs]-[A-Za-z0-9-]{10,}",
    r"(?:sk|pk|rk)_(?:live|test)_[A-Za-z0-9]{16,}",
    r"eyJ[A-Za-z0-9_-]{20,}(?:\.[A-Za-z0-9_-]+){0,2}",
)
_KEY = r"(?<![A-Za-z0-9_-])(?:" + "|".join(_KEYS) + ")"
_PEM_BEGINS = "-----BEGIN "
_PEM = r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----[^\"]*?(?:-----END [A-Z ]{0,30}PRIVATE KEY-----|(?=\")|\Z)"

_OF_KEYS = tuple(
    re.compile(each)
    for each in (*(key for key in _KEYS if not key.startswith("(")), "AKIA", "ASIA", "_live_", "_test_", _PEM_BEGINS)
)
"""What a text with a key holds. Each begins with letters that are quickly looked for."""

_SHORT = 256
_IN_SHORT = re.compile(r"[0-9@]|[A-Za-z_-]{15}|-----BEGIN ")
"""One of these is in every text of ours; of the words of a stream, looked at one by one, few have any."""
_SHORTEST_WORD = 15
_IN_SHORTEST = re.compile(r"[0-9@]")
"""What is left of them in a text of fewer characters than the longest run above: no private key is as short."""

_CHAINED = (Personal.IBAN, Personal.CARD, Personal.PHONE)
_LOCAL = string.ascii_letters + string.digits + "._%+-"
_RUN = string.ascii_letters + string.digits + "._%+@/()-"
_CHAIN = string.ascii_uppercase + string.digits + "()+./-"
_DIGIT = re.compile(r"[0-9]")
_SEPARATOR = re.compile(r"[ ./-](?=[^ ./-]*\Z)")
_DATE = re.compile(r"[0-9]{2}[ /.-][0-9]{2}[ /.-][0-9]{4}")
_PEM_HEAD = re.compile(r"-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----")
_PEM_OVER = re.compile(r"-----END [A-Z ]{0,30}PRIVATE KEY-----|\"")
_PEM_OPEN = re.compile(r"-----BEGIN [A-Z ]{0,40}(?:PRIVATE KEY-{0,5})?\Z")


class Recogniser(NamedTuple):
    """Finds these kinds in texts, whole or growing."""

    kinds: Collection[Personal] = tuple(Personal)

    def find(self, text: str) -> Sequence[Span]:
        return find(text, self.kinds)

    def held_from(self, text: str) -> int:
        return held_from(text)


def find(text: str, kinds: Collection[Personal]) -> Sequence[Span]:
    """Return what was found, in order and without overlaps; where kinds overlap, the one listed first in `Personal`."""
    if len(text) <= _SHORT and not (_IN_SHORTEST if len(text) < _SHORTEST_WORD else _IN_SHORT).search(text):
        return ()
    found: list[Span] = []
    for kind in Personal:
        for pattern, holds in _PATTERNS[kind] if kind in kinds else ():
            spans = (_span(match, kind, holds) for match in _matches(kind, pattern, text))
            found += [span for span in spans if span and not any(_overlap(span, other) for other in found)]
    return sorted(found)


def _matches(kind: Personal, pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Return where a pattern matches, looking only where it may: at each place of a text it would take long."""
    match kind:
        case Personal.KEY:
            return pattern.finditer(text) if any(sign.search(text) for sign in _OF_KEYS) else iter(())
        case Personal.EMAIL:
            return filter(None, (pattern.match(text, start) for start in _starts_of_emails(text)))
        case Personal.IBAN | Personal.CARD | Personal.PHONE:
            runs = _RUNS[kind].finditer(text)
            return (found for run in runs for found in pattern.finditer(text, run.start(), run.end() + 2))


def _starts_of_emails(text: str) -> Iterator[int]:
    """Return where the word before each `@` begins."""
    at = text.find("@")
    while at >= 0:
        first = max(0, at - 65)
        yield first + len(text[first:at].rstrip(_LOCAL))
        at = text.find("@", at + 1)


def _span(match: re.Match[str], kind: Personal, holds: Callable[[str], bool]) -> Span | None:
    """Return what holds of a match: all of it, or without the last groups, which are something else behind it."""
    said = match[0]
    while not holds(said):
        last = _SEPARATOR.search(said)
        if last is None:
            return None
        said = said[: last.start()]
    return Span(match.start(), match.start() + len(said), kind.value)


def _overlap(one: Span, other: Span) -> bool:
    return one.start < other.end and other.start < one.end


def held_from(text: str) -> int:
    """Return from where on a text may still become part of something, when more of it comes; its length: nowhere.

    It is the last word, the groups of digits before it, or a private key that has not ended.
    """
    floor, begun = 0, text.find(_PEM_BEGINS)
    if begun >= 0:
        for end in _PEM_OVER.finditer(text, begun):
            floor = end.end()  # a key that has ended is over, whatever follows at once
        grows = _PEM_HEAD.search(text, floor) or _PEM_OPEN.search(text, floor)
        if grows:
            return grows.start()
    start = max(floor, len(text.rstrip(_RUN)))
    chain = _start_of_chain(text, start)
    if not _DIGIT.search(text, chain):
        return start
    if len(text) - chain < LONGEST_CHAIN:  # it ends by itself
        return max(floor, chain)
    cut = [span.start for span in find(text, _CHAINED) if span.start < chain < span.end]
    return min(cut, default=max(floor, chain))  # what is found already stays whole, however long the last word is


def _start_of_chain(text: str, start: int) -> int:
    """Go back over groups of digits and capitals with one space between each."""
    while start and text[start - 1] == " " and len(text) - start < LONGEST_CHAIN:
        if start < 2 or text[start - 2] not in _CHAIN:
            break
        start = len(text[: start - 1].rstrip(_RUN))  # never in the middle of a word
    return start


def _digits(text: str) -> str:
    return "".join(character for character in text if character.isdigit())


def is_card(text: str) -> bool:
    """Say whether digits, with or without separators, are a card's number: 13 to 19 of them and Luhn's sum."""
    digits = [int(digit) for digit in reversed(_digits(text))]
    doubled = (2 * digit - 9 * (digit > 4) for digit in digits[1::2])
    return 13 <= len(digits) <= 19 and (sum(digits[::2]) + sum(doubled)) % 10 == 0


def is_iban(text: str) -> bool:
    """Say whether a text is an IBAN: 15 to 34 characters whose remainder by 97 is 1."""
    plain = text.replace(" ", "")
    turned = plain[4:] + plain[:4]
    return 15 <= len(plain) <= 34 and int("".join(str(int(character, 36)) for character in turned)) % 97 == 1


def _is_phone(text: str) -> bool:
    """E.164 has at most 15 digits; fewer than 7 reach nobody; a day with its month and year is none."""
    return not _DATE.fullmatch(text) and 7 <= len(_digits(text).removeprefix("00")) <= 15


def _any(text: str) -> bool:
    return True


_Check = tuple[re.Pattern[str], Callable[[str], bool]]
_PATTERNS: Mapping[Personal, Sequence[_Check]] = {
    Personal.KEY: ((re.compile(_PEM), _any), (re.compile(_KEY), _any)),
    Personal.EMAIL: ((re.compile(_EMAIL), _any),),
    Personal.IBAN: ((re.compile(_IBAN), is_iban),),
    Personal.CARD: ((re.compile(_CARD), is_card), (re.compile(_AMEX), is_card)),
    Personal.PHONE: ((re.compile(_PHONE_ABROAD), _is_phone), (re.compile(_PHONE_HERE), _is_phone)),
}
_RUNS: Mapping[Personal, re.Pattern[str]] = {
    Personal.IBAN: re.compile(r"[A-Z][A-Z][0-9][0-9][A-Z0-9 ]{8,}"),
    Personal.CARD: re.compile(r"[0-9][0-9 -]{11,}"),
    Personal.PHONE: re.compile(r"[0-9(+][0-9 ./()+-]{6,}"),
}
"""The longest runs of what numbers of a kind are written in. Each lies in one, and looks two characters beyond it."""
