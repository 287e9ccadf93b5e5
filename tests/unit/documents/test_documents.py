"""What README and docs name is there: files, links, commands with their options, targets of make, modules."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from controlplane.cli.lazy import load
from controlplane.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(document.relative_to(ROOT)) for document in DOCUMENTS]
FOLDERS = ("controlplane", "tuner", "loadtests", "dashboards", "tests", "benchmarks", "docs", "examples", "deploy")

LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`")
COMMAND = re.compile(r"(?m)(?:^|`|\s)(?:\./)?(?:[\w./-]*bin/)?fleetune ([a-z][^`#\n]*)")
MAKE = re.compile(r"(?m)(?:^|`)make ([a-z-]+)")
MODULE = re.compile(r"python3? -m ([a-z_]+(?:\.[\w.]+)+)")


def code(text: str) -> str:
    """The parts of a document that are code: fenced blocks (a line that ends with \\ goes on) and backticks."""
    fenced = re.findall(r"(?ms)^```[^\n]*\n(.*?)^```", text)
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", text))
    return "\n".join([*(block.replace("\\\n", " ") for block in fenced), *quoted])


def _commands(text: str) -> Iterator[list[str]]:
    for found in COMMAND.finditer(code(text)):
        try:
            yield shlex.split(found.group(1).split(" | ")[0].split(" && ")[0])
        except ValueError:  # a quote that closes in the next line
            yield found.group(1).split()


def _options(command: Any) -> set[str]:
    return {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}


def wrong_with(words: list[str]) -> str | None:
    """Say which word of a command line is none of the command line's; None when all are."""
    found = next((each for each in COMMANDS if each.name == words[0]), None)
    if found is None:
        return f"no command {words[0]}"
    command = load(found)
    rest = words[1:]
    while rest and hasattr(command, "commands") and rest[0] in command.commands:
        command, rest = command.commands[rest[0]], rest[1:]
    lone = getattr(command, "commands", None) and not command.invoke_without_command
    if lone and rest and re.fullmatch(r"[a-z-]+", rest[0]):
        return f"no {words[0]} {rest[0]}"
    given = {word.partition("=")[0] for word in rest if re.match(r"--?[a-z]", word)}
    unknown = given - _options(command) - {"--help", "-y"}
    return f"{words[0]}: no {', '.join(sorted(unknown))}" if unknown else None


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_link_and_every_path_leads_somewhere(document: Path) -> None:
    text = document.read_text()
    links = [link for link in LINK.findall(text) if not (document.parent / link).exists()]
    paths = [path for path in PATH.findall(text) if not (ROOT / path).exists()]
    assert (links, paths) == ([], [])


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_command_exists_with_its_options(document: Path) -> None:
    assert [wrong for words in _commands(document.read_text()) if (wrong := wrong_with(words))] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_target_of_make_and_every_module_exists(document: Path) -> None:
    text = code(document.read_text())
    makefile = (ROOT / "Makefile").read_text()
    targets = [target for target in MAKE.findall(text) if not re.search(rf"(?m)^{target}:", makefile)]
    modules = [name for name in MODULE.findall(text) if importlib.util.find_spec(name.rstrip(".")) is None]
    assert (targets, modules) == ([], [])


@pytest.mark.parametrize(
    "words", ["frobnicate", "study begin chat", "study start chat --now", "up -f service.yaml --gpus-per-node 3"]
)
def test_what_does_not_exist_is_noticed(words: str) -> None:
    assert wrong_with(words.split())
