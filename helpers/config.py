"""YAML file -> frozen, typed, validated dataclass; every problem of a file in one error."""

import dataclasses
import difflib
import importlib
import math
import os
import types
import typing
from pathlib import Path
from typing import Any, TypeVar

import yaml

from helpers import runtime
from helpers.estimates import Needs as Needs

Schema = TypeVar("Schema")
NAMES = {int: "an integer", float: "a number", bool: "true or false", str: "text", Path: "a path"}


def option(
    default: Any = dataclasses.MISSING,
    *,
    low: float | None = None,
    high: float | None = None,
    above: float | None = None,
    choices: tuple | None = None,
    help: str = "",
) -> Any:
    """A dataclass field with limits; without `default` the key is required.

    Args:
        low, high: least and greatest value allowed, both included; for text, of its number of characters.
        above: the value must be greater than this.
        choices: the values allowed (for a tuple field: of each element).
        help: one line for the config table of the notebooks.
    """
    metadata = {"low": low, "high": high, "above": above, "choices": choices, "help": help}
    if dataclasses.is_dataclass(default):
        return dataclasses.field(default_factory=default, metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


PRECISIONS = ("float32", "mixed", "mixed_bfloat16", "mixed_float16")


@dataclasses.dataclass(frozen=True, kw_only=True)
class BaseConfig:
    """The fields that every project has; a project's config adds its own and narrows `source`.

    `MACHINE` names those that say how a result is made and never which: steps take them as `uses`.
    """

    def needs(self) -> dict[str, Needs]:
        """What each step takes, by its name, before anything is downloaded; empty where nobody can know, and for mini."""
        return {}

    source: str = option(help="where the data come from")
    precision: str = option("float32", choices=PRECISIONS, help="dtype policy of Keras")
    allow_cpu: bool = option(False, help="train without a GPU all the same")
    checkpoint_every: int | None = option(None, low=1, help="steps between checkpoints; null: at epoch ends only")
    save_every: int = option(1, low=1, help="epochs between checkpoints")
    sheet: str | None = option(None, help="Google Sheet that mirrors the log")
    drive_folder: str | None = option(None, help="Google Drive folder that mirrors the checkpoints")


MACHINE = ("allow_cpu", "checkpoint_every", "save_every", "sheet", "drive_folder")


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, of which YAML would silently keep the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        names = set()
        for key, _ in node.value:
            name = self.construct_object(key, deep=True)
            if not isinstance(name, str):
                continue  # YAML itself refuses those that cannot be keys
            if name in names:
                raise yaml.constructor.ConstructorError(None, None, f"key {name!r} is given twice", key.start_mark)
            names.add(name)
        return super().construct_mapping(node, deep)


def load(path: str | os.PathLike, schema: type[Schema]) -> Schema:
    """Read a YAML file into the frozen dataclass `schema`.

    A whole number is accepted where a float is meant, and so is `1e-4`, which YAML 1.1 reads as text. `true` is never a
    number. Groups of keys are nested dataclasses, lists of groups tuples of them.

    Raises:
        ValueError: one error that names every bad key, what was received and what is allowed; also for a missing,
            empty or broken file (with the line number) and for a folder.
    """
    path, problems = Path(path), []
    config = _build(_read(path), schema, "", problems)
    refuse(f"{path.name} has", problems)
    return config


def refuse(what: str, problems: list[str]) -> None:
    """Raise one ValueError that names every problem, if there are any; `what` begins it, such as "mini.yaml has"."""
    if problems:
        raise ValueError("\n  ".join([f"{what} {len(problems)} problem(s):", *problems]))


def check(config: Any) -> None:
    """Hold a config that was made or changed in code to the limits that a file is held to; ValueError names every bad field."""
    config, problems = whole(config), []
    hints = typing.get_type_hints(type(config))
    for field in dataclasses.fields(config) if isinstance(config, BaseConfig) else ():
        value = getattr(config, field.name)
        value = dataclasses.asdict(value) if dataclasses.is_dataclass(value) else value
        _check(str(value) if isinstance(value, Path) else value, hints[field.name], field, field.name, problems)
    refuse("the settings have", problems)


def untouched(config: Any) -> bool:
    """Whether these are the settings of the project's committed `mini.yaml`, with nothing `own` in place of the course's code.

    The notebooks hold their numbers to mini only then: a changed setting may change every one of them.
    """
    from helpers.workspace.own import active

    config = whole(config)
    project = type(config).__module__.split(".")[1]
    path = runtime.repo_root() / "notebooks" / project / "mini.yaml"
    return not active(project) and config == load(path, type(config))


def _read(path: Path) -> dict:
    if path.is_dir():
        raise ValueError(f"{path} is a folder; expected a YAML file such as mini.yaml")
    if not path.is_file():
        raise ValueError(f"there is no file {path}; expected a YAML file such as mini.yaml")
    try:
        raw = yaml.load(path.read_text(encoding="utf-8-sig"), Loader=_UniqueKeyLoader)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path.name} is not text in UTF-8: {error}") from error
    except (yaml.YAMLError, ValueError, TypeError, LookupError, RecursionError) as error:  # of dates: Python's own
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ValueError(f"{path.name}{place}: not valid YAML: {problem}") from error
    if raw is None:
        raise ValueError(f"{path.name} is empty; expected lines of the form  key: value")
    if not isinstance(raw, dict):
        raise ValueError(f"{path.name} holds {_show(raw)}; expected lines of the form  key: value")
    return raw


