"""The flags of an SGLang wheel or folder, read from its sources without importing them (it needs torch).

Up to 0.5.5 `server_args.py` registers each flag by a call; since then most are made of annotated fields
(`arg_groups/fields/*.py`: `name: A[type, Arg(...)] = default`, `arg_utils.add_cli_args_from_dataclass`).
"""

from __future__ import annotations

import ast
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from controlplane.domain.engines.flags import canonical_flag
from controlplane.domain.errors import InvalidInput
from tuner.space.knobs.calls import constant, explicit_flag
from tuner.space.knobs.schema import KnobFlag, KnobSchema, KnobType

_SERVER_ARGS = "sglang/srt/server_args.py"
_FILES = re.compile(r"sglang/srt/(server_args|arg_groups/choices|arg_groups/fields/\w+)\.py")
_TYPES = {"int": KnobType.INT, "float": KnobType.FLOAT, "bool": KnobType.SWITCH}

Lists = Mapping[str, tuple[Any, ...]]


def extract_sglang(source: Path) -> KnobSchema:
    """Return the flags of a wheel or of a folder that holds `sglang/`. Raises InvalidInput when it holds none."""
    files, version = _wheel(source) if source.is_file() else _folder(source)
    if _SERVER_ARGS not in files:
        raise InvalidInput("this holds no SGLang sources", why=f"{_SERVER_ARGS} is missing")
    trees = [ast.parse(text) for text in files.values()]
    lists = {name: values for tree in trees for name, values in _lists(tree)}
    flags = dict(each for tree in trees for each in _fields(tree, lists))
    flags |= {name: flag for name, flag in _calls(ast.parse(files[_SERVER_ARGS]), lists) if name not in flags}
    return KnobSchema(
        engine="sglang",
        version=version,
        source="sglang/srt/server_args.py and its fields",
        flags=dict(sorted(flags.items())),
    )


def _wheel(source: Path) -> tuple[Mapping[str, str], str]:
    with zipfile.ZipFile(source) as wheel:
        names = wheel.namelist()
        info = next((name for name in names if re.fullmatch(r"sglang-[^/]+\.dist-info/METADATA", name)), None)
        if info is None:
            raise InvalidInput("this is no SGLang wheel", why="it holds no sglang-*.dist-info")
        found = {name: wheel.read(name).decode() for name in names if _FILES.fullmatch(name)}
    return found, info.split("-")[1].removesuffix(".dist")


def _folder(source: Path) -> tuple[Mapping[str, str], str]:
    paths = {path.relative_to(source).as_posix(): path for path in (source / "sglang").rglob("*.py")}
    infos = sorted(source.glob("sglang-*.dist-info"))
    if not infos:
        raise InvalidInput(f"no SGLang version in {source}", allowed="a folder with sglang/ and its dist-info")
    found = {name: path.read_text() for name, path in paths.items() if _FILES.fullmatch(name)}
    return found, infos[-1].name.split("-")[1].removesuffix(".dist")


def _lists(tree: ast.Module) -> Iterator[tuple[str, tuple[Any, ...]]]:
    for node in tree.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.List() | ast.Tuple() as value):
                yield name, tuple(constant(value) or ())


def _fields(tree: ast.Module, lists: Lists) -> Iterator[tuple[str, KnobFlag]]:
    """Yield every `name: A[type, "help"]` and `name: A[type, Arg(...)]` of a file's classes."""
    for cls in (node for node in tree.body if isinstance(node, ast.ClassDef)):
        for node in cls.body:
            match node:
                case ast.AnnAssign(
                    target=ast.Name(id=field),
                    annotation=ast.Subscript(value=ast.Name(id="A"), slice=ast.Tuple(elts=[kind, said, *_])),
                ):
                    options = _options(said)
                    if "no_cli" not in options:
                        yield _field(field, ast.unparse(kind), options, constant(node.value), lists)


def _options(said: ast.expr) -> dict[str, ast.expr]:
    keywords = said.keywords if isinstance(said, ast.Call) else []
    return {keyword.arg: keyword.value for keyword in keywords if keyword.arg}


def _field(field: str, kind: str, options: Mapping[str, ast.expr], default: Any, lists: Lists) -> tuple[str, KnobFlag]:
    written = str(constant(options.get("cli_name")) or f"--{field}").removeprefix("--").replace("_", "-")
    others = (name.removeprefix("--") for name in constant(options.get("aliases")) or ())
    parsed = "type_parser" in options
    name, inner = canonical_flag(written), re.sub(r"^Optional\[(.+)\]$", r"\1", kind)
    return name, KnobFlag(
        type=_type(inner, options),
        default=default if isinstance(default, bool | int | float | str) and inner != "bool" else None,
        choices=_choices(inner, options.get("choices"), lists),
        group="ServerArgs",
        optional=kind != inner,
        many=inner.lower().startswith("list") and not parsed,
        human_int=parsed and "human_readable_int" in ast.unparse(options["type_parser"]),
        aliases=tuple(each for each in (written, *others) if each != name),
    )


def _type(inner: str, options: Mapping[str, ast.expr]) -> KnobType:
    if "action" in options:
        return KnobType.BOOL if "BooleanOptional" in ast.unparse(options["action"]) else KnobType.STR
    if "type_parser" in options and "json.loads" in ast.unparse(options["type_parser"]):
        return KnobType.JSON
    return _TYPES.get(inner, KnobType.STR)


def _choices(inner: str, written: ast.expr | None, lists: Lists) -> tuple[Any, ...] | None:
    match written:
        case ast.Name(id=name):
            return lists.get(name)
        case ast.BinOp(left=ast.Name(id=name), right=more):
            return (*lists[name], *constant(more)) if name in lists and constant(more) else None
        case None if inner.startswith("Literal["):
            return tuple(ast.literal_eval(f"[{inner.removeprefix('Literal[').removesuffix(']')}]"))
        case _:
            return tuple(constant(written) or ()) or None


def _calls(tree: ast.Module, lists: Lists) -> Iterator[tuple[str, KnobFlag]]:
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        names = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        long = [name.removeprefix("--") for name in names if name.startswith("--")]
        if isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument" and long:
            name = canonical_flag(long[0])
            choices = next((word.value for word in call.keywords if word.arg == "choices"), None)
            flag = explicit_flag(call).evolve(group="ServerArgs", choices=_choices("", choices, lists))
            yield name, flag.evolve(aliases=tuple(each for each in long if each != name))
