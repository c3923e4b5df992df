"""Metrics of sweeps against the analysis; one of a stranger's own in one entry of the table."""

from __future__ import annotations

import numpy as np
import pytest

import symroof
from symroof.operators.tensor import Storage
from symroof.roof.energy import energy
from symroof.sweeps.metrics import METRICS, Metric
from symroof.sweeps.sweep import sweep

pytest.importorskip("xarray")
WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
ENERGY = symroof.technique("energy:flop=1pJ,byte=30pJ,power=100W")


def test_energy_is_that_of_the_step() -> None:
    spent = sweep("llama-2-7b", "a100-sxm-80gb", {"batch": [1, 300]}, seq_len=1024, metrics=["energy"], techniques=[ENERGY])
    by_operator = sweep(
        "llama-2-7b", "a100-sxm-80gb", {"batch": [1, 300]}, seq_len=1024, metrics=["energy"], techniques=[ENERGY], per="operator"
    )
    for batch in (1, 300):
        step = symroof.load_model("llama-2-7b").decode(batch=batch, seq_len=1024, **WIDTHS).apply(ENERGY)
        total = energy(step, "a100-sxm-80gb").total
        assert spent.energy.sel(batch=batch).item() == pytest.approx(float(total.joules_expr), rel=1e-13)
        assert by_operator.energy.sel(batch=batch).sum().item() == pytest.approx(float(total.joules_expr), rel=1e-13)
    with pytest.raises(symroof.SymroofError, match="metric 'energy': apply the technique energy"):
        sweep("llama-2-7b", "a100-sxm-80gb", {"batch": [1]}, seq_len=1024, metrics=["energy"])


def test_energy_of_all_devices_and_of_a_token() -> None:
    chain = [symroof.technique(text) for text in ("tensor-parallel:degree=4", "speculative:acceptance=1,length=3,draft_cost=0")] + [ENERGY]
    metrics = ["energy", "system_energy", "token_energy"]
    spent = sweep("llama-2-7b", "h100-sxm", {"batch": [8, 32]}, seq_len=1024, metrics=metrics, techniques=chain)
    for batch in (8, 32):
        step = symroof.load_model("llama-2-7b").decode(batch=batch, seq_len=1024, **WIDTHS).apply(*chain)
        told, here = energy(step, "h100-sxm"), spent.sel(batch=batch)
        for name, one in (("energy", told.total), ("system_energy", told.system), ("token_energy", told.system_token)):
            assert here[name].item() == pytest.approx(float(one.joules_expr), rel=1e-13)


@pytest.mark.parametrize(
    ("texts", "per_sequence", "devices"),
    [
        ([], 1, 1),
        (["mixed-batch:chunk=128"], 1, 1),
        (["speculative:acceptance=1,length=3,draft_cost=0"], 4, 1),
        (["tensor-parallel:degree=4"], 1, 4),
        (["tensor-parallel:degree=4", "data-parallel:degree=2"], 1, 8),
    ],
)
def test_throughput_counts_generated_tokens_of_all_devices(texts: list[str], per_sequence: int, devices: int) -> None:
    techniques = [symroof.technique(text) for text in texts]
    metrics = ["time", "throughput", "throughput_per_device"]
    rates = sweep("llama-2-7b", "h100-sxm", {"batch": [8, 32]}, seq_len=2048, metrics=metrics, techniques=techniques)
    generated = per_sequence / rates.time * rates.batch
    assert np.allclose(rates.throughput, generated, rtol=1e-13)
    assert np.allclose(rates.throughput_per_device, generated / devices, rtol=1e-13)


def test_a_metric_of_one_s_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """CONTRIBUTING's example: one entry, and it is swept, reduced, written in conditions and shown."""

    def weight_traffic(part):
        return part.total(lambda operator: operator.byte_count(Storage.WEIGHT))

    def traffic(part):
        return part.total(lambda operator: operator.byte_count())

    own = Metric(
        "weight_share", "1", "share of the traffic that is weights", (weight_traffic, traffic), lambda weights, every: weights / every
    )
    monkeypatch.setitem(METRICS, own.name, own)
    shares = sweep("llama-2-7b", "l4", {"batch": [1, 64]}, seq_len=1024, metrics=["weight_share"])
    for batch in (1, 64):
        graph = symroof.load_model("llama-2-7b").decode(batch=batch, seq_len=1024, **WIDTHS).graph
        expected = graph.byte_count(Storage.WEIGHT) / graph.byte_count()
        assert shares.weight_share.sel(batch=batch).item() == pytest.approx(float(expected), rel=1e-14)
    best = symroof.best("llama-2-7b", "l4", {"batch": range(1, 65)}, seq_len=1024, minimize="time", where="weight_share < 0.9")
    assert best.weight_share.item() < 0.9
    by_operator = sweep("llama-2-7b", "l4", {"batch": [1]}, seq_len=1024, metrics=["weight_share"], per="operator")
    assert by_operator.weight_share.sel(operator="softmax").item() == 0


def test_the_result_says_what_its_flags_mean() -> None:
    flags = sweep("llama-2-7b", "l4", {"batch": [1]}, seq_len=8, metrics=["bound", "fits"])
    words = {name: flags[name].attrs["flag_meanings"] for name in ("bound", "fits")}
    assert words == {"bound": "memory compute vector exponential host link chip cache latency peer network", "fits": "no yes"}
