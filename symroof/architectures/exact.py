"""The accounting `exact`: the model's real blocks, every operand read once, every result written once."""

from __future__ import annotations

from symroof.architectures.architecture import Architecture
from symroof.architectures.options import Options
from symroof.conventions import BITS, Convention
from symroof.operators.experts import UNIFORM, Routing
from symroof.operators.graph import Graph
from symroof.operators.query_blocks import ROWS, QueryBlocks

WEIGHT_WIDTH = "weight-width"
"""The key of the convention on the width of weights."""

OPERANDS = "every operator reads each operand once from memory and writes its result once"
PEAK = "peak: dense, of the fastest data type at least as wide as every operand; operators other than matmuls run in at least 16 bits"


def graph(architecture: Architecture, options: Options) -> Graph:
    """The graph of one step with symbolic dimensions."""
    space = architecture.space(options)
    tokens = space.sizes["b"] * space.sizes["s"]
    plain = Graph(
        architecture.blocks(space, options),
        definitions=architecture.definitions(options),
        conventions=(*_conventions(architecture, options), *architecture.conventions(options)),
        pass_tokens=tokens,
        decode=options.decode,
        query_blocks=QueryBlocks() if options.flash_attention else None,
    ).completed()
    if not architecture.routed:
        return plain
    return plain.with_routing(Routing(tokens, UNIFORM if options.experts == "expected" else ()))


def _conventions(architecture: Architecture, options: Options) -> tuple[Convention, ...]:
    texts = {"operands": OPERANDS}
    if options.flash_attention:
        how = "scores stay on chip; keys and values are read from memory once if those of a KV head fit the last-level cache"
        how += f", else once per set of concurrent blocks of {ROWS} query rows"
        texts["flash-attention"] = f"FlashAttention: {how}"
    if architecture.generative:
        causal = "causal: s(s+1)/2 query-key pairs in prefill, in FLOPs and in scores moved"
        if options.decode:
            texts["phase"] = "decode: one token per sequence; the context length includes it"
        elif not architecture.encodes:
            texts["mask"] = causal if options.causal else "no causal discount: all s x s query-key pairs"
        texts["lm-head"] = f"LM head on {'the last token of each sequence' if options.lm_head == 'last' else 'every token'}"
    each = "2 per multiply-accumulate, 5 per softmax score, 4 (RMS) or 7 (layer) per normed element, 3 per rotated component"
    texts |= {
        "embedding": "embedding: only the rows looked up are read, token indices are not counted",
        "flops": f"FLOPs: {each}",
        "peak": PEAK,
        WEIGHT_WIDTH: "all weights at the weight width, norms and embeddings included",
    }
    if options.weight_bits is not None and options.weight_bits < BITS:
        alone = "the technique quantize narrows only the matrices of the layers and counts the scales of their groups"
        texts[WEIGHT_WIDTH] = f"every weight at {options.weight_bits} bits, norms and embeddings included, without scales; {alone}"
    return tuple([Convention(key, text) for key, text in texts.items()])
