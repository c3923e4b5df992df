"""What serving adds to a step: requests, promises, pools of devices, money and energy."""

from __future__ import annotations

from symroof.vocabulary import factor as _factor
from symroof.vocabulary import share as _share
from symroof.vocabulary import variable as _variable

lambda_a = _variable("lambda_a", "arrival_rate", "requests that arrive per second", "1/second", "real")
T_f = _variable("T_f", "ttft", "time to first token, as it is or as promised", "second", "real")
T_p = _variable("T_p", "tpot", "time per output token, as it is or as promised", "second", "real")
tau_w = _variable("tau_w", "weight_time", "part of a step's time that no sequence adds to: mostly the weights' read", "second", "real")
tau_b = _variable("tau_b", "sequence_time", "part of a step's time that every sequence adds, whatever its context", "second", "real")
tau_t = _variable("tau_t", "context_token_time", "part of a step's time that every token of a sequence's context adds", "second", "real")
n_g = _variable("n_g", "devices", "devices of a system")

# pools that share the work: attention apart from feed-forward layers, weights split by rows and columns
n_a = _variable("n_a", "attention_devices", "devices that run attention, apart from those of the feed-forward layers")
n_f = _variable("n_f", "ffn_devices", "devices that run feed-forward layers, apart from those of attention")
rho_a = _factor("rho_a", "attention_ratio", "devices that run attention for every one that runs feed-forward layers")
n_w = _variable("n_w", "input_parts", "parts of a weight matrix along its input dimension, where it is split along both")

# money, energy and carbon
pi_d = _variable("pi_d", "device_price", "price of a device's time", "dollar/hour", "real")
pi_w = _variable("pi_w", "device_power", "power that a device draws, on average", "watt", "real")
u_d = _share("u_d", "utilization", "share of the time that devices spend on such steps")
e_0 = _factor("e_0", "pue", "energy of a data centre over that of its devices (power usage effectiveness)")
g_e = _variable("g_e", "carbon_intensity", "carbon dioxide that a kilowatt hour of electricity emits", "gram/kilowatt_hour", "real")
tau_p = _variable("tau_p", "prompt_time", "time in which a request's prompt is read", "second", "real")
M_d = _variable("M_d", "device_memory", "memory of a device that a replica may use", "byte", "real")
M_w = _variable("M_w", "shared_memory", "memory that no sequence adds to: weights, and activations of prefill", "byte", "real")
M_s = _variable("M_s", "sequence_memory", "memory that every sequence adds", "byte", "real")
tau_s = _variable("tau_s", "sequence_step_time", "part of a step's time that every sequence adds at its context", "second", "real")

# requests under load
theta_r = _variable("theta_r", "resident_context", "mean context of the sequences in a batch, over their steps", "dimensionless", "real")
v_n = _variable("v_n", "output_variance", "variance of the tokens that requests generate", "dimensionless", "real")

# a mixture of experts against a dense model
W_u = _variable("W_u", "used_weights", "weights that some token of a step uses", "byte", "real")
W_i = _variable("W_i", "idle_weights", "weights that no token of a step uses", "byte", "real")
M_f = _variable("M_f", "free_memory", "memory that weights leave for caches", "byte", "real")
y_q = _factor("y_q", "qs_nearness", "q s over what separates it from the limit that it is below")
