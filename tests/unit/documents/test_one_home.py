"""What is decided once: only the machine's own room replaces files and makes them safe on the disk."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("controlplane", "tuner", "loadtests", "dashboards")
HOME = "controlplane/host/files.py"
CALLS = ("fsync", "fdatasync", "mkstemp", "NamedTemporaryFile", "rename", "renames")
ELSEWHERE = {
    "controlplane/gateway/auditing/log.py": {"fsync"},  # a log that grows by lines
    "controlplane/gateway/batches/journal.py": {"fsync"},
    "controlplane/gateway/routing.py": {"replace"},  # of the routes of a table
    "loadtests/loadtest.py": {"rename"},  # one part is the whole: its name is made right, nothing is replaced
}


def by_hand(source: str) -> set[str]:
    """Return the calls of a module by which files are replaced or synced."""
    return set(_by_hand(ast.parse(source)))


def _by_hand(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in CALLS or (called == "replace" and _is_of_a_file(node)):
            yield called


def _is_of_a_file(call: ast.Call) -> bool:
    """`os.replace(a, b)` and `path.replace(target)`, not `text.replace(a, b)` and `moment.replace(hour=2)`."""
    of_os = isinstance(call.func, ast.Name) or (
        isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name) and call.func.value.id == "os"
    )
    return (of_os and len(call.args) == 2) or (len(call.args) == 1 and not call.keywords)


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("os.fsync(fd)", {"fsync"}),
        ("os.replace(draft, path)", {"replace"}),
        ("draft.replace(path)", {"replace"}),
        ("draft.rename(path)", {"rename"}),
        ("tempfile.mkstemp()", {"mkstemp"}),
        ("text.replace('a', 'b'); now.replace(hour=2)", set()),
    ],
)
def test_a_write_by_hand_is_seen(line: str, found: set[str]) -> None:
    assert by_hand(line) == found


def test_only_the_one_helper_replaces_and_syncs_files() -> None:
    assert by_hand((ROOT / HOME).read_text()) >= {"fsync", "replace", "mkstemp"}
    stray = {}
    for path in (path for package in PACKAGES for path in (ROOT / package).rglob("*.py")):
        name = str(path.relative_to(ROOT))
        found = by_hand(path.read_text()) - ELSEWHERE.get(name, set())
        if found and name != HOME:
            stray[name] = found
    assert not stray
