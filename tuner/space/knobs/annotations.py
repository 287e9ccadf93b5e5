"""From a field of one of vLLM's config classes, as source, to the flag vLLM makes of it (`get_kwargs` in arg_utils)."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from tuner.space.knobs.schema import KnobFlag, KnobType

_HUMAN_INTS = frozenset(
    {
        "max_model_len",
        "max_num_batched_tokens",
        "max_num_scheduled_tokens",
        "kv_cache_memory_bytes",
        "safetensors_prefetch_block_size",
    }
)


class Field(NamedTuple):
    annotation: ast.expr
    default: ast.expr | None


class Symbols(NamedTuple):
    """What vLLM's sources define: config classes with their fields, and names for types (`CacheDType = Literal[…]`)."""

    fields: Mapping[str, Mapping[str, Field]]
    aliases: Mapping[str, ast.expr]


def read_symbols(sources: Iterable[str]) -> Symbols:
    """Return every class field and every module-level alias of the sources, inherited fields included."""
    fields: dict[str, dict[str, Field]] = {}
    bases: dict[str, list[str]] = {}
    aliases: dict[str, ast.expr] = {}
    for tree in map(ast.parse, sources):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                fields.setdefault(node.name, {}).update(_class_fields(node))
                bases[node.name] = [base.id for base in node.bases if isinstance(base, ast.Name)]
        aliases |= dict(_module_aliases(tree))
    return Symbols({name: _with_bases(name, fields, bases) for name in fields}, aliases)


def flag_from_field(symbols: Symbols, cls: str, field: str) -> KnobFlag:
    """Return the flag made from a field. An unknown field (made at run time) is a plain optional string."""
    found = symbols.fields.get(cls, {}).get(field)
    if found is None:
        return KnobFlag(type=KnobType.STR, group=cls, optional=True)
    types = list(_flatten(found.annotation, symbols))
    names = {_name(node) for node in types}
    literals = _literals(types)
    open_ended = "str" in names
    return KnobFlag(
        type=_type(names, literals, symbols),
        default=_default(found.default),
        choices=None if open_ended or not literals else literals,
        suggestions=literals if open_ended and literals else None,
        group=cls,
        optional="None" in names,
        many=bool(names & {"list", "tuple", "set"}),
        human_int=field in _HUMAN_INTS,
    )


def _class_fields(node: ast.ClassDef) -> Iterator[tuple[str, Field]]:
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
            if not name.startswith("_") and "ClassVar" not in ast.unparse(statement.annotation):
                yield name, Field(statement.annotation, statement.value)


def _module_aliases(tree: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    for node in ast.walk(tree):
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.Subscript() | ast.BinOp() as value):
                yield name, value
            case ast.AnnAssign(
                target=ast.Name(id=name), annotation=ast.Name(id="TypeAlias"), value=ast.expr() as value
            ):
                yield name, value


def _with_bases(name: str, fields: Mapping[str, dict[str, Field]], bases: Mapping[str, list[str]]) -> dict[str, Field]:
    inherited: dict[str, Field] = {}
    for base in bases.get(name, []):
        if base in fields and base != name:
            inherited |= _with_bases(base, fields, bases)
    return inherited | fields[name]


def _flatten(annotation: ast.expr, symbols: Symbols) -> Iterator[ast.expr]:
    """Yield the members of a union, aliases resolved, `Annotated[X, …]` as X."""
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            yield from _flatten(left, symbols)
            yield from _flatten(right, symbols)
        case ast.Subscript(value=ast.Name(id="Annotated" | "SkipValidation"), slice=inner):
            yield from _flatten(inner.elts[0] if isinstance(inner, ast.Tuple) else inner, symbols)
        case ast.Subscript(value=ast.Name(id="Literal"), slice=inner):
            yield from _literal_members(inner, symbols)
        case ast.Name(id=name) if name in symbols.aliases:
            yield from _flatten(symbols.aliases[name], symbols)
        case ast.Constant(value=str(text)):
            yield from _flatten(ast.parse(text, mode="eval").body, symbols)
        case _:
            yield annotation


def _literal_members(inner: ast.expr, symbols: Symbols) -> Iterator[ast.expr]:
    """Yield `Literal["a", Other]` as one `Literal` per constant; `Other` is itself a literal alias."""
    for member in inner.elts if isinstance(inner, ast.Tuple) else [inner]:
        if isinstance(member, ast.Constant):
            yield ast.Subscript(value=ast.Name(id="Literal"), slice=member)
        else:
            yield from _flatten(member, symbols)


def _literals(types: Iterable[ast.expr]) -> tuple[Any, ...]:
    values = [
        node.slice.value
        for node in types
        if isinstance(node, ast.Subscript) and _name(node) == "Literal" and isinstance(node.slice, ast.Constant)
    ]
    return tuple(sorted(set(values), key=str))


def _name(node: ast.expr) -> str:
    match node:
        case ast.Subscript(value=value):
            return _name(value)
        case ast.Constant(value=None):
            return "None"
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
        case _:
            return ast.unparse(node)


def _type(names: set[str], literals: tuple[Any, ...], symbols: Symbols) -> KnobType:
    """Decide as vLLM's `_compute_kwargs` does: config class, bool, literal, int, float, dict, else string."""
    if any(name in symbols.fields and name.endswith("Config") for name in names):
        return KnobType.JSON
    if "bool" in names:
        return KnobType.BOOL
    if literals:
        return KnobType.INT if all(isinstance(value, int) for value in literals) else KnobType.STR
    for name, kind in (("int", KnobType.INT), ("float", KnobType.FLOAT), ("dict", KnobType.JSON)):
        if name in names:
            return kind
    return KnobType.STR


def _default(node: ast.expr | None) -> Any:
    """Return a default that is written down as a constant; None for one that is computed."""
    match node:
        case ast.Call(func=ast.Name(id="Field" | "field"), keywords=keywords):
            written = next((keyword.value for keyword in keywords if keyword.arg == "default"), None)
            return _default(written)
        case None:
            return None
        case _:
            try:
                return ast.literal_eval(node)
            except ValueError:
                return None
