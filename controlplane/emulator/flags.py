"""The command line: `vllm serve`'s own flags, by its schema, plus those only the emulator knows.

Refusals read like vLLM's (argparse): usage and `error: …` on stderr, exit code 2.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError

from controlplane.domain.engines.engine import EngineConfig
from controlplane.domain.engines.flags import FlagValue, dashed, human_int, joined
from controlplane.emulator.adapters import AdapterSpec
from controlplane.emulator.cors import Cors
from controlplane.emulator.faults import FAULT_HELP, Faults, parse_faults
from controlplane.emulator.settings import EmulatorSettings
from tuner.space.knobs.schema import LISTS_IN_JSON, KnobFlag, KnobType, load_knobs

_NOT_FLAGS = {*LISTS_IN_JSON, "allow-credentials", "host", "port", "api-key", "served-model-name", "shutdown-timeout"}


def parse_command_line(arguments: Sequence[str], *, visible_devices: int | None) -> EmulatorSettings:
    """Return what `fleetune-emulator [serve] MODEL --flags…` asks for.

    `visible_devices` is how many GPUs CUDA_VISIBLE_DEVICES names, None when it is unset. Exits with code 2 on a flag
    vLLM would refuse.
    """
    words = list(arguments)
    if words and words[0] == "serve":
        words = words[1:]
    parser = _parser()
    parsed = vars(parser.parse_args(_merged([_dashed(word) for word in words], parser)))
    own = {name: parsed.pop(name) for name in [name for name in parsed if name.startswith("emulator-")]}
    model = str(parsed.pop("model_tag"))
    given = {name: value for name, value in parsed.items() if value is not None}
    return EmulatorSettings(
        model=model,
        served_names=tuple(given.get("served-model-name", ())) or (model,),
        host=given.get("host", "127.0.0.1"),
        port=given.get("port", 8000),
        api_keys=tuple(given.get("api-key", ())),
        shutdown_timeout_s=given.get("shutdown-timeout", 0),
        cors=_cors(given),
        adapters=_adapters(given.get("lora-modules", ()), parser),
        config=EngineConfig(flags={n: _plain(v) for n, v in given.items() if n not in _NOT_FLAGS}),
        gpu=own["emulator-gpu"],
        profile=own["emulator-profile"],
        startup_s=own["emulator-startup-s"],
        first_use_s=own["emulator-first-use-s"],
        time_lapse=own["emulator-time-lapse"],
        admin_port=own["emulator-admin-port"],
        seed=own["emulator-seed"],
        faults=own["emulator-fault"] or Faults(),
        visible_devices=visible_devices,
    )


def model_length(text: str) -> int | str:
    """Read `--max-model-len`, which also takes `auto` and -1 (what fits)."""
    return text if text == "auto" else human_int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="vllm serve", allow_abbrev=False, add_help=True, usage="vllm serve [options]")
    parser.add_argument("model_tag", help="model folder, hub name, or a shape shipped with the twin")
    for name, flag in load_knobs().flags.items():
        _add(parser, name, flag)
    _add_own(parser)
    return parser


def _add_own(parser: argparse.ArgumentParser) -> None:
    own = parser.add_argument_group("emulator only")
    own.add_argument("--emulator-gpu", dest="emulator-gpu", default="H200", help="GPU of the twin's data sheet")
    own.add_argument("--emulator-profile", dest="emulator-profile", default=None, help="named twin profile")
    own.add_argument("--emulator-startup-s", dest="emulator-startup-s", type=_not_negative, default=None)
    first_use = "emulated seconds that the first step of each power-of-two bucket of tokens stalls, as if compiled then"
    own.add_argument(
        "--emulator-first-use-s", dest="emulator-first-use-s", type=_not_negative, default=0.0, help=first_use
    )
    own.add_argument("--emulator-time-lapse", dest="emulator-time-lapse", type=_time_lapse, default=1.0)
    own.add_argument("--emulator-admin-port", dest="emulator-admin-port", type=int, default=None)
    own.add_argument("--emulator-seed", dest="emulator-seed", type=int, default=0)
    own.add_argument("--emulator-fault", dest="emulator-fault", type=_faults, default=None, help=FAULT_HELP)


def _add(parser: argparse.ArgumentParser, name: str, flag: KnobFlag) -> None:
    names = [f"--{name}", *(f"--{alias}" if len(alias) > 3 else f"-{alias}" for alias in flag.aliases)]
    if flag.type is KnobType.BOOL and not flag.optional:
        parser.add_argument(*names, dest=name, action=argparse.BooleanOptionalAction, default=None)
        return
    if flag.type is KnobType.BOOL:
        parser.add_argument(*names, dest=name, nargs="?", const=True, type=_truth, default=None)
        parser.add_argument(f"--no-{name}", dest=name, action="store_false", default=None)
        return
    if flag.type is KnobType.SWITCH:
        parser.add_argument(*names, dest=name, action="store_true", default=None)
        return
    choices = list(flag.choices) if flag.choices is not None else None
    many = "+" if flag.many or name in ("api-key", "served-model-name") else None
    parser.add_argument(*names, dest=name, type=_reader(name, flag), choices=choices, nargs=many, default=None)


def _reader(name: str, flag: KnobFlag) -> Callable[[str], Any]:
    if name == "max-model-len":
        return model_length
    if name in LISTS_IN_JSON:
        return _words_in_json
    if flag.type is KnobType.INT:
        return human_int if flag.human_int else int
    if flag.type is KnobType.FLOAT:
        return float
    if flag.type is KnobType.JSON:
        return _json_text
    return str


def _json_text(text: str) -> str:
    try:
        json.loads(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"Value {text} cannot be converted to {json.loads}.") from error
    return text


def _words_in_json(text: str) -> tuple[str, ...]:
    words = json.loads(text)  # argparse says what is wrong with other text
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise argparse.ArgumentTypeError(f"not a JSON list of strings: {text}")
    return tuple(words)


def _cors(given: Mapping[str, Any]) -> Cors:
    names = {"origins": "allowed-origins", "methods": "allowed-methods", "headers": "allowed-headers"}
    lists = {field: given[flag] for field, flag in names.items() if flag in given}
    return Cors(**lists, credentials=bool(given.get("allow-credentials", False)))


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"invalid bool value: '{text}'")
    return text.lower() == "true"


def _not_negative(text: str) -> float:
    seconds = float(text)
    if not seconds >= 0:
        raise argparse.ArgumentTypeError(f"must be 0 or more, got {text}")
    return seconds


def _time_lapse(text: str) -> float:
    factor = float(text)
    if not 0.1 <= factor <= 50:
        raise argparse.ArgumentTypeError(f"must be between 0.1 and 50, got {text}")
    return factor


def _adapters(words: Sequence[str], parser: argparse.ArgumentParser) -> tuple[AdapterSpec, ...]:
    """Read `--lora-modules`: each `name=path` or a JSON object (vLLM's LoRAParserAction)."""
    return tuple(_adapter(word, parser) for word in words if word)


def _adapter(word: str, parser: argparse.ArgumentParser) -> AdapterSpec:
    if "=" in word and "," not in word:
        name, _, path = word.partition("=")
        return AdapterSpec(name=name, path=path)
    try:
        return AdapterSpec.model_validate(json.loads(word))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, p['loc']))}: {p['msg']}" for p in error.errors(include_url=False))
        parser.error(f"Invalid fields for --lora-modules: {word} - {problems}")
    except ValueError:
        parser.error(f"Invalid JSON format for --lora-modules: {word}")


