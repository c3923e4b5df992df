"""The accounting `exact`: the real block, every operand read once, every result written once."""

from __future__ import annotations

from symroof.architectures.architecture import Architecture
from symroof.architectures.options import Options
from symroof.conventions import BITS, Convention
from symroof.operators.experts import UNIFORM, Routing
from symroof.operators.graph import Graph
from symroof.operators.query_blocks import ROWS, QueryBlocks

WEIGHT_WIDTH = "weight-width"
"""Key of the convention that says which weights have the weight width."""


def graph(architecture: Architecture, options: Options) -> Graph:
    """The graph of one step, every dimension a letter."""
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
    texts = {"operands": "every operator reads each operand once from memory and writes its result once"}
    if options.flash_attention:
        how = "scores stay on chip; keys and values cross memory once while those of a KV head fit the last-level cache"
        how += f", else once for the blocks of {ROWS} query rows that run side by side"
        texts["flash-attention"] = f"FlashAttention: {how}"
    if architecture.generative:
        causal = "causal: s(s+1)/2 query-key pairs in prefill, in FLOPs and in scores moved"
        if options.decode:
            texts["phase"] = "decode: one token per sequence; the context length includes it"
        else:
            texts["mask"] = causal if options.causal else "no causal discount: all s x s query-key pairs"
        texts["lm-head"] = f"LM head on {'the last token of each sequence' if options.lm_head == 'last' else 'every token'}"
    each = "2 per multiply-accumulate, 5 per softmax score, 4 (RMS) or 7 (layer) per normed element, 3 per turned component"
    peak = "the fastest data type as wide as every operand read, dense; what is not a matmul runs in at least 16 bits"
    texts |= {
        "embedding": "embedding: only the rows looked up are read, the token indices are not counted",
        "flops": f"FLOPs: {each}",
        "peak": f"peak: {peak}",
        WEIGHT_WIDTH: "all weights at the weight width, norms and embeddings included",
    }
    if options.weight_bits is not None and options.weight_bits < BITS:
        alone = "the technique quantize narrows the matrices of the layers alone and counts the scales of their groups"
        texts[WEIGHT_WIDTH] = f"every weight at {options.weight_bits} bits, norms and embeddings included, without scales; {alone}"
    return tuple(Convention(key, text) for key, text in texts.items())
