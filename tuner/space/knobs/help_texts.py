"""What an engine's own help text tells of its flags: argparse's, click's, clap's or llama.cpp's, all read alike.

A help text says names, choices and defaults; a type only where it stands there or the default shows it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from controlplane.domain.engines.flags import canonical_flag, number_or_text
from controlplane.domain.errors import InvalidInput
from tuner.space.knobs.schema import UNKNOWN_VERSION, KnobFlag, KnobSchema, KnobType

_NAME = r"--?[A-Za-z][\w.-]*"
_HEAD = re.compile(
    rf"^ {{0,6}}(?P<names>{_NAME}(?:(?:,\s*|\s+(?=-)){_NAME})*)(?: (?P<value>\S+(?: [A-Z]+)?))?(?:,? |$)"
)
_GROUP = re.compile(r"^(?:-+ )?([A-Za-z][\w -]*?)(?::| -+)\s*$")
_NEVER_FLAGS = frozenset({"help", "version", "usage"})
_TYPES = {"INTEGER": KnobType.INT, "FLOAT": KnobType.FLOAT}
_REMOVED = "the argument has been removed"
_ABSENT = frozenset({"", "none", "null", "unused"})


def from_help(text: str, *, source: str = "vllm serve --help=all", version: str | None = None) -> KnobSchema:
    """Return what a help text tells; its version where it is not given and the text names vLLM's.

    Raises InvalidInput when the text names no flags.
    """
    flags = dict(sorted(_flags(text)))
    if not flags:
        raise InvalidInput("no flags in the help text", allowed=f"the output of `{source}`")
    named = re.search(r"vLLM(?: API server)? version:? v?(\d+\.\d+\.\d+)", text)
    return KnobSchema(
        version=version or (named.group(1) if named else UNKNOWN_VERSION), source=source, flags=dict(flags)
    )


def _flags(text: str) -> Iterator[tuple[str, KnobFlag]]:
    group = "serve"
    for head, rest in _blocks(text):
        if (title := _GROUP.match(head)) is not None:
            group = title[1]
        found = _HEAD.match(head)
        names = [] if found is None else re.findall(_NAME, found["names"])
        long = [name.removeprefix("--").replace("_", "-") for name in names if name.startswith("--")]
        told = "" if found is None else " ".join(f"{head[found.end() :]} {rest}".split())
        if found is None or not long or long[-1] in _NEVER_FLAGS or _REMOVED in told:
            continue
        flag = _flag(long, found["value"], told, group)
        yield _own_name(long), flag.evolve(aliases=_aliases(names, long, flag))


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """Yield each line that begins an option or a group, with all lines that explain it."""
    head, rest = "", list[str]()
    for line in text.splitlines():
        if _HEAD.match(line) or _GROUP.match(line):
            yield head, "\n".join(rest)
            head, rest = line, []
        else:
            rest.append(line)
    yield head, "\n".join(rest)


def _own_name(long: Sequence[str]) -> str:
    """Return the name a flag is kept by: the last that is no negation, as all engines have it where they share one."""
    known = [name for name in long if canonical_flag(name) != name]
    return (
        canonical_flag(known[0])
        if known
        else max(long, key=lambda name: (not name.startswith("no-"), long.index(name)))
    )


def _negates(name: str, long: Sequence[str]) -> bool:
    return name.startswith("no-") and name.removeprefix("no-") in long


def _aliases(names: Sequence[str], long: Sequence[str], flag: KnobFlag) -> tuple[str, ...]:
    kept = {_own_name(long), *(name for name in long if flag.type is KnobType.BOOL and name.startswith("no-"))}
    every = [name.lstrip("-").replace("_", "-") for name in names if not name.startswith("-no")]
    return tuple(name for name in dict.fromkeys(every) if name not in kept)


def _flag(long: Sequence[str], value: str | None, told: str, group: str) -> KnobFlag:
    written = re.search(r"[(\[]default:? '?([^,;)\]']*)", told)
    default = None if written is None or written[1].strip().lower() in _ABSENT else written[1].strip()
    kind = _type(long, value, default)
    choices = _choices(value, told)
    return KnobFlag(
        type=KnobType.STR if choices and kind is not KnobType.INT else kind,
        default=_told_default(kind, default),
        choices=choices,
        group=group,
        optional=default is None and kind not in (KnobType.BOOL, KnobType.SWITCH),
    )


def _type(long: Sequence[str], value: str | None, default: str | None) -> KnobType:
    if any(_negates(name, long) for name in long):
        return KnobType.BOOL
    if value is None:
        return KnobType.SWITCH
    if value in _TYPES:
        return _TYPES[value]
    if default is not None and re.fullmatch(r"-?\d+", default):
        return KnobType.INT
    return KnobType.FLOAT if default is not None and re.fullmatch(r"-?\d+\.\d+", default) else KnobType.STR


def _told_default(kind: KnobType, default: str | None) -> str | int | float | None:
    """Return the default of a number or a text; of nothing else a help text tells one that could be given."""
    if default is None or kind is KnobType.STR:
        return default
    return number_or_text(default) if kind in (KnobType.INT, KnobType.FLOAT) else None


def _choices(value: str | None, told: str) -> tuple[str | int | float, ...] | None:
    found = re.fullmatch(r"\{(.+)\}|\[(.+\|.+)\]|<(.+\|.+)>", value or "")
    if found is not None:
        return tuple(map(number_or_text, re.split(r"[,|]", next(filter(None, found.groups())))))
    listed = re.search(r"\[possible values: ([^\]]+)\]", told)
    if listed is not None:
        return tuple(listed[1].split(", "))
    dashed = told.partition("Possible values: - ")[2]
    return tuple(re.findall(r"(?:^| - )([\w-]+):", dashed)) or None
