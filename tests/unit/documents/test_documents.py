"""What README and docs name is there: files, links, commands with their options, targets of make, modules."""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest

from controlplane.cli.lazy import load
from controlplane.cli.main import COMMANDS

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(document.relative_to(ROOT)) for document in DOCUMENTS]
FOLDERS = ("controlplane", "tuner", "loadtests", "dashboards", "tests", "benchmarks", "docs", "examples", "deploy")

ANCHOR = re.compile(r"\]\((?!https?:)([^)#\s]*)#([^)\s]+)\)")
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
PATH = re.compile(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]+)`")
IN_CODE = re.compile(rf"(?<![\w./{{}}<>*…-])(?:{'|'.join(FOLDERS)})/[\w./{{}}<>*…-]+")
COMMAND = re.compile(r"(?m)(?:^|`|\s)(?:\./)?(?:[\w./-]*bin/)?fleetune (?=([a-z][^`#\n]*))")
MAKE = re.compile(r"(?m)(?:^|`)make ([a-z-]+)")
MODULE = re.compile(r"python3? -m ([a-z_]+(?:\.[\w.]+)+)")
PROGRAM = re.compile(r"python3? -m ((?:benchmarks|loadtests|tuner|controlplane)\.[\w.]+)([^\n`#]*)")


def code(text: str) -> str:
    """The parts of a document that are code: fenced blocks (a line that ends with \\ goes on) and backticks."""
    fenced = re.findall(r"(?ms)^```[^\n]*\n(.*?)^```", text)
    quoted = re.findall(r"`([^`\n]+)`", re.sub(r"(?ms)^```.*?^```", "", text))
    return "\n".join([*(block.replace("\\\n", " ") for block in fenced), *quoted])


def _commands(text: str) -> Iterator[list[str]]:
    for found in COMMAND.finditer(code(text)):
        try:
            yield _one(shlex.split(found.group(1)))
        except ValueError:  # a quote that closes in the next line
            yield _one(found.group(1).split())


def _one(words: list[str]) -> list[str]:
    """Return the words of the first of several commands of a line; each that follows is found by itself."""
    return list(takewhile(lambda word: word not in {"|", "&&", "&", ";"}, words))


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
    paths = [path for path in [*PATH.findall(text), *_in_code(text)] if not (ROOT / path).exists()]
    assert (links, paths) == ([], [])


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_anchor_is_a_heading(document: Path) -> None:
    gone = []
    for path, anchor in ANCHOR.findall(document.read_text()):
        target = document.parent / path if path else document
        if target.suffix == ".md" and anchor not in anchors(target.read_text()):
            gone.append(f"{path}#{anchor}")
    assert gone == []


def anchors(text: str) -> set[str]:
    """Return what links may lead to within a document, as GitHub makes it of headings."""
    headings = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", text))
    shown = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading) for heading in headings)
    return {re.sub(r"[^\w\- ]", "", each.strip().lower()).replace(" ", "-") for each in shown}


def _in_code(text: str) -> list[str]:
    """Return the paths of this repository that commands are given; patterns and placeholders are none."""
    return [path for path in IN_CODE.findall(code(text)) if not re.search(r"[{}<>*…]", path)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_every_program_that_is_run_as_a_module_has_the_options_it_is_given(document: Path) -> None:
    missing = []
    for name, rest in PROGRAM.findall(code(document.read_text())):
        source = _sources_of(name)
        missing += [f"{name} {word}" for word in re.findall(r"--[a-z][a-z-]*", rest) if not _reads(source, word)]
    assert missing == []


def _reads(source: str, option: str) -> bool:
    """Say whether a program adds this option, by its name or out of a list of names."""
    return f'"{option}"' in source or (
        'f"--{' in source and re.search(rf"\b{option.removeprefix('--')}\b", source) is not None
    )


def _sources_of(module: str) -> str:
    """Return the text of a module, and of its neighbours: options are read beside it where there are several."""
    found = importlib.util.find_spec(module)
    assert found is not None, module
    assert found.origin is not None, module
    return "".join(path.read_text() for path in sorted(Path(found.origin).parent.glob("*.py")))


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


def test_each_command_of_a_line_is_seen() -> None:
    text = "```\nfleetune up -f x.yaml & sleep 9; fleetune study begin && fleetune tune --nope\n```"
    assert [wrong_with(words) for words in _commands(text)] == [None, "no study begin", "tune: no --nope"]


def test_a_heading_is_linked_to_as_it_is_shown() -> None:
    assert anchors("# The `live` view, [why](why.md): 5 %\n```\n# no heading\n```") == {"the-live-view-why-5-"}


def test_a_path_that_a_command_is_given_is_seen_and_a_pattern_is_none() -> None:
    text = "```\nfleetune up -f examples/gone.yaml   # docs/*.md\n```\nor `ls docs/results/{a,b}.json`"
    assert _in_code(text) == ["examples/gone.yaml"]


@pytest.mark.parametrize(("option", "read"), [("--json", True), ("--passes", True), ("--pass", False)])
def test_an_option_that_no_program_reads_is_seen(option: str, read: bool) -> None:
    source = 'add("--json"); [add(f"--{name}") for name in ("passes",)]'
    assert _reads(source, option) is read
