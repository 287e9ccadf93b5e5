"""Make a schema file from a vLLM wheel, an unpacked vLLM, or the text of `vllm serve --help=all`.

vLLM builds its parser from the fields of its config classes. We read the same sources without importing them (vLLM
needs CUDA to be imported), so the extraction runs anywhere: `vllm/engine/arg_utils.py` says which flags exist and
which field each is made from, `vllm/config/*.py` and the front end's `cli_args.py` say type, default and choices.
"""

from __future__ import annotations

import ast
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from controlplane.domain.errors import InvalidInput
from tuner.space.knobs.annotations import Symbols, flag_from_field, read_symbols
from tuner.space.knobs.schema import LISTS_IN_JSON, UNKNOWN_VERSION, KnobFlag, KnobSchema, KnobType

_ARG_UTILS = "vllm/engine/arg_utils.py"
_CLI_ARGS = ("vllm/entrypoints/openai/cli_args.py", "vllm/entrypoints/common/cli_args.py")  # up to 0.26 / by 0.33
_SYMBOL_FILES = re.compile(
    r"vllm/(config/[^/]+|engine/arg_utils|entrypoints/(openai|common)/cli_args|model_executor/layers/quantization/__init__"
    r"|model_executor/model_loader/__init__|v1/attention/backends/registry|entrypoints/chat_utils|entrypoints/constants)"
    r"\.py"
)
_NOT_TUNABLE = frozenset({"model", "help"})


def extract(source: Path) -> KnobSchema:
    """Return the schema found in a wheel, a folder that holds `vllm/`, or a help text.

    Raises InvalidInput when the source cannot be read or holds no vLLM.
    """
    if not source.exists():
        raise InvalidInput(f"cannot read {source}", why="no such file or folder")
    if source.is_dir():
        return _from_sources(dict(_folder_files(source)), _folder_version(source))
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as wheel:
            return _from_sources(dict(_wheel_files(wheel)), _wheel_version(wheel))
    return from_help(source.read_text())


def from_help(text: str) -> KnobSchema:
    """Return what `vllm serve --help=all` tells: names, choices and defaults; a type only where the default shows it.

    Raises InvalidInput when the text names no flags.
    """
    flags = dict(_help_flags(text))
    if not flags:
        raise InvalidInput("no flags in the help text", allowed="the output of `vllm serve --help=all`")
    match = re.search(r"vLLM(?: API server)? version:? v?(\d+\.\d+\.\d+)", text)
    return KnobSchema(version=match.group(1) if match else UNKNOWN_VERSION, source="vllm serve --help=all", flags=flags)


def as_json(schema: KnobSchema) -> str:
    """Return the text of a schema file: defaults left out, one field a line, so that versions diff well."""
    flags = {name: flag.model_dump(mode="json", exclude_defaults=True) for name, flag in schema.flags.items()}
    return json.dumps({"version": schema.version, "source": schema.source, "flags": flags}, indent=1) + "\n"


def _folder_files(folder: Path) -> Iterator[tuple[str, str]]:
    for path in folder.rglob("*.py"):
        name = path.relative_to(folder).as_posix()
        if _SYMBOL_FILES.fullmatch(name):
            yield name, path.read_text()


def _folder_version(folder: Path) -> str:
    infos = sorted(folder.glob("vllm-*.dist-info"))
    return (
        infos[-1].name.split("-")[1].removesuffix(".dist") if infos else _version_file(folder / "vllm" / "_version.py")
    )


def _version_file(path: Path) -> str:
    match = re.search(r"version = '([^']+)'", path.read_text()) if path.exists() else None
    if match is None:
        raise InvalidInput(f"no vLLM version in {path.parent.parent}", allowed="a folder with vllm/ and its dist-info")
    return match.group(1)


def _wheel_files(wheel: zipfile.ZipFile) -> Iterator[tuple[str, str]]:
    for name in wheel.namelist():
        if _SYMBOL_FILES.fullmatch(name):
            yield name, wheel.read(name).decode()


def _wheel_version(wheel: zipfile.ZipFile) -> str:
    info = next((name for name in wheel.namelist() if re.fullmatch(r"vllm-[^/]+\.dist-info/METADATA", name)), None)
    if info is None:
        raise InvalidInput("this is no vLLM wheel", why="it holds no vllm-*.dist-info")
    return info.split("-")[1].removesuffix(".dist")


