"""Find and parse a config.json: a name in models/, a hub name, or a path. Nothing in it is evaluated."""

from __future__ import annotations

import functools
import json
import re
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

from symroof.errors import ConfigError, nearest, quote
from symroof.files import is_folder, is_readable, read_text

MOST_DIGITS = 1000
"""The most digits of a number; Python would be slow with longer ones, or refuse them."""

TOO_LONG = object()
"""Replaces a number that was too long to read."""

DEEPEST = 20
"""The deepest nesting of lists and objects; published configs have five levels."""


_WIDTH = re.compile(r"(?:nv|mx)?fp\d+|int\d+|w\d+a\d+|\d+-?bit")
_GENERATION = re.compile(r"(?<![\d.])\d+(?:[._]\d+)*(?![\d._]*[bmkx])")


@functools.cache
def catalogue() -> dict[str, Path]:
    """The models of models/ with their files; the folder is in the wheel, or next to the package in a checkout."""
    return {path.stem: path for path in sorted(_models().glob("*.json"))}


@functools.cache
def variants() -> dict[str, Path]:
    """Instruct and quantized checkpoints of the models of the catalogue: a file has the fields that differ, and whose they are, ``_of``."""
    return {path.stem: path for path in sorted((_models() / "variants").glob("*.json"))}


@functools.cache
def published() -> dict[str, Path]:
    """The models of the catalogue and their variants."""
    return catalogue() | variants()


@functools.cache
def _models() -> Path:
    installed = Path(str(files("symroof"))) / "models"
    return installed if installed.is_dir() else installed.parent.parent / "models"


@functools.cache
def _hub_names() -> dict[str, str]:
    return {str(parse(path).get("_name_or_path", name)).lower(): name for name, path in published().items()}


def generation(name: str) -> list[str]:
    """The numbers in a model's name that are neither its size nor a width: its generation and date.

    >>> generation("Qwen/Qwen3.5-35B-A3B-FP8"), generation("mixtral-8x7b"), generation("mixtral-8x7b-v0.1")
    (['3.5'], [], ['0.1'])
    """
    return _GENERATION.findall(_WIDTH.sub("", name[:200].lower()))


def locate(name_or_path: str | Path) -> tuple[str, Path]:
    """The name and the file of a model.

    Raises
    ------
    ConfigError
        No such name, and no such file.

    >>> locate("llama-2-7b")[0], locate("meta-llama/Llama-2-7b-hf")[0]
    ('llama-2-7b', 'llama-2-7b')
    >>> locate("none.json")
    Traceback (most recent call last):
        ...
    symroof.errors.ConfigError: model 'none.json': there is no such file
    """
    text = str(name_or_path)
    name = text.lower()
    if "/" in name and name in _hub_names():
        name = _hub_names()[name]
    if name in published():
        return name, published()[name]
    path = Path(text)
    if text and is_folder(path):
        path = path / "config.json"
        if not is_readable(path):
            raise ConfigError(f"model {quote(text)} is a folder without a config.json")
    if text and is_readable(path):
        return (path.parent.resolve().name if path.name == "config.json" else path.stem), path
    if path.suffix == ".json":
        raise ConfigError(f"model {quote(text)}: there is no such file")
    own = generation(name)
    known = (other for other in (*published(), *_hub_names()) if generation(other)[: len(own)] == own)
    hint = nearest(text, known, shown=tuple(catalogue()))
    raise ConfigError(f"model {quote(text)} is neither a name in models/ nor a file: {hint}")


def parse(path: Path) -> dict[str, Any]:
    """The fields of a config.json.

    Raises
    ------
    ConfigError
        The file cannot be read, is not JSON, or is not one object.
    """
    origin = str(path)
    text = read_text(path, "a config.json", ConfigError)
    try:
        content = json.loads(text, object_pairs_hook=_distinct, parse_int=_whole)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{quote(origin)} is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise ConfigError(f"{quote(origin)} is nested too deeply to be a config.json") from None
    except ConfigError as error:
        raise ConfigError(f"{quote(origin)}: {error}") from None
    for name, value in content.items() if isinstance(content, dict) else [("", content)]:
        fault = _fault(value)
        if fault:
            raise ConfigError(f"{quote(origin)}: {quote(name)} {fault}" if name else f"{quote(origin)} {fault}")
    if not isinstance(content, dict):
        raise ConfigError(f"{quote(origin)} contains {quote(content)}; expected one JSON object of fields")
    return parse(catalogue()[content["_of"]]) | content if path.parent == _models() / "variants" else content


def _whole(digits: str) -> Any:
    return int(digits) if len(digits) <= MOST_DIGITS else TOO_LONG


def _fault(value: Any) -> str | None:
    """The fault of a value that no config field may have: too many digits, or nested too deeply."""
    level = [value]
    for depth in range(DEEPEST + 1):
        if TOO_LONG in level:
            return "contains a number with too many digits"
        if depth == DEEPEST and any(isinstance(inner, dict | list) for inner in level):
            return "is nested too deeply"
        level = [
            inner for outer in level if isinstance(outer, dict | list) for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            break
    return None


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
        raise ConfigError(f"field {quote(twice)} occurs twice")
    return content
