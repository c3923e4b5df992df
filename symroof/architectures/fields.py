"""Read a config's fields with their types checked; what was not read can be told afterwards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from symroof.errors import ConfigError, nearest, quote

LARGEST = 10**12
"""No dimension of a model is larger; a size beyond it is a slip."""

COMMON = (
    *("model_type", "architectures", "auto_map", "torch_dtype", "dtype", "transformers_version", "tokenizer_class", "use_cache"),
    *("bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "initializer_range", "gradient_checkpointing", "max_length"),
)
"""Fields of every family's configs that leave FLOPs and bytes alone."""

Default = TypeVar("Default")
_REQUIRED: Any = object()


class Fields:
    """The fields of one config.json, each asked for by name and type.

    >>> fields = Fields({"hidden_size": 4096, "rope_theta": 1e4, "mystery": 1}, "config.json")
    >>> fields.size("hidden_size")
    4096
    >>> fields.unread(("rope_theta",))
    ['mystery']
    >>> fields.size("num_hidden_layers")
    Traceback (most recent call last):
        ...
    symroof.errors.ConfigError: 'config.json': num_hidden_layers is missing; expected a whole number from 1 to 1e12
    """

    def __init__(self, content: Mapping[str, Any], origin: str) -> None:
        self._content = content
        self._asked: set[str] = set()
        self.origin = origin

    def error(self, message: str) -> ConfigError:
        """The message with the file it is about in front."""
        return ConfigError(f"{quote(self.origin)}: {message}")

    def _get(self, name: str, default: Any, expected: str) -> Any:
        self._asked.add(name)
        value = self._content.get(name)
        if value is not None:
            return value
        if default is _REQUIRED:
            state = "null" if name in self._content else "missing"
            raise self.error(f"{name} is {state}; expected {expected}")
        return default

    def size(self, name: str, default: Default = _REQUIRED, low: int = 1) -> int | Default:
        """A whole number from *low* to 1e12; absent or null gives the default."""
        expected = f"a whole number from {low} to 1e12"
        value = self._get(name, default, expected)
        if value is default:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= LARGEST:
            raise self.error(f"{name} is {quote(value)}; expected {expected}")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._get(name, default, "true or false")
        if not isinstance(value, bool):
            raise self.error(f"{name} is {quote(value)}; expected true or false")
        return value

    def choice(self, name: str, known: Mapping[str, Default], default: str | None = None) -> Default:
        """One of the known words, as what it stands for."""
        expected = f"one of {', '.join(known)}"
        value = self._get(name, _REQUIRED if default is None else default, expected)
        if not isinstance(value, str) or value not in known:
            hint = nearest(value, known) if isinstance(value, str) else expected
            raise self.error(f"{name} is {quote(value)}; {hint if 'known' in hint or 'mean' in hint else 'expected ' + hint}")
        return known[value]

    def fixed(self, name: str, only: Any, why: str) -> None:
        """A field that may be absent, and if present must have the one value that is understood."""
        value = self._get(name, only, repr(only))
        if value != only or isinstance(value, bool) != isinstance(only, bool):
            raise self.error(f"{name} is {quote(value)}; only {only!r} is understood ({why})")

    def divides(self, larger: str, whole: int, smaller: str, part: int) -> int:
        """*whole* / *part*, which must come out even."""
        if whole % part:
            raise self.error(f"{larger} {whole} is not divisible by {smaller} {part}")
        return whole // part

    def unread(self, harmless: Iterable[str]) -> list[str]:
        """Fields that nobody asked for and that are not known to leave the structure alone."""
        known = self._asked | set(harmless)
        return sorted(name for name, value in self._content.items() if name not in known and not name.startswith("_") and value is not None)
