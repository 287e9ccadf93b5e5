"""Words that depend on a number."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """Return `1 replica`, `2 replicas`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def chance(probability: float) -> str:
    """Return `97%`; never 0 or 100 %: nothing measured is that sure."""
    return f"{min(max(probability, 0.01), 0.99):.0%}"
