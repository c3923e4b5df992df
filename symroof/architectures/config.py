"""Find and parse a config.json: a name in models/, a hub name, or a path. Nothing in it is evaluated."""

from __future__ import annotations

import functools
import json
from importlib.resources import files
from pathlib import Path
from typing import Any

from symroof.errors import ConfigError, nearest, quote
from symroof.files import is_folder, is_readable, read_text


def models_folder() -> Path:
    """The folder of published configs: in the wheel, or beside the package in a checkout."""
    installed = Path(str(files("symroof"))) / "models"
    return installed if installed.is_dir() else installed.parent.parent / "models"


@functools.cache
def catalogue() -> dict[str, Path]:
    """Every name in models/, and its file."""
    return {path.stem: path for path in sorted(models_folder().glob("*.json"))}


@functools.cache
def _hub_names() -> dict[str, str]:
    return {str(parse(path).get("_name_or_path", name)).lower(): name for name, path in catalogue().items()}


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
    if name in catalogue():
        return name, catalogue()[name]
    if "/" in name and name in _hub_names():
        name = _hub_names()[name]
        return name, catalogue()[name]
    path = Path(text)
    if text and is_folder(path):
        path = path / "config.json"
        if not is_readable(path):
            raise ConfigError(f"model {quote(text)} is a folder without a config.json")
    if text and is_readable(path):
        return (path.parent.resolve().name if path.name == "config.json" else path.stem), path
    if path.suffix == ".json":
        raise ConfigError(f"model {quote(text)}: there is no such file")
    hint = nearest(text, [*catalogue(), *_hub_names()], shown=tuple(catalogue()))
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
        content = json.loads(text, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        raise ConfigError(f"{quote(origin)} is not JSON: {error.msg} at line {error.lineno} column {error.colno}") from None
    except RecursionError:
        raise ConfigError(f"{quote(origin)} is nested too deeply to be a config.json") from None
    except ConfigError as error:
        raise ConfigError(f"{quote(origin)}: {error}") from None
    except ValueError:  # Python refuses integers of more than some thousand digits
        raise ConfigError(f"{quote(origin)} holds a number with too many digits") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{quote(origin)} holds {quote(content)}; expected one JSON object of fields")
    return content


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content = dict(pairs)
    if len(content) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"field {quote(twice)} occurs twice")
    return content
