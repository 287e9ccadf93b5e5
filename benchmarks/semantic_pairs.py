"""A labelled set of question pairs for the semantic cache: same question said otherwise, and near misses. Seeded.

Near misses differ in one thing that an embedding hardly sees. The set is made of templates: it shows what guards and a
threshold do with such pairs, not how often they come in somebody's traffic.
"""

from __future__ import annotations

import random
from typing import NamedTuple


class Pair(NamedTuple):
    kind: str  # "same", or what the two differ in
    one: str
    other: str

    @property
    def same(self) -> bool:
        return self.kind == "same"


_SAME = (
    ("How do I reset my {thing}?", "How can I reset my {thing}?"),
    ("How do I reset my {thing}?", "I want to reset my {thing}, how do I do that?"),
    ("What is the capital of {place}?", "What's the capital of {place}?"),
    ("What is the capital of {place}?", "Please tell me the capital of {place}."),
    ("Explain {topic} in simple terms.", "Please explain {topic} in simple terms"),
    ("Explain {topic} in simple terms.", "Can you explain {topic} in simple words?"),
    ("Write a short poem about {topic}.", "Please write a short poem about {topic}"),
    ("How many days are in {number} weeks?", "How many days are there in {number} weeks?"),
    ("Is it safe to take {number} tablets a day?", "Is taking {number} tablets a day safe?"),
    ("Summarise the history of {place}.", "Give me a summary of the history of {place}."),
)
_NEAR = {
    "numbers": (
        ("How many days are in {number} weeks?", "How many days are in {other_number} weeks?"),
        ("Is it safe to take {number} tablets a day?", "Is it safe to take {other_number} tablets a day?"),
        ("What is {number} percent of {big}?", "What is {number} percent of {other_big}?"),
        ("Write a poem of {number} lines about {topic}.", "Write a poem of {other_number} lines about {topic}."),
    ),
    "negation": (
        ("Which foods may I eat with {thing} problems?", "Which foods may I not eat with {thing} problems?"),
        ("Is it allowed to sell {topic} in {place}?", "Isn't it forbidden to sell {topic} in {place}?"),
        ("Write about {topic} with examples.", "Write about {topic} without examples."),
        ("Should I restart my {thing}?", "Shouldn't I restart my {thing}?"),
    ),
    "names": (
        ("What is the capital of {place}?", "What is the capital of {other_place}?"),
        ("Who was the first president of {place}?", "Who was the first president of {other_place}?"),
        ("Summarise the history of {place}.", "Summarise the history of {other_place}."),
    ),
    "opposites": (
        ("How do I enable my {thing}?", "How do I disable my {thing}?"),
        ("What are the advantages of {topic}?", "What are the disadvantages of {topic}?"),
        ("Which is the largest city of {place}?", "Which is the smallest city of {place}?"),
    ),
    "units": (
        ("Convert {number} km to meters.", "Convert {number} miles to meters."),
        ("What is {number} degrees celsius in kelvin?", "What is {number} degrees fahrenheit in kelvin?"),
    ),
    "asked": (
        ("When was {place} founded?", "Who was {place} founded by?"),
        ("How long is the border of {place}?", "How old is the border of {place}?"),
    ),
    "language": (("What is the capital of {place}?", "Was ist die Hauptstadt von {place}?"),),
    "topic": (  # no guard sees it: another thing in small letters
        ("Explain {topic} in simple terms.", "Explain {other_topic} in simple terms."),
        ("How do I reset my {thing}?", "How do I reset my {other_thing}?"),
    ),
}
_WORDS = {
    "thing": ("password", "router", "phone", "printer", "thermostat", "watch", "account", "kidney"),
    "topic": ("gravity", "inflation", "photosynthesis", "recursion", "entropy", "democracy", "evolution", "vaccines"),
    "place": ("France", "Japan", "Brazil", "Kenya", "Norway", "Peru", "Egypt", "Canada", "Vietnam", "Portugal"),
    "number": ("2", "3", "5", "7", "12", "30", "45"),
    "big": ("200", "350", "4000", "12500"),
}


def pairs(count: int = 600, seed: int = 0) -> list[Pair]:
    """Return so many different pairs, of each kind as many as its templates and words give in turn."""
    chance, found = random.Random(seed), dict[Pair, None]()
    kinds = [*_NEAR, *["same"] * (len(_NEAR) // 2)]
    tries = 0
    while len(found) < count and tries < 100 * count:
        kind = kinds[tries % len(kinds)]
        one, other = chance.choice(_SAME if kind == "same" else _NEAR[kind])
        words = {name: chance.sample(given, 2) for name, given in _WORDS.items()}
        filled = {name: two[0] for name, two in words.items()} | {
            f"other_{name}": two[1] for name, two in words.items()
        }
        found[Pair(kind, one.format(**filled), other.format(**filled))] = None
        tries += 1
    return list(found)
