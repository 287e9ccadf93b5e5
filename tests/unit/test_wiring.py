"""What is wired is used: a pass that nobody runs any more is noticed."""

from __future__ import annotations

import ast
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
WIRING = ROOT / "controlplane" / "wiring"


def test_every_public_function_of_the_wiring_is_called_from_somewhere() -> None:
    parsed = [ast.parse(path.read_text()) for path in WIRING.glob("*.py")]
    made = [node.name for tree in parsed for node in tree.body if isinstance(node, ast.FunctionDef)]
    sources = [path.read_text() for folder in ("controlplane", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    said = Counter(word for text in sources for word in re.findall(r"\w+", text))
    unused = [name for name in made if not name.startswith("_") and said[name] < 2]
    assert unused == []
