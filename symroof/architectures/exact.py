"""The accounting `exact`: the real block, every operand read once, every result written once."""

from __future__ import annotations

from symroof.architectures.architecture import Architecture
from symroof.architectures.options import Options
from symroof.operators.graph import Graph

ONE_WIDTH = "all weights at the weight width, norms and embeddings included"


def graph(architecture: Architecture, options: Options) -> Graph:
    """The graph of one step, every dimension a letter."""
    space = architecture.space(options)
    return Graph(
        architecture.blocks(space, options),
        definitions=architecture.definitions(options),
        statements=(*_statements(architecture, options), *architecture.statements(options)),
    )


def _statements(architecture: Architecture, options: Options) -> list[str]:
    lines = ["every operator reads each operand once from memory and writes its result once"]
    if options.flash_attention:
        lines.append("FlashAttention: scores stay on chip, keys and values are read per KV head, once for every block of query rows")
    if architecture.generative:
        if options.decode:
            lines.append("decode: one token per sequence; the context length includes it")
        elif options.causal:
            lines.append("causal: s(s+1)/2 query-key pairs in prefill, in FLOPs and in scores moved")
        else:
            lines.append("no causal discount: all s x s query-key pairs")
        lines.append(f"LM head on {'the last token of each sequence' if options.lm_head == 'last' else 'every token'}")
    lines += [
        "embedding: only the rows looked up are read, the token indices are not counted",
        "FLOPs: 2 per multiply-accumulate, 5 per softmax score, 4 (RMS) or 7 (layer) per normed element, 3 per turned component",
        "peak: the fastest data type as wide as every operand read, dense; what is not a matmul runs in at least 16 bits",
        ONE_WIDTH,
    ]
    return lines
