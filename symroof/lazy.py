"""Public names that are loaded on first use (PEP 562); the package's stub says where each lives."""

from __future__ import annotations

import re
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

_LINE = re.compile(r"^from (\S+) import (\w+) as \2$", re.MULTILINE)


def attach(package: str, stub: Path) -> tuple[Callable[[str], Any], list[str]]:
    """A package's ``__getattr__``, and its public names: those that its stub imports, as ``from package.module import Name as Name``.

    Type checkers and editors read the same stub.
    """
    homes = {name: home for home, name in _LINE.findall(stub.read_text())}

    def load(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        members = vars(import_module(homes[name]))
        found = members[name] if name in members else import_module(f"{homes[name]}.{name}")
        vars(import_module(package))[name] = found
        return found

    return load, sorted(homes)
