"""What is wired is used: a pass that nobody runs any more is noticed."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Set
from pathlib import Path

ROOT = Path(__file__).parents[2]
WIRING = ROOT / "controlplane" / "wiring"
PROCESSES = ROOT / "controlplane" / "cli" / "installation" / "processes.py"


def test_every_public_function_of_the_wiring_is_called_from_somewhere() -> None:
    parsed = [ast.parse(path.read_text()) for path in WIRING.glob("*.py")]
    made = [node.name for tree in parsed for node in tree.body if isinstance(node, ast.FunctionDef)]
    sources = [path.read_text() for folder in ("controlplane", "benchmarks") for path in (ROOT / folder).rglob("*.py")]
    said = Counter(word for text in sources for word in re.findall(r"\w+", text))
    unused = [name for name in made if not name.startswith("_") and said[name] < 2]
    assert unused == []


def test_every_store_that_a_controller_writes_to_carries_the_number_of_its_lead() -> None:
    """Without it a controller that another took over from would go on writing, and nothing else would notice."""
    takers = {node.name: node for node in _functions(*WIRING.glob("*.py")) if _takes_leader(node)}
    bare = [f"{name} opens a store" for name, node in takers.items() if _bare_calls(node, {"open_store"})]
    callers = [node for node in _functions(PROCESSES) if _takes_leader(node) or node.name == "_control"]
    given = [f"{node.name} calls one" for node in callers if _bare_calls(node, takers.keys() - {"open_store"})]
    assert (bare, given) == ([], [])
    assert {"controller_pass", "warm_pass", "load_matcher_pass"} <= takers.keys()


def _functions(*paths: Path) -> list[ast.FunctionDef]:
    return [n for path in paths for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.FunctionDef)]


def _takes_leader(node: ast.FunctionDef) -> bool:
    return "leader" in {each.arg for each in node.args.kwonlyargs}


def _bare_calls(node: ast.FunctionDef, names: Set[str]) -> list[ast.Call]:
    """Return the calls of these functions that hand on no `leader`."""
    calls = [each for each in ast.walk(node) if isinstance(each, ast.Call) and _named(each.func) in names]
    return [call for call in calls if "leader" not in {word.arg for word in call.keywords}]


def _named(called: ast.expr) -> str:
    return ast.unparse(called).rpartition(".")[2]
