"""Make a schema file from an engine's help text, or from the sources of a vLLM or an SGLang.

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

from controlplane.domain.errors import InvalidInput, unreadable
from controlplane.reading.text_file import is_pipe_or_device, read_text
from tuner.space.knobs.annotations import Symbols, flag_from_field, read_symbols
from tuner.space.knobs.calls import explicit_flag
from tuner.space.knobs.help_texts import from_help
from tuner.space.knobs.schema import LISTS_IN_JSON, VLLM, KnobFlag, KnobSchema, KnobType
from tuner.space.knobs.sglang import extract_sglang

_ARG_UTILS = "vllm/engine/arg_utils.py"
_CLI_ARGS = ("vllm/entrypoints/openai/cli_args.py", "vllm/entrypoints/common/cli_args.py")  # up to 0.26 / by 0.33
_SYMBOL_FILES = re.compile(
    r"vllm/(config/[^/]+|engine/arg_utils|entrypoints/(openai|common)/cli_args|model_executor/layers/quantization/__init__"
    r"|model_executor/model_loader/__init__|v1/attention/backends/registry|entrypoints/chat_utils|entrypoints/constants)"
    r"\.py"
)
_NOT_TUNABLE = frozenset({"model", "help"})


_HELP = {
    VLLM: "vllm serve --help=all",
    "sglang": "python -m sglang.launch_server --help",
    "tensorrt-llm": "trtllm-serve serve --help",
    "tgi": "text-generation-launcher --help",
    "llama.cpp": "llama-server --help",
}
ENGINES = tuple(_HELP)
"""Engines whose flag files can be made, by the names that the files ship under."""


def extract(source: Path, engine: str = VLLM, *, version: str | None = None) -> KnobSchema:
    """Return the schema found in a help text or, of vLLM and SGLang, in a wheel or a folder that holds its sources.

    `version` is what a help text is of, where it does not say so itself. Raises InvalidInput when the source cannot be
    read or holds no such engine.
    """
    command = help_command(engine)
    if not source.exists():
        raise InvalidInput(f"cannot read {source}", why="no such file or folder")
    if is_pipe_or_device(source):
        raise InvalidInput(f"cannot read {source}", why="it is a pipe or a device", allowed="a file or a folder")
    if engine == VLLM:
        return _extract_vllm(source)
    if engine == "sglang" and (source.is_dir() or zipfile.is_zipfile(source)):
        return extract_sglang(source)
    if source.is_dir():
        raise InvalidInput(f"{source} is a folder", allowed=f"the saved output of `{command}`")
    return extract_help(_text(source), engine, version=version, source=command)


def extract_help(text: str, engine: str, *, version: str | None, source: str) -> KnobSchema:
    """Return the schema found in a help text; `source` is the command that printed it. Raises InvalidInput."""
    help_command(engine)
    return from_help(text, source=source, version=version).evolve(engine=engine)


def help_command(engine: str) -> str:
    """Return the command that prints an engine's flags. Raises InvalidInput for one whose flags are not read."""
    if engine not in _HELP:
        raise InvalidInput(f"no flag file can be made of {engine}", allowed=", ".join(ENGINES))
    return _HELP[engine]


def _text(source: Path) -> str:
    try:
        return read_text(source)
    except (OSError, UnicodeDecodeError) as error:
        why = "it is no text" if isinstance(error, UnicodeDecodeError) else unreadable(error)
        raise InvalidInput(f"cannot read {source}", why=why) from error


def _extract_vllm(source: Path) -> KnobSchema:
    if source.is_dir():
        return _from_sources(dict(_folder_files(source)), _folder_version(source))
    if zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as wheel:
            return _from_sources(dict(_wheel_files(wheel)), _wheel_version(wheel))
    return from_help(_text(source))


def as_json(schema: KnobSchema) -> str:
    """Return the text of a schema file: defaults left out, one field a line, so that versions diff well."""
    flags = {name: flag.model_dump(mode="json", exclude_defaults=True) for name, flag in schema.flags.items()}
    head = {"version": schema.version, "source": schema.source}
    whose = {} if schema.engine == VLLM else {"engine": schema.engine}
    return json.dumps({**whose, **head, "flags": flags}, indent=1) + "\n"


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
    return explicit_flag(call)


def _default_is_none(call: ast.Call) -> bool:
    """Say whether the registration lays `"default": None` over the field's own default."""
    dicts = (keyword.value for keyword in call.keywords if isinstance(keyword.value, ast.Dict))
    return any(isinstance(key, ast.Constant) and key.value == "default" for d in dicts for key in d.keys)


def _front_end(symbols: Symbols) -> Iterator[tuple[str, KnobFlag]]:
    for name in ("BaseFrontendArgs", "FrontendArgs"):
        for field in symbols.fields.get(name, {}):
            yield field.replace("_", "-"), flag_from_field(symbols, name, field)
