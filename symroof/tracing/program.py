"""A module that a file of Python builds, ``module.py:build``: the one form on which symroof runs a user's code."""

from __future__ import annotations

import functools
import importlib.util
import re
import sys
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from symroof.architectures.own import UNTOLD
from symroof.errors import InputError, SymroofError, nearest, quote
from symroof.tracing.capture import capture, torch_module
from symroof.tracing.trace import Traced, TracedModel, traced_of

_FORM = re.compile(r"(?P<file>.+\.py):(?P<function>[A-Za-z_]\w*)")
KEYS = ("module", "args", "kwargs", "axes", "by", "cache", "sizes")


def is_program(text: str) -> bool:
    """Whether a text names a function of a file of Python.

    >>> is_program("attention.py:build"), is_program("llama-2-7b"), is_program("attention.py")
    (True, False, False)
    """
    return _FORM.fullmatch(text) is not None


def load_module(text: str) -> TracedModel:
    """The model that a function of a file builds; **the file is imported, that is, run as Python code**.

    The function is called with the phase, "prefill" or "decode", and returns what `symroof.trace` takes, by name:
    ``{"module": ..., "args": ..., "axes": ...}``. It is called when a step of that phase is asked for.

    Raises
    ------
    InputError
        There is no such file or function, or the code fails: the message says where.

    >>> load_module("nowhere.py:build")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: module 'nowhere.py:build': there is no file 'nowhere.py'
    """
    form = _FORM.fullmatch(text)
    if form is None:
        raise InputError(f"module {quote(text)}: expected a file and a function of it, such as attention.py:build")
    path = Path(form["file"])
    if not path.is_file():
        raise InputError(f"module {quote(text)}: there is no file {quote(str(path))}")
    torch_module()
    return Program(f"{path.stem}:{form['function']}", UNTOLD, text, written=path.stat().st_mtime_ns)


@dataclass(frozen=True)
class Program(TracedModel):
    """The model behind ``module.py:build``, traced in a phase when it is asked for.

    Attributes
    ----------
    written : when the file was written last; a changed file is imported again.
    """

    written: int = 0

    def traced(self, phase: str) -> Traced:
        """The module in a phase, traced once."""
        return _traced(self.origin, phase, self.written)


@functools.cache
def _traced(text: str, phase: str, written: int) -> Traced:
    del written
    given = _called(text, phase)
    extra = [key for key in given if key not in KEYS]
    if extra:
        raise InputError(f"{text} returns {quote(extra[0])}: {nearest(str(extra[0]), KEYS)}")
    missing = [key for key in ("module", "axes") if key not in given]
    if missing:
        raise InputError(f"{text} returns no {quote(missing[0])}; expected a dictionary with module, args and axes")
    cache = given.get("cache", ("past_key_values",))
    exported = capture(given["module"], given.get("args", ()), given.get("kwargs") or {}, given["axes"], cache, phase == "decode")
    return traced_of(exported, phase, by=given.get("by", "operator"), sizes=given.get("sizes"))


def _called(text: str, phase: str) -> Mapping[str, Any]:
    """What the function returns for a phase; whatever goes wrong in the user's code is one line."""
    name, _, function = text.rpartition(":")
    path = Path(name).resolve()
    try:
        module = _imported(path)
        if not callable(build := getattr(module, function, None)):
            defined = [key for key, value in vars(module).items() if callable(value) and not key.startswith("_")]
            raise InputError(f"{quote(name)} has no function {quote(function)}: {nearest(function, defined)}")
        given = build(phase)
    except SymroofError:
        raise
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename) == path]
        line = f":{frames[-1].lineno}" if frames else f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        said = " ".join(str(error).split())
        raise InputError(f"{name}{line}: {type(error).__name__}{': ' if said else ''}{said}") from None
    if not isinstance(given, Mapping):
        raise InputError(f"{text} returns {quote(given)}; expected a dictionary with module, args and axes")
    return given


def _imported(path: Path) -> Any:
    """The file as a module; modules beside it can be imported by it."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(path.parent))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(path.parent))
    return module
