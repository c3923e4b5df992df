"""What a step is: its phase, its inputs and its conventions, checked once."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self, SupportsIndex, TypedDict, cast

from sympy import Expr, Integer, Symbol

from symroof import symbols
from symroof.conventions import BITS
from symroof.errors import InputError, member, nearest, quote
from symroof.notation import Brief
from symroof.units import Quantity

Size = SupportsIndex | Quantity
"""A whole number: Python's, numpy's or sympy's, or a Quantity of one."""

PHASES = ("prefill", "decode")
LM_HEADS = ("last", "all")
ACCOUNTINGS = ("exact", "llm-viewer", "survey")
MLA_FORMS = ("auto", "absorbed", "decompressed")
EXPERTS = ("expected", "at-most")
LARGEST = 10**12
WIDEST = 64
WIDTHS = {"weight_bits": symbols.w, "activation_bits": symbols.a, "kv_bits": symbols.c}
UNITS = {"batch": "request", "seq_len": "token"} | dict.fromkeys(WIDTHS, "bit")
"""What the numbers count; a Quantity of that unit, or of none, is one of them."""


class StepInputs(TypedDict, total=False):
    """The inputs and conventions of a step by name, as `Options` explains them: what editors complete and type checkers check."""

    batch: Size | None
    seq_len: Size | None
    weight_bits: Size | None
    activation_bits: Size | None
    kv_bits: Size | None
    accounting: Literal["exact", "llm-viewer", "survey"]
    flash_attention: bool
    causal: bool
    lm_head: Literal["last", "all"]
    mla: Literal["auto", "absorbed", "decompressed"]
    experts: Literal["expected", "at-most"]


@dataclass(frozen=True)
class Options(Brief):
    """One step of a model, and how it is counted. A number left out stays a symbol; on a device a width does not.

    Attributes
    ----------
    phase : "prefill" (``seq_len`` tokens of prompt per sequence) or "decode" (one token per
        sequence, ``seq_len`` being the context length, that token included).
    batch, seq_len : sizes, b and s (prefill) or t (decode).
    weight_bits, activation_bits, kv_bits : w, a and c; see `with_widths`.
    accounting : "exact", "llm-viewer" (revision 472f71f) or "survey" (revision 94ab17b).
    flash_attention : attention as one operator that keeps its scores on chip.
    causal : count the query-key pairs a causal mask leaves; `exact` only.
    lm_head : logits of the "last" token of each sequence or of "all" tokens; `exact` only.
    mla : multi-head latent attention "absorbed" (on the compressed vectors) or "decompressed" (keys and values
        of all heads expanded from them); "auto" is absorbed in decode and decompressed in prefill.
    experts : experts of a layer that a step reads: "expected" where tokens choose independently and uniformly, or "at-most",
        as many as they can choose; `exact` only.

    >>> Options("decode", batch=0)
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: batch 0: expected a whole number from 1 to 1e12
    >>> Options("prefil")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: phase 'prefil': did you mean prefill?
    """

    phase: str
    batch: int | None = None
    seq_len: int | None = None
    weight_bits: int | None = None
    activation_bits: int | None = None
    kv_bits: int | None = None
    accounting: str = "exact"
    flash_attention: bool = False
    causal: bool = True
    lm_head: str = "last"
    mla: str = "auto"
    experts: str = "expected"

    def __post_init__(self) -> None:
        member("phase", self.phase, PHASES)
        member("accounting", self.accounting, ACCOUNTINGS)
        member("lm_head", self.lm_head, LM_HEADS)
        member("mla", self.mla, MLA_FORMS)
        member("experts", self.experts, EXPERTS)
        for name, unit in UNITS.items():
            if (value := getattr(self, name)) is not None:
                object.__setattr__(self, name, whole(name, value, unit, WIDEST if name in WIDTHS else LARGEST))
        for field in fields(self):
            if field.type == "bool" and not isinstance(getattr(self, field.name), bool):
                raise InputError(f"{field.name} {quote(getattr(self, field.name))}: expected True or False")

    @classmethod
    def of(cls, phase: str, inputs: Mapping[str, Any]) -> Self:
        """The options of a phase with these inputs by name.

        Raises
        ------
        InputError
            There is no such input; the message names the nearest.

        >>> Options.of("decode", {"bacth": 8})
        Traceback (most recent call last):
            ...
        symroof.errors.InputError: 'bacth' is not an input of a step: did you mean batch?
        """
        known = [field.name for field in fields(cls) if field.name != "phase"]
        for name in inputs:
            if name not in known:
                raise InputError(f"{quote(name)} is not an input of a step: {nearest(name, known)}")
        return cls(phase, **inputs)

    @property
    def decode(self) -> bool:
        """Whether this is a decode step."""
        return self.phase == "decode"

    @property
    def absorbed(self) -> bool:
        """Whether latent attention runs on the compressed vectors."""
        return self.mla == "absorbed" or (self.mla == "auto" and self.decode)

    def token_sizes(self) -> dict[str, Expr]:
        """The axes that depend on the phase: batch, queries, context, and rows of the LM head."""
        queries: Expr = Integer(1) if self.decode else symbols.s
        context: Expr = symbols.t if self.decode else symbols.s
        rows = queries if self.lm_head == "all" else Integer(1)
        return {"b": symbols.b, "s": queries, "t": context, "u": rows}

    def with_widths(self, published: Mapping[str, int], *free: Symbol) -> Options:
        """The same with numbers for the widths left out: as *published*, else 16 bits; *free* ones stay out.

        >>> Options("decode", kv_bits=8).with_widths({"weight_bits": 4})
        <Options: phase decode, weight_bits 4, activation_bits 16, kv_bits 8>
        """
        left_out = [name for name, symbol in WIDTHS.items() if getattr(self, name) is None and symbol not in free]
        return replace(self, **{name: published.get(name, BITS) for name in left_out}) if left_out else self

    def inputs(self) -> dict[Symbol, Expr]:
        """The numbers that were given, for their symbols."""
        given = {symbols.b: self.batch, symbols.t if self.decode else symbols.s: self.seq_len}
        given |= {symbol: getattr(self, name) for name, symbol in WIDTHS.items()}
        return {symbol: Integer(value) for symbol, value in given.items() if value is not None}


def whole(name: str, value: object, unit: str, highest: int = LARGEST) -> int:
    """An input that counts, as an int: Python's, numpy's or sympy's whole number, or a Quantity of this unit or of none.

    >>> whole("batch", Quantity(8, "sequence"), "request")
    8

    Raises
    ------
    InputError
        It is none of these, or out of range.
    """
    number = value
    if isinstance(value, Quantity):
        fitting = (value.to(one) for one in (unit, "") if value.is_compatible_with(one))
        exact = next((one.exact for one in fitting), None)
        number = int(exact) if exact is not None and exact.is_Integer else None
    if isinstance(number, bool) or not hasattr(number, "__index__") or not 1 <= operator.index(cast(int, number)) <= highest:
        shown = quote(str(value) if isinstance(value, Quantity) else value)
        raise InputError(f"{name} {shown}: expected a whole number from 1 to {'1e12' if highest == LARGEST else highest}")
    return operator.index(cast(int, number))
