"""What operators, weights and blocks *are*: facts that techniques and questions ask for, so that no name is taken apart."""

from __future__ import annotations

import functools
from enum import StrEnum


class Kind(StrEnum):
    """What an operator computes. Every contraction of two tensors is a matmul, attention's included."""

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
"""Kinds of operators that move bytes and compute nothing: no peak applies to them."""

CONTRACTIONS = frozenset({Kind.MATMUL, Kind.FUSED_ATTENTION})
"""Kinds of operators whose FLOPs are those of contractions."""


class Role(StrEnum):
    """What an operator is in the model."""

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
"""Roles of the operators of attention that hands its scores through memory."""

ATTENTION_ROLES = ATTENTION_STEPS | {Role.ATTENTION, Role.MERGE}
"""Roles of attention, in steps or as one operator, and of what merges the partial outputs of one that was split."""


class Parameter(StrEnum):
    """What a weight is in its operator."""

    MATRIX = "matrix"
    ROUTER = "router"
    HEAD = "head"
    TABLE = "table"
    NORM = "norm"
    BIAS = "bias"
    SINK = "sink"
    FILTER = "filter"
    RECURRENCE = "recurrence"


MULTIPLIED = frozenset({Parameter.MATRIX, Parameter.ROUTER, Parameter.HEAD, Parameter.TABLE})
"""Weights that a matrix product multiplies by; a table does so where the LM head is tied to the embedding."""

NOT_AN_OPERAND = frozenset({Parameter.BIAS, Parameter.SINK})
"""Weights that are no operand of a product: a bias is added to its sum, a sink takes part in a softmax."""


class BlockRole(StrEnum):
    """What a block is in the step."""

    LAYER = "layer"
    END = "end"
    DRAFT = "draft"
    GUESSES = "guesses"
    STAGE = "stage"


class Resource(StrEnum):
    """Something a machine provides at a rate; an operator is bound by the one that keeps it longest.

    FLOPs of contractions are demand on COMPUTE, the matrix units; all other FLOPs on VECTOR. A machine that states no vector
    peak does both on its matrix units. LINK is all links to other devices of a node together, PEER the one to a single device,
    NETWORK what leads to other nodes. LATENCY is what dependent steps of a kernel take whatever the rates are; calibrated kernels
    alone have it.
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


BITS = {"fp64": 64, "fp32": 32, "tf32": 32, "fp16": 16, "bf16": 16, "fp8": 8, "int8": 8, "fp6": 6, "fp4": 4, "int4": 4}
"""Bits an operand occupies in memory; tf32 reads operands of 32 bits and multiplies 19 of them."""

REDUCED = frozenset({"tf32"})
"""Types that drop bits of what they read; never chosen unasked."""


@functools.cache
def wide_enough(bits: int | float) -> tuple[str, ...]:
    """The data types that hold operands of so many bits without loss of width, narrowest first.

    >>> wide_enough(16)
    ('fp16', 'bf16', 'fp32', 'fp64')
    >>> wide_enough(5)
    ('fp6', 'fp8', 'int8', 'fp16', 'bf16', 'fp32', 'fp64')
    """
    return tuple(sorted((name for name, width in BITS.items() if width >= bits and name not in REDUCED), key=BITS.__getitem__))
