"""What the library comes with, by name."""

from __future__ import annotations

from symroof.architectures import config
from symroof.hardware import loader


def models() -> tuple[str, ...]:
    """The names of all models that `symroof.load_model` knows, without the hub's names for the same.

    >>> "llama-2-7b" in models()
    True
    """
    return tuple(config.catalogue())


def devices() -> tuple[str, ...]:
    """The names of all devices that `symroof.load_hardware` knows, without their aliases.

    >>> "a100-sxm-80gb" in devices()
    True
    """
    return tuple(loader.catalogue())
