"""The walks of docs/architecture.md lead through files and functions that are there, the rooms through folders."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "docs" / "architecture.md").read_text()
STEPS = re.findall(r"^\| .* \| `([\w/]+\.py)` \| `(\w+)` \|$", TEXT, re.MULTILINE)


def test_there_are_three_walks() -> None:
    assert len(re.findall(r"^### ", TEXT, re.MULTILINE)) == 3
    assert len(STEPS) >= 25


@pytest.mark.parametrize(("file", "function"), STEPS)
def test_a_step_names_a_function_that_is_in_its_file(file: str, function: str) -> None:
    tree = ast.parse((ROOT / file).read_text())
    named = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    assert function in named


def pictured() -> list[str]:
    """Return every folder and file of the picture, by the indentation of its lines."""
    found, above = [], list[str]()
    picture = re.findall(r"(?ms)^```\n(controlplane/\n.*?)^```", TEXT)[0]
    for line in picture.splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        names = re.findall(r"[\w/]+/(?=\s|$)|\w+\.py", line.strip().split("   ")[0] if depth < 3 else line)
        if depth > len(above):
            continue
        for name in names[:1]:
            above = [*above[:depth], name]
            found.append("".join(above))
    return found


@pytest.mark.parametrize("place", pictured())
def test_every_place_of_the_picture_exists(place: str) -> None:
    assert (ROOT / place).exists()


@pytest.mark.parametrize("package", ["controlplane/services", "controlplane/adapters", "tuner", "loadtests"])
def test_every_room_is_in_the_picture_and_says_what_lives_in_it(package: str) -> None:
    for folder in (ROOT / package).iterdir():
        if folder.is_dir() and (folder / "__init__.py").exists():
            assert f"{folder.name}/" in TEXT, folder
            assert ast.get_docstring(ast.parse((folder / "__init__.py").read_text())), folder