def _from_sources(files: Mapping[str, str], version: str) -> KnobSchema:
    cli_args = next((files[name] for name in _CLI_ARGS if name in files), None)
    if _ARG_UTILS not in files or cli_args is None:
        raise InvalidInput("this holds no vLLM sources", why=f"{_ARG_UTILS} or {' / '.join(_CLI_ARGS)} is missing")
    symbols = read_symbols(files.values())
    flags = dict(_registered(files[_ARG_UTILS], symbols))
    flags |= dict(_front_end(symbols))
    flags |= {name: flags[name].evolve(type=KnobType.JSON, many=False) for name in LISTS_IN_JSON if name in flags}
    flags |= dict(_registered(cli_args, symbols))
    kept = {name: flag for name, flag in sorted(flags.items()) if name not in _NOT_TUNABLE}
    return KnobSchema(version=version, source="vllm/engine/arg_utils.py, vllm/config, cli_args.py", flags=kept)


def _registered(source: str, symbols: Symbols) -> Iterator[tuple[str, KnobFlag]]:
    """Yield every flag some `x.add_argument("--name", ...)` registers."""
    tree = ast.parse(source)
    groups = _kwargs_classes(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        names = [arg.value for arg in call.args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        long = [name for name in names if name.startswith("--")]
        if not (isinstance(call.func, ast.Attribute) and call.func.attr == "add_argument" and long):
            continue
        aliases = tuple(name.lstrip("-") for name in names if name != long[0])
        yield long[0].removeprefix("--"), _flag_of(call, groups, symbols).evolve(aliases=aliases)


def _kwargs_classes(tree: ast.AST) -> dict[str, str]:
    """Return `{"scheduler_kwargs": "SchedulerConfig"}` from `scheduler_kwargs = get_kwargs(SchedulerConfig)`."""
    found = {}
    for node in ast.walk(tree):
        match node:
            case ast.Assign(
                targets=[ast.Name(id=target)], value=ast.Call(func=ast.Name(id="get_kwargs"), args=[ast.Name(id=cls)])
            ):
                found[target] = cls
    return found


def _flag_of(call: ast.Call, groups: Mapping[str, str], symbols: Symbols) -> KnobFlag:
    for node in ast.walk(call):
        match node:
            case ast.Subscript(value=ast.Name(id=kwargs), slice=ast.Constant(value=str(field))) if kwargs in groups:
                flag = flag_from_field(symbols, groups[kwargs], field)
                return flag.evolve(default=None) if _default_is_none(call) else flag
    return _explicit_flag(call)


def _default_is_none(call: ast.Call) -> bool:
    """Say whether the registration lays `"default": None` over the field's own default."""
    dicts = (keyword.value for keyword in call.keywords if isinstance(keyword.value, ast.Dict))
    return any(isinstance(key, ast.Constant) and key.value == "default" for d in dicts for key in d.keys)


def _explicit_flag(call: ast.Call) -> KnobFlag:
    options = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    action = ast.unparse(options["action"]) if "action" in options else ""
    return KnobFlag(
        type=_explicit_type(action, ast.unparse(options["type"]) if "type" in options else "str"),
        default=_constant(options.get("default")),
        choices=_constant(options.get("choices")),
        group="serve",
        optional=_constant(options.get("default")) is None and "BooleanOptional" not in action,
    )


def _explicit_type(action: str, kind: str) -> KnobType:
    if "BooleanOptionalAction" in action:
        return KnobType.BOOL
    if "store_true" in action:
        return KnobType.SWITCH
    return KnobType(kind) if kind in ("int", "float") else KnobType.STR


def _constant(node: ast.expr | None) -> Any:
    if node is None:
        return None
    try:
        return ast.literal_eval(node)
    except ValueError:
        return None


def _front_end(symbols: Symbols) -> Iterator[tuple[str, KnobFlag]]:
    for name in ("BaseFrontendArgs", "FrontendArgs"):
        for field in symbols.fields.get(name, {}):
            yield field.replace("_", "-"), flag_from_field(symbols, name, field)


def _help_flags(text: str) -> Iterator[tuple[str, KnobFlag]]:
    group = "serve"
    for block in re.split(r"\n(?=  -|\S)", text):
        if title := re.match(r"(\w+):\s*\n?", block):
            group = title.group(1)
        head = re.match(r"  ((?:-\w+, )*--[\w-]+.*)", block)
        if head and (name := re.search(r"--([\w-]+)", head.group(1))):
            yield name.group(1), _help_flag(block, head.group(1), group)


def _help_flag(block: str, head: str, group: str) -> KnobFlag:
    default = re.search(r"\(default: (.*?)\)", " ".join(block.split()))
    written = default.group(1) if default else "None"
    choices = re.search(r"\{([^}]*)\}", head)
    return KnobFlag(
        type=_help_type(head, written),
        default=None if written == "None" else written,
        choices=tuple(choices.group(1).split(",")) if choices else None,
        group=group,
        optional=written == "None",
    )


def _help_type(head: str, written: str) -> KnobType:
    if "--no-" in head:
        return KnobType.BOOL
    if re.fullmatch(r"-?\d+", written):
        return KnobType.INT
    return KnobType.FLOAT if re.fullmatch(r"-?\d+\.\d+", written) else KnobType.STR