def _build(raw: dict, schema: type, prefix: str, problems: list[str]) -> Any:
    fields = {field.name: field for field in dataclasses.fields(schema)}
    hints = typing.get_type_hints(schema)
    for key in raw:
        if key not in fields:
            near = difflib.get_close_matches(str(key), fields, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"allowed: {', '.join(fields)}"
            problems.append(f"{prefix}{key}: unknown key, received {_show(raw[key])}; {hint}")
    values, before = {}, len(problems)
    for name, field in fields.items():
        if name in raw:
            values[name] = _check(raw[name], hints[name], field, prefix + name, problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"{prefix}{name}: missing, received nothing; allowed: {_allowed(hints[name], field)}")
    if len(problems) > before or (problems and prefix == ""):
        return None
    try:
        return schema(**values)
    except ValueError as error:  # what a schema's __post_init__ finds between keys
        problems.extend(f"{prefix}{line}" for line in str(error).splitlines())
        return None


def _check(value: Any, hint: Any, field: dataclasses.Field, key: str, problems: list[str]) -> Any:
    if dataclasses.is_dataclass(hint):
        if isinstance(value, dict):
            return _build(value, hint, f"{key}.", problems)
        names = ", ".join(part.name for part in dataclasses.fields(hint))
        problems.append(f"{key}: received {_show(value)}; allowed: a group of keys, {names}")
        return None
    part = typing.get_args(hint)[0] if typing.get_origin(hint) is tuple else None
    if dataclasses.is_dataclass(part) and isinstance(value, list):
        return tuple(_check(item, part, field, f"{key}[{place}]", problems) for place, item in enumerate(value))
    try:
        converted = _convert(value, hint)
        if converted is not None:
            _limit(converted, field.metadata)
        return converted
    except (ValueError, OverflowError) as error:
        reason = f" ({error})" if str(error) else ""
        problems.append(f"{key}: received {_show(value)}{reason}; allowed: {_allowed(hint, field)}")
        return None


def _convert(value: Any, hint: Any) -> Any:
    """`value` as the type `hint`, or ValueError (its text may explain)."""
    hint, optional = _required(hint)
    if optional and value is None:
        return None
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError
        return tuple(_convert(item, typing.get_args(hint)[0]) for item in value)
    if hint is Path and isinstance(value, str):
        return Path(value)
    if hint is float and isinstance(value, str):  # YAML 1.1 needs a dot: it reads 1e-4 as text
        value = float(value)
    if hint is float and type(value) in (int, float):
        if not math.isfinite(value):
            raise ValueError("not a finite number")
        return float(value)
    if type(value) is not hint:
        text = hint is str and value is not None
        raise ValueError("YAML reads it as another type: quote it for text" if text else "")
    return value


def _required(hint: Any) -> tuple[Any, bool]:
    """A type without its `| None`, and whether it had one."""
    if typing.get_origin(hint) not in (typing.Union, types.UnionType):
        return hint, False
    return next(part for part in typing.get_args(hint) if part is not type(None)), True


def _limit(value: Any, limits: Any) -> None:
    for item in value if isinstance(value, tuple) else (value,):
        if limits.get("choices") and item not in limits["choices"]:
            near = difflib.get_close_matches(str(item), [str(choice) for choice in limits["choices"]], n=1)
            raise ValueError(f"did you mean {near[0]}?" if near else "")
        low, high, above = limits.get("low"), limits.get("high"), limits.get("above")
        size = len(item.strip()) if isinstance(item, str) else item
        outside = (low is not None and size < low) or (high is not None and size > high)
        if outside or (above is not None and size <= above):
            raise ValueError


def _allowed(hint: Any, field: dataclasses.Field) -> str:
    limits, (hint, optional) = field.metadata, _required(hint)
    many = typing.get_origin(hint) is tuple
    if many:
        hint = typing.get_args(hint)[0]
    if limits.get("choices"):
        text = "one of " + ", ".join(str(choice) for choice in limits["choices"])
    else:
        text = NAMES.get(hint, "a group of keys")
    bounds = [("low", "at least"), ("above", "above"), ("high", "at most")]
    unit = " characters" if hint is str else ""
    text += "".join(f", {word} {limits[name]}{unit}" for name, word in bounds if limits.get(name) is not None)
    return ("a list, each " if many else "") + text + (", or null" if optional else "")


def _show(value: Any) -> str:
    try:
        text = repr(value)
    except ValueError:  # Python writes out no number of more than 4 300 digits
        text = "a number too long to show"
    text = text if len(text) <= 60 else text[:57] + "..."
    return f"{text} ({type(value).__name__})"


def find(project: str, choice: str | os.PathLike | None = None) -> Path:
    """The config file of a project: COURSE_CONFIG wins over `choice`; "mini", "t4", "full" or the path of a YAML file.

    A relative path is looked for from the current folder, then from the repository's root.
    """
    choice = os.environ.get("COURSE_CONFIG") or choice or "mini"
    if str(choice) in ("mini", "t4", "full"):
        return runtime.repo_root() / "notebooks" / project / f"{choice}.yaml"
    path = Path(choice).expanduser()
    return path if path.exists() or path.is_absolute() else runtime.repo_root() / path


def schema_of(project: str) -> type[BaseConfig]:
    """The config class of a project, the one of its config room that extends `BaseConfig`; for tests and benchmarks of all."""
    room = vars(importlib.import_module(f"helpers.{project}.config")).values()
    (schema,) = (kind for kind in room if isinstance(kind, type) and BaseConfig in kind.__bases__)
    return schema


def table(config: Any, keys: typing.Iterable[str] | None = None) -> Any:
    """A config as a DataFrame with columns `value` and `meaning`, to be shown in a notebook.

    `keys`: these only, in this order; those of groups are joined with a dot.
    """
    import pandas as pd

    rows = {}

    def add(part: Any, prefix: str) -> None:
        for field in dataclasses.fields(part):
            value = getattr(part, field.name)
            if dataclasses.is_dataclass(value):
                add(value, f"{prefix}{field.name}.")
            else:
                text = ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)
                rows[prefix + field.name] = {"value": text, "meaning": field.metadata.get("help", "")}

    add(config, "")
    shown = pd.DataFrame.from_dict(rows, orient="index")
    return shown if keys is None else shown.loc[list(keys)]


