"""Two questions that sound alike: whether one's answer may be given to the other. Pure.

Embeddings put "Is 7 a prime?" beside "Is 9 a prime?" and "can I" beside "can't I". What they do not see is looked at in
the words: numbers, negation, names and other things written apart, opposites, units, what is asked for, and the
language. Where one of these differs, the questions are two.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum

from pydantic import Field, model_validator

from controlplane.domain.base import Value


class EmbedderOptions(Value):
    """Who makes vectors of questions: one of the two."""

    url: str | None = Field(default=None, description="Base URL of an OpenAI-compatible API with `/v1/embeddings`.")
    model: str = Field(description="The embedding model.")
    sentence_transformers: bool = Field(
        default=False, description="Run the model in the gateway (extra `semantic`); without it, `url` is asked."
    )
    timeout_s: float = Field(default=1.0, gt=0, description="A slower answer is none: an engine is asked.")

    @model_validator(mode="after")
    def _one_of_them(self) -> EmbedderOptions:
        if (self.url is None) != self.sentence_transformers:
            raise ValueError("give either `url` or `sentence_transformers: true`")
        return self


class SemanticOptions(Value):
    """Answers of chats whose last question sounds alike, all else being equal. Beside what is equal."""

    embedder: EmbedderOptions
    at_least: float = Field(default=0.95, gt=0, le=1, description="Cosine of the two questions' vectors.")
    check_share: float = Field(
        default=0.05, ge=0, le=1, description="Share of hits that an engine answers nevertheless, to compare."
    )
    same_answer: float = Field(default=0.9, gt=0, le=1, description="Cosine from which two answers say the same.")
    most_questions: int = Field(default=10_000, ge=1, description="Remembered per gateway, the latest used.")


class Differs(StrEnum):
    """Why two questions are not one."""

    NUMBERS = "numbers"
    NEGATION = "negation"
    NAMES = "names"
    OPPOSITES = "opposites"
    UNITS = "units"
    ASKED = "asked"  # who, when, why, how many, ...
    LANGUAGE = "language"


_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)?")
_NUMBER = re.compile(r"\d+(?:[.,:/]\d+)*")


def _each(words: str) -> list[str]:
    return words.split()


def _groups(words: str) -> tuple[frozenset[str], ...]:
    return tuple(frozenset(group.split("/")) for group in words.split())


_COUNTED = _each(
    "zero/null one/eins two/zwei/deux/dos three/drei/trois/tres four/vier/quatre/cuatro five/fünf/cinq/cinco "
    "six/sechs/seis seven/sieben/sept/siete eight/acht/huit/ocho nine/neun/neuf/nueve ten/zehn/dix/diez "
    "eleven/elf twelve/zwölf"
)
_NUMBER_WORDS = {word: str(number) for number, words in enumerate(_COUNTED) for word in words.split("/")}
_NUMBER_WORDS |= {"first": "1", "second": "2", "third": "3", "fourth": "4", "fifth": "5", "twice": "2"}
_NEGATIONS = frozenset(
    _each(
        "no not never none nobody nothing neither nor without cannot except exclude excluding unless avoid isn't "
        "aren't don't doesn't didn't can't won't shouldn't wouldn't couldn't wasn't weren't haven't hasn't mustn't "
        "nicht kein keine keinen keiner nie niemals ohne außer pas jamais sans aucun aucune rien nunca jamás sin "
        "ningún ninguna nada non mai senza"
    )
)
_OPPOSITES = _groups(
    "increase/decrease max/min maximum/minimum most/least more/less before/after first/last start/stop "
    "open/close enable/disable install/uninstall add/remove buy/sell win/lose left/right up/down in/out on/off "
    "hot/cold high/low highest/lowest largest/smallest biggest/smallest longest/shortest best/worst cheap/expensive "
    "encode/decode encrypt/decrypt import/export upload/download push/pull allow/deny allow/forbid "
    "positive/negative male/female north/south east/west sync/async ascending/descending legal/illegal safe/dangerous "
    "true/false pros/cons advantages/disadvantages arrival/departure lock/unlock connect/disconnect read/write "
    "create/delete accept/reject input/output upgrade/downgrade oldest/newest borrow/lend allowed/forbidden"
)
_UNITS = _groups(
    "km/kilometers/kilometres miles/mi meters/metres/m feet/ft celsius fahrenheit kelvin kg/kilograms/kilos "
    "pounds/lb/lbs grams/g liters/litres gallons usd/dollars eur/euros gbp yen seconds/sec minutes/min hours days "
    "weeks months years mb gb tb kb percent"
)
_ASKED = frozenset(
    _each("who whom whose when where why which wer wann wo warum wieso qui quand où pourquoi quién cuándo")
)
_MANY = re.compile(r"\bhow (many|much|long|far|old|often|big|tall|fast|deep|heavy)\b", re.IGNORECASE)
_QUOTED = re.compile(r"\"([^\"]+)\"|`([^`]+)`|“([^”]+)”|(?<!\w)'([^']+)'(?!\w)")
_CODE = re.compile(r"\b\w+(?:[._/\\#+-]\w+)+\b|\b\w+\(\)|\b[a-z]+[A-Z]\w*|\bC\+\+|\bC#")
_STOP_WORDS: Mapping[str, frozenset[str]] = {
    name: frozenset(_each(words))
    for name, words in (
        ("en", "the of is are what how do does in to and a i my for with on it can you please tell me"),
        ("de", "der die das ist sind was wie und ein eine ich mein für mit auf es kann du bitte von zu im den"),
        ("fr", "le la les est sont que comment et un une je mon pour avec sur il peut vous de du des quelle"),
        ("es", "el los es son qué cómo y un una yo mi para con en puede usted de del las cuál por"),
        ("it", "il gli è sono che come e un una io mio per con su può lei di del della qual"),
    )
}


def differs(one: str, other: str) -> Differs | None:
    """Return the first thing in which two questions differ beyond their wording; None when nothing does."""
    seen = ((name, read(one), read(other)) for name, read in _READ.items())
    found = next((name for name, first, second in seen if first != second), None)
    if found is not None:
        return found
    return Differs.OPPOSITES if _turned(_words(one), _words(other)) else None


def _words(text: str) -> frozenset[str]:
    return frozenset(word.lower().replace("’", "'") for word in _WORD.findall(text))


def _numbers(text: str) -> tuple[str, ...]:
    said = [_NUMBER_WORDS[word] for word in map(str.lower, _WORD.findall(text)) if word in _NUMBER_WORDS]
    return tuple(sorted([*_NUMBER.findall(text), *said]))


def _negations(text: str) -> int:
    words = [word.lower().replace("’", "'") for word in _WORD.findall(text)]
    return sum(word in _NEGATIONS for word in words)


def _names(text: str) -> frozenset[str]:
    """Words with a capital inside a sentence, in capitals, in quotes or as code: what cannot be said otherwise."""
    found = {each.lower() for match in _QUOTED.findall(text) for each in match if each}
    found |= {each.lower() for each in _CODE.findall(text) if not each.replace("'", "").isdigit()}
    for sentence in re.split(r"(?<=[.!?:])\s+|\n", text):
        words = _WORD.findall(sentence)
        inside = [word for word in words[1:] if word[0].isupper() and word not in ("I", "I'm", "I'd", "I've")]
        first = [word for word in words[:1] if len(word) > 1 and word.isupper()]
        found |= {re.sub(r"['’]s$", "", word).lower() for word in (*inside, *first)}
    return frozenset(found)


def _units(text: str) -> frozenset[int]:
    words = _words(text)
    return frozenset(place for place, names in enumerate(_UNITS) if words & names)


def _asked(text: str) -> tuple[frozenset[str], tuple[str, ...]]:
    return _words(text) & _ASKED, tuple(sorted(each.lower() for each in _MANY.findall(text)))


def language(text: str) -> str:
    """Return what a text is most likely written in: a language by its commonest words, else a script."""
    scripts = [_script(character) for character in text if character.isalpha()]
    script = max(set(scripts), key=scripts.count, default="latin")
    if script != "latin":
        return script
    words = [word.lower() for word in _WORD.findall(text)]
    counts = {name: sum(word in known for word in words) for name, known in _STOP_WORDS.items()}
    best = max(counts, key=lambda name: counts[name])
    return best if counts[best] else "latin"


def _script(character: str) -> str:
    code = ord(character)
    blocks = ((0x250, "latin"), (0x400, "greek"), (0x530, "cyrillic"), (0x700, "semitic"), (0x1E00, "asian"))
    return next((name for end, name in blocks if code < end), "latin" if code < 0x2000 else "asian")


def _turned(one: frozenset[str], other: frozenset[str]) -> bool:
    """Say whether one says a word and the other its opposite."""
    return any((pair & one) and (pair & other) and (pair & one) != (pair & other) for pair in _OPPOSITES)


_READ = {
    Differs.LANGUAGE: language,
    Differs.NUMBERS: _numbers,
    Differs.NEGATION: _negations,
    Differs.UNITS: _units,
    Differs.ASKED: _asked,
    Differs.NAMES: _names,
}
