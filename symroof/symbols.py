"""Every symbol once: its text, its name, what it means, its unit and where it lives."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import cast

from sympy import Atom, Expr, Integer, Symbol, oo

from symroof.errors import InputError, member, nearest, quote
from symroof.vocabulary import BY_NAME as _BY_NAME
from symroof.vocabulary import VOCABULARY, Variable
from symroof.vocabulary import factor as _factor
from symroof.vocabulary import layers_with as _layers_with
from symroof.vocabulary import share as _share
from symroof.vocabulary import variable as _variable

Values = Mapping[Symbol, Expr]
"""Numbers (or other expressions) to substitute for symbols."""

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
h_w = _variable("h_w", "num_window_heads", "query heads of a layer with a sliding window, where they differ from the others'")
k_w = _variable("k_w", "num_window_kv_heads", "KV heads of a layer with a sliding window, where they differ from the others'")
e_w = _variable("e_w", "window_head_dim", "head dimension of a layer with a sliding window, where it differs from the others'")
r_w = _variable("r_w", "window_rotary_dim", "rotated components of a head of a layer with a sliding window, where they differ")
t_w = _variable("t_w", "window_context", "context of a layer with a sliding window, min(context, W)")

E = _variable("E", "num_experts", "routed experts of a layer")
K = _variable("K", "experts_per_token", "routed experts each token goes to")
E_z = _variable("E_z", "zero_experts", "experts without weights, which return their input")
K_z = _variable("K_z", "choices_per_token", "experts each token goes to, those without weights included")
X = _variable("X", "experts_touched", "routed experts of a layer whose weights a step reads")
f_e = _variable("f_e", "expert_intermediate_size", "intermediate size of a routed expert")
d_e = _variable("d_e", "moe_latent_size", "width of the compressed tokens that routed experts work on")
f_s = _variable("f_s", "shared_intermediate_size", "intermediate size of the experts all tokens share")

r_q = _variable("r_q", "q_lora_rank", "rank of the compressed queries of latent attention")
r_kv = _variable("r_kv", "kv_lora_rank", "rank of the compressed keys and values of latent attention")
e_n = _variable("e_n", "qk_nope_head_dim", "components of a key that the rotary embedding leaves alone, in latent attention")
e_v = _variable("e_v", "v_head_dim", "components of a value, where they are not those of a key")
d_p = _variable("d_p", "per_layer_size", "components of the embedding that every layer has of its own")
v_l = _variable("v_l", "per_layer_vocab_size", "rows of the embedding that every layer has of its own")

h_i = _variable("h_i", "index_heads", "heads of the indexer of sparse attention")
e_i = _variable("e_i", "index_head_dim", "components of a key of the indexer")
k_i = _variable("k_i", "index_topk", "keys that the indexer keeps for each query")
m_c = _variable("m_c", "compress_rate", "tokens of a compressed entry of which an indexer selects some")
m_h = _variable("m_h", "heavy_compress_rate", "tokens of a compressed entry that every query attends to")
t_j = _variable("t_j", "covered_context", "tokens whose compressed entries a query reads, min(context, index_topk compress_rate)")
g_o = _variable("g_o", "output_groups", "groups of heads that are projected apart")
r_o = _variable("r_o", "o_lora_rank", "rank of the output projection of a group of heads")
n_h = _variable("n_h", "streams", "residual streams, where there are several")
r_l = _variable("r_l", "laurel_rank", "rank of the low-rank residual beside attention")
t_i = _variable("t_i", "selected_context", "keys that a query of sparse attention reads, min(context, index_topk)")

d_i = _variable("d_i", "ssm_inner_size", "channels of a state-space layer")
d_s = _variable("d_s", "state_size", "states per channel of a state-space layer")
k_c = _variable("k_c", "conv_kernel", "taps of the causal convolution")
r_t = _variable("r_t", "time_step_rank", "rank of the time steps of a state-space layer")
h_s = _variable("h_s", "ssm_heads", "heads of a state-space layer (Mamba-2)")
e_s = _variable("e_s", "ssm_head_dim", "channels of a head of a state-space layer (Mamba-2)")
g_s = _variable("g_s", "ssm_groups", "groups of heads that share B and C (Mamba-2)")

n_b = _variable("n_b", "shared_blocks", "sets of weights that the layers which share weights use in turn")
r_a = _variable("r_a", "adapter_rank", "rank of the adapters that every layer adds to shared weights")
k_l = _variable("k_l", "linear_num_key_heads", "key heads of linear attention")
h_l = _variable("h_l", "linear_num_value_heads", "value heads of linear attention")
e_k = _variable("e_k", "linear_key_head_dim", "components of a key of linear attention")
e_l = _variable("e_l", "linear_value_head_dim", "components of a value of linear attention")

p = _variable("p", "patch_size", "side of a patch, in pixels of the image (DiT: of the latent one)")
C = _variable("C", "in_channels", "channels of the image (DiT: of the latent one)")
D = _variable("D", "out_channels", "channels of the prediction")
t_e = _variable("t_e", "source_len", "positions of an encoder's output that its decoder attends to")
m_x = _variable("m_x", "max_source_positions", "rows of the position embedding of an encoder with a decoder")
n_r = _variable("n_r", "distance_buckets", "rows of the table of biases by distance")
n_y = _variable("n_y", "type_vocab_size", "rows of the embedding of token types")
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
R = _variable("R", "positions_per_read", "query positions of FlashAttention that share a read of keys and values", domain="real")
P_v = _variable("P_v", "vector_peak", "peak performance of the vector units", "FLOP/second", "real")
P_x = _variable("P_x", "exponential_rate", "exponentials per second", "1/second", "real")
BW_L = _variable("BW_L", "cache_bandwidth", "bandwidth of the last-level cache", "byte/second", "real")
M_L = _variable("M_L", "last_level_cache", "last-level cache that all processors of a device share", "byte", "real")

# of techniques: compression
q_w = _variable("q_w", "quantized_weight_bits", "bits per quantized weight", "bit", "real")
q_a = _variable("q_a", "quantized_activation_bits", "bits per quantized activation", "bit", "real")
q_c = _variable("q_c", "quantized_kv_bits", "bits per quantized element of the KV cache", "bit", "real")
G = _variable("G", "quantization_group", "weights that share a scale")
q_s = _variable("q_s", "scale_bits", "bits of a group's scale", "bit", "real")
q_z = _variable("q_z", "zero_point_bits", "bits of a group's zero point", "bit", "real")
sigma = _share("sigma", "density", "share of the weights that are kept, not zero")
q_i = _variable("q_i", "index_bits", "bits of index per kept weight", "bit", "real")
chi = _share("chi", "kept_channels", "share of the channels that are kept")
rho = _variable("rho", "rank", "rank of a factorized weight")
n_k = _variable("n_k", "kept_layers", "layers that stay as they were")
G_c = _variable("G_c", "cache_group", "elements of the KV cache that share a scale")

# of techniques: fast decoding
lambda_x = _share("lambda", "depth", "share of the layers that a token runs through, on average")
delta = _share("delta", "active_share", "share of a layer's neurons that a token needs")
alpha = _share("alpha", "acceptance", "probability that a drafted token is accepted")
gamma = _variable("gamma", "draft_length", "tokens that are drafted before they are verified")
kappa_d = _factor("kappa_d", "draft_cost", "time of a drafted token over that of a decode step")
h_m = _variable("h_m", "medusa_heads", "extra heads that predict further tokens")
n_t = _variable("n_t", "tree_nodes", "candidate tokens of a tree that one step verifies")
zeta = _factor("zeta", "routing_skew", "exponent of Zipf's law by which tokens choose experts")
p_x = _share("p_x", "exit_probability", "probability that a token leaves behind a layer it has run through")
n_x = _variable("n_x", "skipped_layers", "layers that are left out")
X_d = _variable("X_d", "draft_experts_touched", "routed experts of a layer whose weights a step of the draft reads")
t_d = _variable("t_d", "draft_window_context", "context of a layer of the draft with a sliding window")
v_d = _variable("v_d", "draft_vocab_size", "rows of the LM head of a draft that has its own")
k_b = _variable("k_b", "draft_branches", "tokens of a tree that a draft works on in one pass")
L_x = _variable("L_x", "layers_run", "layers that some token of the batch runs through, on average", domain="real")

# of techniques: compiler and system
B_r = _variable("B_r", "query_block", "query rows of a tile of FlashAttention")
B_c = _variable("B_c", "key_block", "key rows of a tile of FlashAttention")
n_s = _variable("n_s", "splits", "parts of the context that FlashDecoding works on side by side")
p_b = _variable("p_b", "page_size", "tokens of a block of a paged KV cache")
l_max = _variable("l_max", "reserved_len", "tokens reserved per sequence where the cache is contiguous")
u_M = _share("u_M", "memory_utilization", "share of a device's memory that an engine uses")
s_m = _variable("s_m", "profiled_tokens", "tokens of the step for which an engine reserves activations")
M_r = _variable("M_r", "runtime_memory", "memory that an engine takes beside weights, cache and activations", "byte", "real")
omega = _share("omega", "offloaded_share", "share that lives at the next memory level")
s_k = _variable("s_k", "chunk", "prompt tokens of a chunk")
b_p = _variable("b_p", "prefill_batch", "prompts whose chunks run beside the decoding sequences")
x_p = _share("x_p", "prefix_share", "share of the context that sequences have in common")
n_p = _variable("n_p", "degree", "devices that share the work")
k_d = _variable("k_d", "kv_parts", "parts that the KV heads are divided into, of which every device has one: min(num_kv_heads, degree)")
g_d = _variable("g_d", "group_parts", "parts that the groups of a state-space layer are divided into, min(ssm_groups, degree)")
b_d = _variable("b_d", "device_batch", "sequences of the device that has most of them")
K_d = _variable("K_d", "devices_per_token", "devices that have some of the experts a token goes to, on average", domain="real")
i_p = _factor("i_p", "load_imbalance", "token-expert pairs of the fullest device over the mean of all devices")
i_x = _factor("i_x", "read_imbalance", "experts whose weights the fullest device reads over the mean of all devices")
L_d = _variable("L_d", "stage_layers", "layers of the stage of a pipeline that is counted")
v_p = _variable("v_p", "vocab_padding", "rows that pad the vocabulary")
m_p = _variable("m_p", "micro_batches", "pieces a batch is cut into for a pipeline")
BW_l = _variable("BW_l", "link_bandwidth", "bandwidth of the link to other devices, one way", "byte/second", "real")
BW_h = _variable("BW_h", "host_bandwidth", "bandwidth of the link to the next memory level, one way", "byte/second", "real")
BW_c = _variable("BW_c", "chip_bandwidth", "bandwidth of on-chip memory", "byte/second", "real")
n_c = _variable("n_c", "processors", "processors of a device that work side by side")
U = _variable("U", "busy_processors", "processors that have work")
n_d = _variable("n_d", "node", "devices of one node, of those that share the work")
n_i = _variable("n_i", "inside", "devices of one node that share the work, min(degree, node)")
BW_p = _variable("BW_p", "peer_bandwidth", "bandwidth of the link to one other device, one way", "byte/second", "real")
BW_n = _variable("BW_n", "network_bandwidth", "bandwidth of a device's network to other nodes, one way", "byte/second", "real")
l_0 = _variable("l_0", "collective_overhead", "time of a collective in addition to its bytes and steps", "second", "real")
t_l = _variable("t_l", "link_latency", "time of a step of a collective in addition to its bytes", "second", "real")
l_x = _variable("l_x", "exchange_overhead", "time of a send or an all-to-all in addition to its bytes and peers", "second", "real")
t_x = _variable("t_x", "exchange_latency", "time of every peer of a send or an all-to-all in addition to the bytes", "second", "real")
t_n = _variable("t_n", "network_latency", "time of a step of a collective over the network in addition to its bytes", "second", "real")

mu = _share("mu", "mean_share", "mean length of the sequences over the longest of the batch")
c_v = _factor("c_v", "length_variation", "standard deviation of the lengths over their mean")

# of techniques: hardware, and ceilings beyond two
f_P = _factor("f_P", "peak_factor", "factor on the peak")
f_BW = _factor("f_BW", "bandwidth_factor", "factor on the memory bandwidth")
f_M = _factor("f_M", "buffer_factor", "factor on the on-chip buffer")
P_u = _variable("P_u", "unit_peak", "peak performance of an added unit", "FLOP/second", "real")
BW_u = _variable("BW_u", "unit_bandwidth", "memory bandwidth of an added unit", "byte/second", "real")
q_f = _variable("q_f", "format_bits", "bits of a data format", "bit", "real")
P_f = _variable("P_f", "format_peak", "peak performance in a data format", "FLOP/second", "real")
M_c = _variable("M_c", "chip_capacity", "on-chip memory of a device that holds weights", "byte", "real")
eta_P = _share("eta_P", "compute_efficiency", "share of the peak that is reached")
eta_BW = _share("eta_BW", "memory_efficiency", "share of the memory bandwidth that is reached")
eta_l = _share("eta_l", "link_efficiency", "share of the link's bandwidth that is reached")
t_0 = _variable("t_0", "launch_overhead", "time an operator takes in addition to its work", "second", "real")
B_t = _variable("B_t", "tile", "side of the square tile of a blocked matrix product")
eps_F = _variable("eps_F", "energy_per_flop", "energy of a floating-point operation", "joule/FLOP", "real")
eps_B = _variable("eps_B", "energy_per_byte", "energy of a byte of memory traffic", "joule/byte", "real")
pi_0 = _variable("pi_0", "constant_power", "power drawn whatever runs", "watt", "real")

# of calibrated kernels: GEMM (g), attention in decode (d) and in prefill (p), operators without a contraction (v)
f_c = _variable("f_c", "clock", "clock behind the stated peaks", "1/second", "real")
t_0g = _variable("t_0g", "gemm_overhead", "time a GEMM takes in addition to its work", "second", "real")
e_1g = _share("e_1g", "gemm_compute_share", "share of the peak that a GEMM reaches")
e_2g = _share("e_2g", "gemm_memory_share", "share of the memory bandwidth that a GEMM reaches")
tau_g = _factor("tau_g", "gemm_step_clocks", "clocks that a step of a GEMM's inner dimension takes one tile")
p_g = _factor("p_g", "gemm_exponent", "exponent of the norm that joins the times of a GEMM")
t_0d = _variable("t_0d", "decode_overhead", "time attention takes in decode in addition to its work", "second", "real")
e_2d = _share("e_2d", "decode_memory_share", "share of the memory bandwidth that attention reaches in decode")
t_1d = _variable("t_1d", "decode_item_time", "time a KV head of a sequence takes a processor in decode, however short", "second", "real")
t_cd = _variable("t_cd", "decode_second_kernel", "time of a second kernel of attention in decode: it merges or copies", "second", "real")
p_d = _factor("p_d", "decode_exponent", "exponent of the norm that joins the times of attention in decode")
t_0p = _variable("t_0p", "prefill_overhead", "time attention takes in prefill in addition to its work", "second", "real")
e_1p = _share("e_1p", "prefill_compute_share", "share of the peak that attention reaches in prefill")
e_2p = _share("e_2p", "prefill_memory_share", "share of the memory bandwidth that attention reaches in prefill")
x_e = _factor("x_e", "exposed_exponentials", "share of the time of exponentials that matrix products do not hide, in prefill")
t_1p = _variable("t_1p", "prefill_item_time", "time a tile of queries takes a processor in prefill, however short", "second", "real")
t_cp = _variable("t_cp", "prefill_second_kernel", "time of a second kernel of attention in prefill: it copies", "second", "real")
t_0v = _variable("t_0v", "vector_overhead", "time an operator without a contraction takes in addition to its work", "second", "real")
e_2v = _share("e_2v", "vector_memory_share", "share of the memory bandwidth that an operator without a contraction reaches")

_MIXERS = {
    "full": "full attention",
    "nope": "attention without rotary embedding",
    "first": "full attention, the first, without a norm before it",
    "encoder": "an encoder's attention",
    "decoder": "attention to themselves and to an encoder's output",
    "sliding": "a sliding window",
    "nope_sliding": "a sliding window and no rotary embedding",
    "shared": "full attention to keys and values of an earlier layer",
    "shared_sliding": "a sliding window over keys and values of an earlier layer",
    "sparse": "sparse attention",
    "compressed": "a window and selected compressed entries",
    "heavy": "a window and heavily compressed entries",
    "reused": "sparse attention to the keys that an earlier layer selected",
    "linear": "linear attention",
    "mamba": "a state space",
    "conv": "a short convolution",
    "both": "attention beside a state space",
    "hybrid": "a shared block of attention and MLP before a state space",
}
_MLPS = {"dense": "a dense MLP", "moe": "a mixture of experts", "wide": "a wider MLP", "mlp": "an MLP alone"}
_PAIRS = {f"{mixer}_{mlp}": f"{how} and {what}" for mixer, how in _MIXERS.items() for mlp, what in _MLPS.items() if mlp != "mlp"}

LAYERS = {"layer": L} | {kind: _layers_with(kind, meaning) for kind, meaning in (_MIXERS | _MLPS | _PAIRS).items()}
"""The number of layers of each kind, where a model has several."""


def substitute(expression: Expr, values: Values) -> Expr:
    """The expression with the values in place of their symbols, evaluated exactly.

    >>> from sympy import Integer
    >>> substitute(b * d / 8, {b: Integer(16)})
    2*d
    """
    if isinstance(expression, Atom):
        return values.get(expression, expression)  # pyright: ignore[reportArgumentType, reportCallIssue]
    return cast(Expr, expression.xreplace(dict(values)))


def option_name(symbol: Symbol) -> str:
    """The name that options and records use: ``seq_len`` is the prompt in prefill and the context in decode.

    >>> option_name(t), option_name(b)
    ('seq_len', 'batch')
    """
    return VOCABULARY[s if symbol == t else symbol].name


_LENGTHS = ("context", "context_length", "ctx", "seq", "seqlen", "sequence_length")
"""Other names of the length that options call ``seq_len`` in both phases."""


def lookup(name: str | Symbol) -> Variable:
    """The variable of that symbol or name, or of a symbol object of this module; a name is looked up, never parsed.

    >>> lookup("batch").meaning
    'sequences in the batch'
    >>> lookup(b) is lookup("batch") is lookup("b")
    True
    >>> lookup("bacth")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: 'bacth' is not a symbol of the library: did you mean batch?
    >>> lookup("context")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: 'context' is not a symbol of the library: did you mean seq_len?
    """
    if isinstance(name, Symbol) and name in VOCABULARY:
        return VOCABULARY[name]
    name = str(name) if isinstance(name, str | Symbol) else repr(name)
    if name in _BY_NAME:
        return _BY_NAME[name]
    hint = "did you mean seq_len?" if name in _LENGTHS else nearest(name, [known.name for known in VOCABULARY.values()])
    raise InputError(f"{quote(name)} is not a symbol of the library: {hint}")


def named(names: str) -> tuple[Symbol, ...]:
    """The symbols with these texts or names, in order, as ``sympy.symbols`` makes new ones.

    >>> P, BW, batch = named("P BW batch")
    >>> P / BW * batch
    P*b/BW
    """
    return tuple(lookup(name).symbol for name in names.replace(",", " ").split())


_LETTER, _NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,19}"), re.compile(r"[a-z][a-z0-9_]{1,39}")


def declare(letter: str, name: str, meaning: str, unit: str = "dimensionless", domain: str = "real", highest: Expr | int = oo) -> Symbol:
    """A symbol of one's own, for the parameter of a technique: from now on every table, legend and question knows it.

    Parameters
    ----------
    letter : as formulas write it; no other symbol may have it.
    name : as options and ``over=`` spell it.
    meaning : a phrase for tables and legends.
    unit : a unit of another symbol: "dimensionless", "bit", "byte", "second", "byte/second", ...
    domain : "integer" or "real".
    highest : the largest value it can have.

    Raises
    ------
    InputError
        The letter or the name is taken, or an argument is not one of these.

    >>> xi = declare("xi", "reuse", "times that a weight is read from on-chip memory")
    >>> lookup("reuse").symbol is xi is declare("xi", "reuse", "times that a weight is read from on-chip memory")
    True
    >>> declare("b", "beam", "beams of a search")
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: symbol 'b' is taken: batch, sequences in the batch
    """
    for what, text, pattern in (("letter", letter, _LETTER), ("name", name, _NAME)):
        if not pattern.fullmatch(text):
            expected = "letters, digits and _" if what == "letter" else "a name such as hidden_size"
            raise InputError(f"{what} {quote(text)}: expected {expected}")
    member("unit", unit, tuple(dict.fromkeys(variable.unit for variable in VOCABULARY.values())))
    member("domain", domain, ("integer", "real"))
    wanted = Variable(Symbol(letter, positive=True), name, meaning, unit, domain, Integer(highest) if isinstance(highest, int) else highest)
    for key in (letter, name):
        taken = _BY_NAME.get(key, wanted)
        if taken != wanted:
            raise InputError(f"symbol {quote(key)} is taken: {taken.name}, {taken.meaning}")
    return _variable(letter, name, meaning, unit, domain, wanted.highest)
