"""LLM-Viewer's accounting, sic: an architecture of its own, in the same language as the others.

`llm-viewer` is revision 472f71f (30 July 2024), `survey` revision 94ab17b (3 March 2024), the one
behind the paper. Every departure from the real block is kept and marked "sic"; what each costs is in
docs/accountings.md. The tool: github.com/hahnyuan/LLM-Viewer; the paper: arXiv 2402.16363.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from sympy import Add, Expr, Integer, Min, ceiling

from symroof import symbols
from symroof.architectures.architecture import Architecture
from symroof.architectures.options import Options
from symroof.architectures.parts.part import BlockBuilder, residual_stream
from symroof.conventions import Convention
from symroof.errors import InputError, quote
from symroof.operators.attention import CACHE, as_one, scores, weighted_sum
from symroof.operators.block import Block
from symroof.operators.facts import BlockRole, Kind, Parameter, Role
from symroof.operators.graph import Graph
from symroof.operators.linear import linear
from symroof.operators.operator import Direction, Operator, Work
from symroof.operators.tensor import Access, Space, Storage, Tensor, axes_of, widest

FAMILIES = ("llama", "opt", "gptj", "chatglm", "dit")
"""The families that LLM-Viewer knows."""

SURVEY_MODELS = ("llama-2-7b", "llama-2-13b")

FLOPS = {"softmax": 5, "norm": 7, "add": 1, "act": 2}
"""Per element."""


@dataclass(frozen=True, eq=False)
class ViewerGraph(Graph):
    """A graph whose memory and peaks follow LLM-Viewer's rules.

    Attributes
    ----------
    widths : bits of weights, activations and KV cache; all three decide the peak.
    """

    widths: tuple[Expr, ...] = (symbols.w, symbols.a, symbols.c)
    cache: Expr = field(default_factory=lambda: Integer(0))

    @property
    def _layers(self) -> list[Block]:
        return [block for block in self.blocks if block.role is BlockRole.LAYER]

    def weight_memory(self) -> Expr:
        """Weights of the linear layers, without embedding and LM head (sic)."""
        return Add(*(block.count * op.byte_count(Storage.WEIGHT) for block in self._layers for op in block.operators))

    def kv_memory(self) -> Expr:
        """Bytes that prefill of the whole context writes to the cache."""
        return Add(*(block.count * self.cache for block in self._layers))

    def activation_memory(self) -> Expr:
        """All activations that one layer writes, as if no buffer were reused (sic)."""
        written = (op.byte_count(Storage.ACTIVATION, Direction.WRITE) for block in self._layers for op in block.operators)
        return Add(*written)

    def data_types(self, operator: Operator) -> tuple[str, ...]:
        """INT8 if all three widths are 8 bits or less, otherwise FP16, for all operators (sic)."""
        return ("int8",) if widest("llm-viewer", self.widths) <= 8 else ("fp16",)


def graph(architecture: Architecture, options: Options, name: str) -> ViewerGraph:
    """The graph of one step as LLM-Viewer counts it.

    Raises
    ------
    InputError
        LLM-Viewer does not support the model's family, or `survey` is requested for a model other than
        Llama-2-7b or 13b.
    """
    if architecture.family not in FAMILIES:
        raise InputError(
            f"accounting {options.accounting!r} knows the families {', '.join(FAMILIES)}, not {architecture.family}; 'exact' covers it"
        )
    survey = options.accounting == "survey"
    if survey and name not in SURVEY_MODELS:
        raise InputError(f"accounting 'survey' covers {' and '.join(SURVEY_MODELS)}, not {quote(name)}; 'llm-viewer' covers the others")
    space = Space(_axes(architecture) | options.token_sizes() | {"u": Integer(1)})
    layer = _layer(architecture, space, options, survey)
    head = [_lm_head(space, survey)] if architecture.generative else []
    blocks = (layer, *(Block("head", (operator,)) for operator in head))
    context = space.points(CACHE) * symbols.c / 8
    definitions = {symbols.R: _block_rows(space)} if options.flash_attention and not options.decode else {}
    return ViewerGraph(blocks, definitions, _conventions(options), cache=2 * context)


def _axes(architecture: Architecture) -> dict[str, Expr]:
    grouped = symbols.k in architecture.dimensions
    heads = {"k": symbols.k if grouped else symbols.h, "g": symbols.h / symbols.k if grouped else Integer(1)}
    return {"d": symbols.d, "f": symbols.f, "v": symbols.v, "o": symbols.d, "e": symbols.d / symbols.h, **heads}


def _layer(architecture: Architecture, space: Space, options: Options, survey: bool) -> Block:
    record = BlockBuilder()
    x = residual_stream(space)
    keys, values = Tensor("k_cache", CACHE, Storage.KV_CACHE, space), Tensor("v_cache", CACHE, Storage.KV_CACHE, space)
    parallel = architecture.family == "gptj"

    record(_unary("attn_norm", Kind.NORM, Role.NORM, x, FLOPS["norm"]))
    q = record(linear("q_proj", "b s d, d k g e -> b s k g e", x))
    record(linear("k_proj", "b s d, d k e -> b s k e", x, into=keys))
    record(linear("v_proj", "b s d, d k e -> b s k e", x, into=values))
    attention = _fused if options.flash_attention else _unfused
    for operator in attention(q, keys, values, options, survey):
        record(operator)
    record(linear("out_proj", "b s d, d o -> b s o", x))
    record(_unary("attn_add", Kind.ELEMENTWISE, Role.ADD, x, FLOPS["add"]))  # sic: one operand
    if not parallel:
        record(_unary("mlp_norm", Kind.NORM, Role.NORM, x, FLOPS["norm"]))
        record(linear("gate_proj", "b s d, d f -> b s f", x))  # sic: OPT and DiT have none
    up = record(linear("up_proj", "b s d, d f -> b s f", x))
    record(_unary("mlp_act", Kind.ELEMENTWISE, Role.ACTIVATION, x, FLOPS["act"], repeats=2))  # sic: hidden, not intermediate size
    record(linear("down_proj", "b s f, f d -> b s d", up))
    record(_unary("mlp_add", Kind.ELEMENTWISE, Role.ADD, x, FLOPS["add"]))  # sic: one operand
    return record.layers()


def _unary(name: str, kind: Kind, role: Role, x: Tensor, flops: int, repeats: int = 1) -> Operator:
    out = Tensor(name, x.axes, Storage.ACTIVATION, x.space)
    return Operator(name, kind, x.space, (Work(x.axes, flops),), (Access(x, repeats=Integer(repeats)),), (Access(out),), role=role)


def _unfused(q: Tensor, keys: Tensor, values: Tensor, options: Options, survey: bool) -> tuple[Operator, ...]:
    product = scores(q, keys)
    if not options.decode and survey:
        product = replace(product, reads=(Access(keys, repeats=Integer(2)),))  # sic: the keys twice, the queries not at all
    elif not options.decode:
        product = replace(product, reads=(Access(q, axes_of("b s k e")), Access(keys)))  # sic: queries sized by KV heads
    softmax = _unary("softmax", Kind.SOFTMAX, Role.SOFTMAX, product.result, FLOPS["softmax"])
    return product, softmax, weighted_sum(softmax.result, values)


def _fused(q: Tensor, keys: Tensor, values: Tensor, options: Options, survey: bool) -> tuple[Operator, ...]:
    steps = _unfused(q, keys, values, options, survey)
    passes: Expr = Integer(1) if options.decode else ceiling(q.space.sizes["s"] / symbols.R)  # R is at least 1
    cached = (keys,) if survey else (keys, values)  # sic: the survey's revision reads one of the two
    reads = (Access(q), *(Access(tensor, axes_of("b t k g e"), passes) for tensor in cached))  # sic: query heads
    written = Access(steps[0].result, repeats=Integer(2))  # sic: the output is s x e, not twice s x t
    return (replace(as_one(steps, reads), writes=(written,)),)


def _block_rows(space: Space) -> Expr:
    """``min(ceil(buffer / (bytes per KV element x e)), e)``."""
    head_dim = space.sizes["e"]
    return Min(ceiling(8 * symbols.M / (symbols.c * head_dim), evaluate=False), head_dim, evaluate=False)


def _lm_head(space: Space, survey: bool) -> Operator:
    """One FLOP per multiply-accumulate and activations of one sequence (sic)."""
    bits = Integer(8) if survey else symbols.w  # sic: one byte per weight whatever the width
    weight = Tensor("lm_head.weight", axes_of("d v"), Storage.WEIGHT, space, bits, parameter=Parameter.HEAD)
    x, logits = Tensor("hidden", ("d",), Storage.ACTIVATION, space), Tensor("logits", ("v",), Storage.ACTIVATION, space)
    work = (Work(axes_of("b d v"), 1, contraction=True),)
    return Operator("lm_head", Kind.MATMUL, space, work, (Access(x), Access(weight)), (Access(logits),), role=Role.HEAD)


def _conventions(options: Options) -> tuple[Convention, ...]:
    revision = "94ab17b (3 March 2024, behind the paper)" if options.accounting == "survey" else "472f71f (30 July 2024)"
    texts = {
        "accounting": f"LLM-Viewer's accounting at revision {revision}, its slips kept; docs/accountings.md lists them",
        "mask": "no causal discount: all s x s query-key pairs; LM head once, one FLOP per multiply-accumulate",
        "operators": "no embedding, no rotary embedding; every model but GPT-J is given a gate projection",
        "peak": "peak: INT8 when weights, activations and KV cache are all at 8 bits or less, FP16 otherwise, dense",
        "memory": "memory: weights without embedding and LM head; all activations one layer writes, with no reuse of buffers",
        "phase": "decode: one token per sequence; --causal and --lm-head change nothing"
        if options.decode
        else "--causal and --lm-head change nothing",
    }
    return tuple(Convention(key, text, "docs/accountings.md") for key, text in texts.items())
