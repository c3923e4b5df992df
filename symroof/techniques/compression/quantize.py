"""Quantization: weights, activations and KV cache in fewer bits, with the scales of their groups."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, Integer, S

from symroof import symbols
from symroof.architectures.step import Step
from symroof.conventions import BITS
from symroof.errors import InputError, nearest, quote
from symroof.operators import Block, BlockRole, Graph, Operator, Storage, Tensor, Work
from symroof.symbols import substitute
from symroof.techniques.compression.narrow_inputs import CONVERSION, with_narrow_inputs
from symroof.techniques.compression.selectors import linears, matrices, shapes, weights_of
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, word

SCALE = Integer(16)
"""Default bits of a scale."""

DEQUANTIZATION = 2
"""Operations per weight: subtract the zero point, multiply by the scale."""

KEPT = "kept"
"""The suffix of the operators in layers that keep their widths."""

UNQUANTIZED = "embedding, LM head (a draft's and Medusa's too), router, norms and biases"
"""Weights that quantization leaves unchanged, as quantized checkpoints do."""

CLASSES = {"weights": (Storage.WEIGHT, "group"), "activations": (Storage.ACTIVATION, ""), "kv": (Storage.KV_CACHE, "cache_group")}
"""Each class of operands, its storage, and the parameter of its group size."""


@dataclass(frozen=True)
class Quantize(Technique):
    """Linear weights, their inputs and the KV cache in other widths; the widest operand decides which peak applies.

    A group of G weights shares a scale of q_s bits and a zero point of q_z bits, so a weight takes
    ``q_w + (q_s + q_z) / G`` bits; an element of the cache likewise, with groups of G_c. If only weights are quantized,
    the operator keeps the peak of its activations (W4A16 computes in 16 bits); if weights and inputs have 8 bits or less,
    the peak of that width applies. With dequantize "counted", dequantization adds two operations per weight (subtract the
    zero point, multiply by the scale) in the registers of the matrix product.

    Activations of q_a bits are the inputs of the layers' linear operators, as in W8A8 serving: results, residual stream,
    norms and attention are unchanged. A separate pass (``<operator>.quantize``) reads an operator's result and writes it
    at q_a bits, once for all products that read it; the technique "fuse" merges the pass into the preceding norm or
    activation function. With scope "all" every activation has q_a bits, and attention runs under the narrow peak if the
    cache is as narrow. That is a lower bound on time: no engine does it, and no W8A8 of the same operators is faster.

    ======== ================================= ========================
    scope    activations of a linear operator  separate pass
    linear   ``(b s d q_a + b s f a) / 8``     ``b s d (a + q_a) / 8``
    all      ``(b s d + b s f) q_a / 8``       nothing
    ======== ================================= ========================

    Parameters
    ----------
    weights, activations, kv : q_w, q_a, q_c in bits; omitted classes keep their width.
    scope : which activations, "linear" (inputs of the layers' linear operators) or "all".
    group, cache_group : G of the weights and G_c of the cache. Without groups each tensor has one scale, which is not counted.
    scale, zero : q_s (default 16) and q_z in bits.
    keep : operators whose weights keep their width, joined by +; a fused group is kept as a whole.
    keep_layers : n_k, the number of layers that keep their widths, apart from the shared residual stream; their
        operators are named ``<name>.kept``.
    kind : the kind of these layers, if the model has several.
    dequantize : "free", or "counted": the two operations per weight count as work.

    Raises
    ------
    InputError
        No width is given, a parameter has nothing to act on, or a group does not divide a matrix.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> print(step.apply(Quantize(weights=4, group=128))["up_proj"].traffic)
    (8*a*b*d + 8*a*b*f + 33*d*f)/64 byte
    >>> print(step.apply(Quantize(weights=4, keep_layers=2)).graph.blocks[2].count)
    L - 2
    >>> print(step.apply(Quantize(weights=8, activations=8))["up_proj"].traffic)
    (a*b*f + 8*b*d + 8*d*f)/8 byte

    Sources: Lin et al. (2023), AWQ, arXiv:2306.00978 (groups of 128 with 16-bit scales); Xiao et al. (2022), SmoothQuant,
    arXiv:2211.10438, section 4 (8 bits for what is heavy, 16 for norms and other light operators; it multiplies queries and
    cache in 8 bits too, which serving engines do not unless asked).
    """

    name = "quantize"
    summary = "weights, activations and KV cache in fewer bits"
    survey = "3.1"
    source = "arXiv:2306.00978"
    requires = frozenset({Fact.NO_FORMAT, Fact.UNFUSED, Fact.UNSENT})
    removes = frozenset({Fact.OWN_WIDTHS, Fact.OWN_INPUTS})
    example = Example(settings={"weights": 4, "group": 128, "scale": 16})

    weights: Number = number(symbols.q_w, optional=True)
    activations: Number = number(symbols.q_a, optional=True)
    kv: Number = number(symbols.q_c, optional=True)
    group: Number = number(symbols.G, optional=True)
    cache_group: Number = number(symbols.G_c, optional=True)
    scale: Number = number(symbols.q_s, optional=True)
    zero: Number = number(symbols.q_z, 0, zero=True)
    keep: str = word("", meaning="operators whose weights keep their width, joined by +")
    keep_layers: Number = number(symbols.n_k, 0, zero=True)
    scope: str = word("linear", ("linear", "all"))
    kind: str = word("", meaning="the kind of the layers that keep their widths")
    dequantize: str = word("free", ("free", "counted"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights is None and self.activations is None and self.kv is None:
            raise self.refused("give weights, activations or kv in bits, as weights=4")
        grouped = self.group is not None or self.cache_group is not None
        of_weights = self.group is not None or self.keep or self.dequantize == "counted"
        idle = {
            "group, keep and dequantize=counted concern weights: give weights in bits": self.weights is None and of_weights,
            "cache_group concerns the KV cache: give kv in bits": self.kv is None and self.cache_group is not None,
            "scope concerns activations: give activations in bits": self.activations is None and self.scope != "linear",
            "kind selects the layers to keep: give keep_layers": self.kind and self.keep_layers == 0,
            "scale and zero belong to a group: give group or cache_group": not grouped and (self.scale is not None or self.zero != 0),
        }
        for hint, wrong in idle.items():
            if wrong:
                raise self.refused(f"{hint}")

    @property
    def required(self) -> frozenset[Fact]:
        return self.requires if self._converts else frozenset({Fact.NO_FORMAT} if self._operands else ())

    @property
    def removed(self) -> frozenset[Fact]:
        return self.removes if self._converts else frozenset({Fact.OWN_WIDTHS} if self._operands else ())

    @property
    def _operands(self) -> bool:
        """Whether it quantizes weights or activations, not just the cache."""
        return self.weights is not None or self.activations is not None

    @property
    def _converts(self) -> bool:
        """Whether separate passes convert inputs."""
        return self.activations is not None and self.scope == "linear"

    def check(self, step: Step) -> None:
        if step.options.accounting != "exact" and (self.activations, self.kv, self.keep_layers) != (None, None, 0):
            own = f"accounting {step.options.accounting!r} has its own peaks and cache"
            raise self.refused(f"{own}: quantize only weights there, in all layers, or use 'exact'")
        layers, group = self.keep_layers, self.group
        if layers.is_number and layers != 0:
            block = kind_of(step.symbolic, self.kind)
            there = substitute(substitute(block.count, step.symbolic.definitions), step.values)
            if there.is_number and layers >= there:
                raise self.refused(f"keep_layers {self.keep_layers}: expected fewer than the {there} of {block.name}")
        if group is None or not group.is_number:
            return
        for name, (inputs, _) in shapes(step.symbolic, step.values, self._chosen(step.symbolic)).items():
            if inputs.is_number and inputs % group != 0:
                fits = next(size for size in range(int(min(group, inputs)), 0, -1) if inputs % size == 0)
                raise self.refused(f"group {self.group} does not divide the {inputs} inputs of {name}: {fits} does, or keep={name}")

    def on_step(self, step: Step) -> Step:
        self.check(step)
        given, defined = self.parameters(step.symbolic)
        width = step.values.get(symbols.a, BITS)
        if self._converts and self.activations == width:  # inputs have this width already: there is nothing to convert
            given.pop("activations")
            defined.pop(symbols.q_a, None)
        return replace(step, symbolic=self.recorded(step.symbolic, given, defined))

    def _chosen(self, graph: Graph) -> tuple[Operator, ...]:
        """The linear operators that change; routers keep their weights, as in quantized checkpoints."""
        kept = linears(graph, self.keep, groups=True) if self.keep else ()
        return tuple(operator for operator in linears(graph, groups=True) if operator not in kept)

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        graph, spared = split_block(graph, self.kind, given["keep_layers"]) if given["keep_layers"] != 0 else (graph, set())
        if "activations" in given and self._converts:
            multiplied = weights_of(self._chosen(graph)) - spared
            products = tuple(operator for operator in self._chosen(graph) if weights_of([operator]) <= multiplied)
            graph = with_narrow_inputs(graph, products, given["activations"])
        weights = weights_of(self._chosen(graph)) - spared if "weights" in given else set()
        shared = given.get("scale", SCALE) + given["zero"]
        widths: dict[Storage, tuple[Expr, Expr]] = {}
        for name, (storage, group) in CLASSES.items():
            if name in given and (storage is not Storage.ACTIVATION or self.scope == "all"):
                widths[storage] = given[name], shared / given[group] if group in given else S.Zero

        def narrow(tensor: Tensor) -> Tensor:
            changes = tensor in weights if tensor.storage is Storage.WEIGHT else tensor.storage in widths and tensor not in spared
            if not changes:
                return tensor
            bits, beside = widths[tensor.storage]
            return replace(tensor, bits=bits, overhead=beside)

        def widened(old: Operator, new: Operator, _: Block) -> Operator:
            if self.dequantize == "free":
                return new
            read = [access for access in matrices(old) if access.tensor in weights]
            return replace(new, work=(*new.work, *(Work(access.touched, DEQUANTIZATION) for access in read)))

        return graph.map(tensor=narrow, operator=widened)

    def statements(self, given: Given) -> tuple[str, ...]:
        widths = []
        for name, (_, group) in CLASSES.items():
            if name in given:
                which = " (inputs of the layers' linear operators)" if name == "activations" and self.scope == "linear" else ""
                beside = f" + (q_s + q_z)/{getattr(self, group)}" if group in given else ""
                widths.append(f"{name}{which} {getattr(self, name)}{beside} bits")
        grouped = "group" in given or "cache_group" in given
        scales = f"q_s = {self.scale or SCALE}, q_z = {self.zero}" if grouped else "per-tensor scales not counted"
        also = f"weights of {UNQUANTIZED} keep their width; " if "weights" in given else ""
        free = "dequantization is free"
        how = free if self.dequantize == "free" else "dequantization takes two operations per weight at the matrix peak"
        kept = f"; kept: weights of {self.keep}" if self.keep else ""
        layers = f"; {self.keep_layers} layers kept (.{KEPT})" if given["keep_layers"] != 0 else ""
        main = f"quantize: {', '.join(widths) or 'widths unchanged'}; {scales}; {also}{how}{kept}{layers}"
        if "activations" not in given:
            return (main,)
        if self.scope == "all":
            bound = "a lower bound on time: it includes residual stream, norms and attention, which engines keep wider"
            return (main, f"quantize: every activation in {self.activations} bits is {bound}")
        how = f"by a separate pass of {CONVERSION} operations per element (fuse merges it into the preceding norm or activation)"
        return (main, f"quantize: each input is converted once, {how}; results, residual stream, norms and attention are unchanged")


def kind_of(graph: Graph, kind: str) -> Block:
    """The layer block of this kind, or the only kind if none is given; an InputError if there is none, or more than one."""
    repeated = {block.kind: block for block in graph.blocks if block.role is BlockRole.LAYER and not block.split}
    if kind in repeated:
        return repeated[kind]
    if kind:
        raise InputError(f"{quote(kind)} is not a kind of layer of this model: {nearest(kind, repeated)}")
    if len(repeated) != 1:
        raise InputError(f"this model has several kinds of layers: choose with kind=, {', '.join(repeated)}")
    return next(iter(repeated.values()))


def split_block(graph: Graph, kind: str, count: Expr) -> tuple[Graph, set[Tensor]]:
    """The graph with *count* layers of a kind in a separate block, and the tensors that only these layers have.

    Their operators are named ``<name>.kept``. Tensors that all layers use, such as the residual stream and the table of
    the rotary embedding, stay shared.

    >>> import symroof
    >>> from symroof.symbols import n_k
    >>> graph, _ = split_block(symroof.load_model("opt-125m").decode(symbolic=True).symbolic, "", n_k)
    >>> [(block.name, block.count) for block in graph.blocks][1:3]
    [('layer.kept', n_k), ('layer', L - n_k)]
    """
    chosen = kind_of(graph, kind)
    if chosen.copies is not None:
        raise InputError(f"not every token runs through every {chosen.name}: apply keep_layers before layers are skipped")
    if any(block.split and block.kind == chosen.kind for block in graph.blocks):
        raise InputError(f"layers of {chosen.name} are split already")
    shared = {tensor for block in graph.blocks if block is not chosen for tensor in block.tensors()}
    written = {access.tensor for operator in chosen.operators for access in operator.writes}
    shared |= {tensor for tensor in chosen.tensors() if tensor.storage is Storage.ACTIVATION and tensor not in written}
    copied = graph.map(
        tensor=lambda tensor: tensor if tensor in shared else replace(tensor),
        operator=lambda _, operator, block: operator.suffixed(KEPT),
        blocks=lambda block: block is chosen,
    )
    place = graph.blocks.index(chosen)
    copy = copied.blocks[place]
    halves = replace(copy, name=f"{copy.name}.{KEPT}", count=count, split=True), replace(chosen, count=chosen.count - count)
    blocks = (*graph.blocks[:place], *halves, *graph.blocks[place + 1 :])
    return replace(graph, blocks=blocks), {*copy.tensors()} - shared
