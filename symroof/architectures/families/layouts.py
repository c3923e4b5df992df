"""Which layers have which part: by a list in the config, by a period, or by their positions."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from symroof.architectures.families.family import LayerRule
from symroof.architectures.fields import Fields

LAYER_TYPES = {"full_attention": "full", "sliding_attention": "sliding"}
"""Words of `layer_types`, and what the parts are called here."""


def by_period(count: int, period: int, offset: int, inside: str, outside: str) -> list[str]:
    """Every *period*-th layer, counted from *offset*, of one kind, the rest of another.

    >>> by_period(4, 2, 1, "full", "sliding")
    ['sliding', 'full', 'sliding', 'full']
    """
    return [inside if number % period == offset else outside for number in range(count)]


def windowed(absent: int | None = None) -> LayerRule:
    """A sliding window in every layer, or none where ``sliding_window`` is null; *absent* is what an absent one means."""
    return lambda fields, count: ["full" if fields.size("sliding_window", absent, null=None) is None else "sliding"] * count


def local_and_global(absent: int) -> LayerRule:
    """EXAONE's windows: what ``layer_types`` lists, else local and global layers by a period or by a pattern such as ``LLLG``."""

    def rule(fields: Fields, count: int) -> list[str]:
        used = fields.size("sliding_window", absent, null=None) is not None
        if isinstance(fields.peek("sliding_window_pattern"), str):
            pattern = fields.pattern("sliding_window_pattern", {"L": "sliding", "G": "full"}) or []
            repeated = [pattern[number % len(pattern)] for number in range(count - 1)] + ["full"]
        else:
            every = fields.size("sliding_window_pattern", 4, low=0)
            repeated = by_period(count, every, every - 1, "full", "sliding") if used and every else ["full"] * count
        return fields.words("layer_types", LAYER_TYPES, count) or (repeated if used else ["full"] * count)

    return rule


def last_of_each(period: int, *names: str, last: str = "full", others: str = "sliding", words: dict[str, str] | None = None) -> LayerRule:
    """What ``layer_types`` lists, else the last of every *period* layers of one kind and the others of another.

    Parameters
    ----------
    names : the spellings of the period, if the config has it.
    """

    def rule(fields: Fields, count: int) -> list[str]:
        every = fields.size(fields.named(*names), period) if names else period
        return fields.words("layer_types", words or LAYER_TYPES, count) or by_period(count, every, every - 1, last, others)

    return rule


def used_windows(windowed: Callable[[int, int], bool], *, first: bool = True, absent: int = 28) -> LayerRule:
    """Qwen's windows, off unless ``use_sliding_window``; ``layer_types`` has the last word. A null ``sliding_window`` is none.

    Parameters
    ----------
    windowed : whether the layer of a number has one, given ``max_window_layers``.
    first, absent : whether the family reads that field, and what an absent one means.
    """

    def rule(fields: Fields, count: int) -> list[str]:
        limit = fields.size("max_window_layers", absent, low=0) if first else 0
        used = fields.flag("use_sliding_window", False) and fields.size("sliding_window", 1, null=None) is not None
        listed = fields.words("layer_types", LAYER_TYPES, count)
        if listed and "sliding" in listed and not used:
            raise fields.error("layer_types holds 'sliding_attention', but use_sliding_window is not true")
        return listed or ["sliding" if used and windowed(number, limit) else "full" for number in range(count)]

    return rule


def dense_first(absent: int) -> LayerRule:
    """``first_k_dense_replace`` layers with a dense MLP, then experts."""

    def rule(fields: Fields, count: int) -> list[str]:
        dense = min(fields.size("first_k_dense_replace", absent, low=0), count)
        return ["dense"] * dense + ["moe"] * (count - dense)

    return rule


def listed(rule: LayerRule, name: str, words: Mapping[str, str]) -> LayerRule:
    """What a list in the config says, or else the rule.

    Parameters
    ----------
    words : the meanings of the words in the list.
    """
    return lambda fields, count: fields.words(name, words, count) or rule(fields, count)


MLP_TYPES = {"dense": "dense", "sparse": "moe"}
"""Words of `mlp_layer_types`, and what the parts are called here."""


def sparse_steps(fields: Fields, count: int) -> list[str]:
    """Experts in every ``decoder_sparse_step``-th layer but those of ``mlp_only_layers``, as the Qwen families say it."""
    step = fields.size("decoder_sparse_step", 1)
    dense = fields.indices("mlp_only_layers", count) or frozenset()
    return ["moe" if number not in dense and (number + 1) % step == 0 else "dense" for number in range(count)]


def periodic(name: str, period: int, offset: int, inside: str, outside: str) -> LayerRule:
    """Every so many layers, counted from an offset, as Jamba's config says it."""

    def rule(fields: Fields, count: int) -> list[str]:
        every, start = fields.size(f"{name}_period", period), fields.size(f"{name}_offset", offset, low=0)
        if start >= every:
            raise fields.error(f"{name}_offset is {start}; expected less than {name}_period, {every}")
        return by_period(count, every, start, inside, outside)

    return rule
