"""What serving adds to a step: requests, promises, pools of devices, money and energy."""

from __future__ import annotations

from symroof.vocabulary import variable as _variable

lambda_a = _variable("lambda_a", "arrival_rate", "requests that arrive per second", "1/second", "real")
T_f = _variable("T_f", "ttft", "time to first token that is promised", "second", "real")
T_p = _variable("T_p", "tpot", "time per output token that is promised", "second", "real")
tau_w = _variable("tau_w", "weight_time", "part of a step's time that no sequence adds to: mostly the weights' read", "second", "real")
tau_b = _variable("tau_b", "sequence_time", "part of a step's time that every sequence adds, whatever its context", "second", "real")
tau_t = _variable("tau_t", "context_token_time", "part of a step's time that every token of a sequence's context adds", "second", "real")
n_g = _variable("n_g", "devices", "devices of a system")
