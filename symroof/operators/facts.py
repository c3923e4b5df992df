"""Facts about operators, weights and blocks that techniques and questions use instead of parsing names."""

from __future__ import annotations

import functools
from enum import StrEnum


class Kind(StrEnum):
    """What an operator computes. Every contraction of two tensors is a matmul, including those of attention."""

    MATMUL = "matmul"
    FUSED_ATTENTION = "fused_attention"
    SOFTMAX = "softmax"
    NORM = "norm"
    ROTARY = "rotary"
    ELEMENTWISE = "elementwise"
    EMBEDDING = "embedding"
    CONVOLUTION = "convolution"
    SCAN = "scan"
    COLLECTIVE = "collective"
    TRANSFER = "transfer"


COMMUNICATION = frozenset({Kind.COLLECTIVE, Kind.TRANSFER})
"""Kinds of operators that only move bytes: no peak applies to them."""

CONTRACTIONS = frozenset({Kind.MATMUL, Kind.FUSED_ATTENTION})
"""Kinds of operators whose FLOPs are those of contractions."""


class Role(StrEnum):
    """The role of an operator in the model."""

    EMBEDDING = "embedding"
    NORM = "norm"
    PROJECTION = "projection"
    ROUTER = "router"
    ROUTING = "routing"
    HEAD = "head"
    SCORES = "scores"
    SCORE_CAP = "score_cap"
    SOFTMAX = "softmax"
    WEIGHTED_SUM = "weighted_sum"
    ATTENTION = "attention"
    MERGE = "merge"
    COMBINE = "combine"
    INDEX = "index"
    ROTARY = "rotary"
    ACTIVATION = "activation"
    GATE = "gate"
    ADD = "add"
    SCALE = "scale"
    RECURRENCE = "recurrence"
    QUANTIZATION = "quantization"
    PREDICTOR = "predictor"
    COMMUNICATION = "communication"
    OTHER = "other"


ATTENTION_STEPS = frozenset({Role.SCORES, Role.SCORE_CAP, Role.SOFTMAX, Role.WEIGHTED_SUM})
"""Roles of the operators of unfused attention."""

ATTENTION_ROLES = ATTENTION_STEPS | {Role.ATTENTION, Role.MERGE}
"""Roles of attention, unfused or fused, and of the operator that merges partial outputs of split attention."""


class Parameter(StrEnum):
    """The function of a weight in its operator."""

    MATRIX = "matrix"
    ROUTER = "router"
    HEAD = "head"
    TABLE = "table"
    NORM = "norm"
    BIAS = "bias"
    SINK = "sink"
    FILTER = "filter"
    RECURRENCE = "recurrence"
    SCALAR = "scalar"


MULTIPLIED = frozenset({Parameter.MATRIX, Parameter.ROUTER, Parameter.HEAD, Parameter.TABLE})
"""Weights that a matrix product multiplies by; a table is one if the LM head is tied to the embedding."""

NOT_AN_OPERAND = frozenset({Parameter.BIAS, Parameter.SINK})
"""Weights that are not an operand of a product: a bias is added to its sum, a sink takes part in a softmax."""


class BlockRole(StrEnum):
    """The role of a block in the step."""

    LAYER = "layer"
    END = "end"
    DRAFT = "draft"
    GUESSES = "guesses"
    STAGE = "stage"


class Structure(StrEnum):
    """What a graph says about its axes. Graphs of the families say all of it, a traced module only what its sizes show."""

    BATCH = "sequences as an axis of their own"
    TOKENS = "the tokens of a step as an axis of their own"
    PARTS = "heads, MLP channels and vocabulary as axes, and an LM head, known as such"


class Resource(StrEnum):
    """A resource that a machine provides at a rate; an operator is bound by the resource with the longest time.

    FLOPs of contractions are demand on COMPUTE, the matrix units; all other FLOPs on VECTOR. A machine without a stated
    vector peak runs both on its matrix units. LINK is the total bandwidth to the other devices of a node, PEER the link to a
    single device, NETWORK the connection to other nodes. LATENCY is the time of dependent steps of a kernel, independent of
    rates; only calibrated kernels have it.
    """

    COMPUTE = "compute"
    VECTOR = "vector"
    EXPONENTIAL = "exponential"
    MEMORY = "memory"
    HOST = "host"
    LINK = "link"
    CHIP = "chip"
    CACHE = "cache"
    LATENCY = "latency"
    PEER = "peer"
    NETWORK = "network"

    @property
    def ceiling(self) -> str:
        """Its rate in words: "matrix peak", "cache bandwidth"."""
        own = {"compute": "matrix peak", "vector": "vector peak", "exponential": "exponential rate", "latency": "latency"}
        return own.get(self, f"{self} bandwidth")


BITS = {"fp64": 64, "fp32": 32, "tf32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int8": 8, "fp6": 6, "fp4": 4, "int4": 4}
"""Bits of an operand in memory; tf32 reads 32 bits per operand and multiplies 19 of them."""

REDUCED = frozenset({"tf32"})
"""Types that drop bits of their operands; chosen only on request."""


@functools.cache
def wide_enough(bits: int | float) -> tuple[str, ...]:
    """The data types that represent operands of *bits* bits without loss, narrowest first.

    >>> wide_enough(16)
    ('fp16', 'bf16', 'fp32', 'fp64')
    >>> wide_enough(5)
    ('fp6', 'fp8', 'int8', 'fp16', 'bf16', 'fp32', 'fp64')
    """
    return tuple(sorted((name for name, width in BITS.items() if width >= bits and name not in REDUCED), key=BITS.__getitem__))
