"""Every symbol once: its letter, its name, what it means, its unit and where it lives.

All symbols are positive. That some count whole things is kept beside the symbol, as ``domain``, and
not in sympy's assumptions: integer symbols make ``solve`` drop the roots between two integers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import cast

from sympy import Expr, Symbol

from symroof.errors import InputError, nearest, quote

Values = Mapping[Symbol, Expr]
"""Numbers (or other expressions) to put in the place of symbols."""


@dataclass(frozen=True)
class Variable:
    """A symbol and what it stands for.

    Attributes
    ----------
    symbol : the sympy symbol, positive.
    name : the field's name for it, as options and files spell it.
    meaning : a phrase for tables and legends.
    unit : a unit of the registry.
    domain : "integer" or "real".

    >>> lookup("head_dim").symbol
    e
    >>> lookup("P").unit
    'FLOP/second'
    """

    symbol: Symbol
    name: str
    meaning: str
    unit: str
    domain: str


VOCABULARY: dict[Symbol, Variable] = {}


def _variable(letter: str, name: str, meaning: str, unit: str = "dimensionless", domain: str = "integer") -> Symbol:
    symbol = Symbol(letter, positive=True)
    VOCABULARY[symbol] = Variable(symbol, name, meaning, unit, domain)
    return symbol


b = _variable("b", "batch", "sequences in the batch")
s = _variable("s", "seq_len", "tokens per sequence that this step computes")
t = _variable("t", "context_len", "context length: tokens a query can look at, itself included")

d = _variable("d", "hidden_size", "hidden size")
f = _variable("f", "intermediate_size", "intermediate size of the MLP")
h = _variable("h", "num_heads", "query heads")
k = _variable("k", "num_kv_heads", "KV heads")
g = _variable("g", "group_size", "query heads per KV head")
e = _variable("e", "head_dim", "head dimension")
v = _variable("v", "vocab_size", "vocabulary size")
L = _variable("L", "num_layers", "layers, where all are of one kind")
r = _variable("r", "rotary_dim", "components of a head that the rotary embedding turns")
m = _variable("m", "max_positions", "rows of the position embedding")
d_t = _variable("d_t", "embedding_size", "width of the token embedding, where it is not the hidden size")

W = _variable("W", "sliding_window", "latest tokens that a layer with a sliding window looks at")
t_w = _variable("t_w", "window_context", "context of a layer with a sliding window, min(context, W)")

E = _variable("E", "num_experts", "routed experts of a layer")
K = _variable("K", "experts_per_token", "routed experts each token goes to")
X = _variable("X", "experts_touched", "routed experts of a layer whose weights a step reads")
f_e = _variable("f_e", "expert_intermediate_size", "intermediate size of a routed expert")
f_s = _variable("f_s", "shared_intermediate_size", "intermediate size of the experts all tokens share")

r_q = _variable("r_q", "q_lora_rank", "rank of the compressed queries of latent attention")
r_kv = _variable("r_kv", "kv_lora_rank", "rank of the compressed keys and values of latent attention")
e_n = _variable("e_n", "qk_nope_head_dim", "components of a key that the rotary embedding leaves alone, in latent attention")
e_v = _variable("e_v", "v_head_dim", "components of a value, in latent attention")

d_i = _variable("d_i", "ssm_inner_size", "channels of a state-space layer")
d_s = _variable("d_s", "state_size", "states per channel of a state-space layer")
k_c = _variable("k_c", "conv_kernel", "taps of the causal convolution")
r_t = _variable("r_t", "time_step_rank", "rank of the time steps of a state-space layer")
h_s = _variable("h_s", "ssm_heads", "heads of a state-space layer (Mamba-2)")
e_s = _variable("e_s", "ssm_head_dim", "channels of a head of a state-space layer (Mamba-2)")
g_s = _variable("g_s", "ssm_groups", "groups of heads that share B and C (Mamba-2)")

k_l = _variable("k_l", "linear_num_key_heads", "key heads of linear attention")
h_l = _variable("h_l", "linear_num_value_heads", "value heads of linear attention")
e_k = _variable("e_k", "linear_key_head_dim", "components of a key of linear attention")
e_l = _variable("e_l", "linear_value_head_dim", "components of a value of linear attention")

p = _variable("p", "patch_size", "side of a patch, in pixels of the image (DiT: of the latent one)")
C = _variable("C", "in_channels", "channels of the image (DiT: of the latent one)")
D = _variable("D", "out_channels", "channels of the prediction")
N = _variable("N", "num_classes", "rows of the class embedding, or classes of a classifier")
F = _variable("F", "timestep_features", "sinusoidal features of the diffusion timestep")

w = _variable("w", "weight_bits", "bits per weight", "bit", "real")
a = _variable("a", "activation_bits", "bits per activation", "bit", "real")
c = _variable("c", "kv_bits", "bits per element of the KV cache", "bit", "real")

S = _variable("S", "prompt_len", "tokens of the prompt")
n = _variable("n", "new_tokens", "tokens generated after the prompt")
T = _variable("T", "target_time", "time to be reached", "second", "real")

P = _variable("P", "peak", "peak performance that applies", "FLOP/second", "real")
BW = _variable("BW", "bandwidth", "memory bandwidth", "byte/second", "real")
M = _variable("M", "buffer", "on-chip memory that holds one kernel's tiles", "byte", "real")
R = _variable("R", "block_rows", "query positions per block of FlashAttention")


_MIXERS = {
    "full": "full attention",
    "nope": "attention without rotary embedding",
    "sliding": "a sliding window",
    "linear": "linear attention",
    "mamba": "a state space",
}
_MLPS = {"dense": "a dense MLP", "moe": "a mixture of experts", "mlp": "an MLP alone"}


def _layers(kind: str, meaning: str) -> Symbol:
    return _variable(f"L_{kind}", f"num_{kind}_layers", f"layers with {meaning}")


LAYERS = (
    {"layer": L}
    | {kind: _layers(kind, meaning) for kind, meaning in (_MIXERS | _MLPS).items()}
    | {
        f"{mixer}_{mlp}": _layers(f"{mixer}_{mlp}", f"{how} and {what}")
        for mixer, how in _MIXERS.items()
        for mlp, what in _MLPS.items()
        if mlp != "mlp"
    }
)
"""The number of layers of each kind, where a model has several."""


def replaced(expression: Expr, kind: type, by: Callable[[Expr], Expr]) -> Expr:
    """The expression with every function of a kind, ``ceiling(x)`` say, replaced by what *by* makes of its argument."""
    return cast(Expr, expression.replace(kind, by))


def substitute(expression: Expr, values: Values) -> Expr:
    """The expression with the values in place of their symbols, evaluated exactly.

    >>> from sympy import Integer
    >>> substitute(b * d / 8, {b: Integer(16)})
    2*d
    """
    return cast(Expr, expression.xreplace(dict(values)))


def option_name(symbol: Symbol) -> str:
    """The name that options and records use: ``seq_len`` is the prompt in prefill and the context in decode.

    >>> option_name(t), option_name(b)
    ('seq_len', 'batch')
    """
    return VOCABULARY[s if symbol == t else symbol].name


_BY_NAME = {key: variable for variable in VOCABULARY.values() for key in (variable.symbol.name, variable.name)}


def lookup(name: str) -> Variable:
    """The variable of that letter or name; a name is looked up, never parsed.

    >>> lookup("batch").meaning
    'sequences in the batch'
    >>> lookup("bacth")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: 'bacth' is not a symbol of the library: did you mean batch?
    """
    try:
        return _BY_NAME[name]
    except KeyError:
        raise InputError(f"{quote(name)} is not a symbol of the library: {nearest(name, _BY_NAME)}") from None