def _faults(text: str) -> Faults:
    try:
        return parse_faults(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _dashed(word: str) -> str:
    """Turn `--max_num_seqs=4` into `--max-num-seqs=4`; values stay as they are."""
    if not word.startswith("--"):
        return word
    name, equals, value = word.partition("=")
    return f"--{dashed(name)}{equals}{value}"


def _merged(words: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """Gather dotted parts into one JSON value a flag, as vLLM's parser does: `--a.b=1 --a.c x` is `--a={...}`."""
    kept: list[str] = []
    parts: dict[str, dict[str, Any]] = {}
    left = iter(words)
    for word in left:
        name, equals, value = word.partition("=")
        if not name.startswith("-") or "." not in name:
            kept.append(word)
            continue
        given = value if equals else next(left, None)
        if given is None:
            parser.error(f"argument {name}: expected one argument")
        flag, *keys = name.split(".")
        _put(parts.setdefault(flag, {}), keys, given)
    return [*kept, *(f"{flag}={json.dumps(value)}" for flag, value in parts.items())]


def _put(into: dict[str, Any], keys: Sequence[str], text: str) -> None:
    *outer, last = keys
    for key in outer:
        into = into.setdefault(key, {})
    try:
        into[last] = json.loads(text)
    except ValueError:  # a bare word
        into[last] = text


def _plain(value: object) -> FlagValue:
    """A flag with several values travels on as the words it was given as."""
    if isinstance(value, list):
        return joined(str(part) for part in value)
    if isinstance(value, bool | int | float | str):
        return value
    return str(value)