class UndeclaredField(Exception):
    """A step read a field of the config that it does not declare; no AttributeError, so that no `hasattr` can swallow it."""


def view(config: Any, allowed: typing.Collection[str], what: str) -> Any:
    """The same config, which refuses the fields that `what` does not declare and remembers which ones were read.

    UndeclaredField, later, names another field that is read.

    So no result can depend on a field that its folder's hash leaves out. It can be sent to other processes; only what is read
    in this one is remembered.

    Args:
        allowed: fields that may be read.
        what: who reads, for the error, such as "step train of lip_reading".
    """
    config = whole(config)
    kind = type(config)
    fields = {field.name for field in dataclasses.fields(config)}
    seen: set[str] = set()

    def guard(self: Any, name: str) -> Any:
        if name in fields:
            if name not in allowed:
                raise UndeclaredField(f"{what} reads the config field {name!r} without declaring it: add it to `reads`")
            seen.add(name)
        return object.__getattribute__(self, name)

    members = {"__getattribute__": guard, "_seen": seen, "_whole": config}
    members["__reduce__"] = lambda self: (view, (config, tuple(allowed), what))
    made = object.__new__(type(kind.__name__, (kind,), members))
    object.__getattribute__(made, "__dict__").update(values(config, fields))
    return made


def whole(config: Any) -> Any:
    """The config itself where it is a `view`."""
    return getattr(config, "_whole", config)


def fields_read(config: Any) -> set[str]:
    """The fields that were read of a config of `view` in this process."""
    return set(config._seen)


def values(config: Any, names: typing.Iterable[str]) -> dict[str, Any]:
    """Fields of a config as a plain dict, such as for a log; of a `view` too, where this does not count as reading."""
    return {name: object.__getattribute__(config, name) for name in names}


def problems_between(*checks: tuple[bool, str]) -> None:
    """For a `__post_init__`: one ValueError with the text, beginning with the key, of every check (is it wrong, text)."""
    wrong = [text for bad, text in checks if bad]
    if wrong:
        raise ValueError("\n".join(wrong))
