"""What a step is: its phase, its inputs and its conventions, checked once."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from sympy import Expr, Integer, Symbol

from symroof import symbols
from symroof.conventions import BITS
from symroof.errors import InputError, member, quote

PHASES = ("prefill", "decode")
LM_HEADS = ("last", "all")
ACCOUNTINGS = ("exact", "llm-viewer", "survey")
MLA_FORMS = ("auto", "absorbed", "decompressed")
EXPERTS = ("expected", "at-most")
LARGEST = 10**12
WIDEST = 64
WIDTHS = {"weight_bits": symbols.w, "activation_bits": symbols.a, "kv_bits": symbols.c}


@dataclass(frozen=True)
class Options:
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
        for name in ("batch", "seq_len", *WIDTHS):
            value, high = getattr(self, name), WIDEST if name in WIDTHS else LARGEST
            if isinstance(value, Integer):  # an exact answer of the library may come back in
                value = int(value)
                object.__setattr__(self, name, value)
            if value is not None and not (type(value) is int and 1 <= value <= high):
                raise InputError(f"{name} {quote(value)}: expected a whole number from 1 to {'1e12' if high == LARGEST else high}")
        for field in fields(self):
            if field.type == "bool" and not isinstance(getattr(self, field.name), bool):
                raise InputError(f"{field.name} {quote(getattr(self, field.name))}: expected True or False")

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

    def with_widths(self, published: int, *free: Symbol) -> Options:
        """The same with numbers for the widths left out: weights as *published*, the others of 16 bits; *free* ones stay out.

        >>> Options("decode", kv_bits=8).with_widths(4)
        Options(phase='decode', batch=None, seq_len=None, weight_bits=4, activation_bits=16, kv_bits=8, accounting='exact', ...)
        """
        left_out = [name for name, symbol in WIDTHS.items() if getattr(self, name) is None and symbol not in free]
        return replace(self, **{name: published if name == "weight_bits" else BITS for name in left_out}) if left_out else self

    def inputs(self) -> dict[Symbol, Expr]:
        """The numbers that were given, for their symbols."""
        given = {symbols.b: self.batch, symbols.t if self.decode else symbols.s: self.seq_len}
        given |= {symbol: getattr(self, name) for name, symbol in WIDTHS.items()}
        return {symbol: Integer(value) for symbol, value in given.items() if value is not None}
