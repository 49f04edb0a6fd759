"""YAML without its traps, turned into typed structs with one-line errors.

PyYAML follows YAML 1.1: a duplicate key silently wins, `22:30` is 1350, `010` is 8, `no` is
False and `1e-3` is a string. Here a duplicate key is refused, and only the YAML 1.2 core
schema's spellings are numbers and booleans (yaml.org/spec/1.2.2, section 10.3.2).
"""

from __future__ import annotations

import difflib
import re
from typing import Any, TypeVar

import msgspec
import yaml

from edge.errors import ConfigError

T = TypeVar("T")


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of what is configured: frozen, and an unknown key is an error."""


class _Loader(yaml.SafeLoader):
    """SafeLoader with the core schema, no duplicate keys and no aliases (they can recurse)."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.composer.ComposerError(
                None,
                None,
                "aliases are not allowed here",
                self.peek_event().start_mark,  # type: ignore[no-untyped-call]  # PyYAML
            )
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {}
for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:(?:0|[1-9][0-9]*)?\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first))


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if not isinstance(key, str):
            raise yaml.constructor.ConstructorError(
                None, None, f"a key must be text, got {key!r}", key_node.start_mark
            )
        if key in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {key!r} stands here twice", key_node.start_mark
            )
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


def _float(_loader: _Loader, node: yaml.ScalarNode) -> float:
    # PyYAML's own constructor reads 1:30.5 as sexagesimal; the resolver above never lets it come.
    text = node.value.lower()
    return float(text.replace(".inf", "inf").replace(".nan", "nan"))


_Loader.add_constructor("tag:yaml.org,2002:map", _mapping)
_Loader.add_constructor("tag:yaml.org,2002:float", _float)


def parse_yaml(text: str, where: str) -> Any:
    """The plain data in a YAML text.

    Raises:
        ConfigError: not YAML, or a trap; the message has `where`, line and column.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  # a SafeLoader subclass
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        at = f" line {mark.line + 1}, column {mark.column + 1}:" if mark else ""
        raise ConfigError(f"{where}:{at} {error.problem or 'not YAML'}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{where}: not YAML: {str(error).splitlines()[0]}") from None


def convert(data: Any, to: type[T], where: str) -> T:
    """`data` as the struct `to`.

    Raises:
        ConfigError: `where: path: expected ..., got ...`.
    """
    try:
        return msgspec.convert(data, to, strict=True)
    except UnicodeEncodeError:
        raise ConfigError(f"{where}: expected text, got a lone surrogate (an escape like \\ud800)") from None
    except msgspec.ValidationError as error:
        raise ConfigError(f"{where}: {_explain(str(error), data, to)}") from None


_WORDS = (
    (r"^Expected `object`, got .*$", "expected keys with values"),
    (r"^Expected `(.+)`, got `(.+)`$", r"expected \1"),
    (r"^Expected `(?:float|int|str)` (<=|>=|<|>) (\S+)$", r"expected a value \1 \2"),
    (r"^Expected `str` matching regex '(.+)'$", r"expected text matching \1"),
    (r"^Expected (.+)$", r"expected \1"),
)


def _explain(message: str, data: Any, to: type[Any]) -> str:
    message = message.replace("\n", " ").replace("`object | null`", "`keys with values | null`")
    problem, _, path = message.replace(r"\\Z", "$").partition(" - at `$")
    path = path.rstrip("`").lstrip(".")
    unknown = re.match(r"Object contains unknown field `(.+)`", problem)
    if unknown:
        return _unknown(unknown[1], path, to)
    missing = re.match(r"Object missing required field `(.+)`", problem)
    if missing:
        return f"{_join(path, missing[1])}: is missing"
    for pattern, words in _WORDS:
        if re.match(pattern, problem):
            problem = re.sub(pattern, words, problem)
            break
    got = "" if problem.startswith("got") else f", got {_at(data, path)!r}"
    return f"{path or 'the whole file'}: {problem}{got}"


def _unknown(key: str, path: str, to: type[Any]) -> str:
    known = _fields(to, path)
    near = difflib.get_close_matches(key, known, 1, 0.5)
    stem = key.rsplit("_", 1)[0]
    unit = [k for k in known if k.rsplit("_", 1)[0] == stem and k != key]
    hint = f"; did you mean {(unit or near)[0]}?" if unit or near else ""
    return f"{_join(path, key)}: unknown key{hint}"


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _steps(path: str) -> list[str]:
    return [s for s in re.split(r"[.\[\]]+", path) if s]


def _fields(to: Any, path: str) -> list[str]:
    for step in _steps(path):
        to = _inner(to, step)
    return list(getattr(to, "__struct_fields__", ()))


def _inner(to: Any, step: str) -> Any:
    """The struct type behind the field `step` of struct `to` (through X | None and lists)."""
    if hasattr(to, "__struct_fields__") and not step.isdigit() and step != "...":
        to = {f.name: f.type for f in msgspec.structs.fields(to)}.get(step)
    for arg in getattr(to, "__args__", ()):
        if hasattr(arg, "__struct_fields__"):
            return arg
    return to


def _at(data: Any, path: str) -> Any:
    """The value at a path such as `door.relay` or `models[1].id`, shortened for a message."""
    for step in _steps(path):
        if isinstance(data, dict):
            data = data.get(step)
        elif isinstance(data, list) and step.isdigit():
            data = data[int(step)]
    return data if isinstance(data, (int, float, bool, type(None))) else str(data)[:60]
