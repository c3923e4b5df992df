"""What a user writes in an afternoon: its types are known, so that an editor completes every name in it."""

from pathlib import Path
from typing import assert_type

import numpy as np

import symroof
from symroof import (
    Certificate,
    Comparison,
    Crossover,
    Crossovers,
    Deployment,
    Device,
    Generation,
    Model,
    Payoff,
    Quantity,
    Regimes,
    Step,
    Variant,
    symbols,
)

model = symroof.load_model("llama-3-8b")
assert_type(model, Model)

step = model.decode(batch=8, seq_len=4096, kv_bits=8, flash_attention=True)
assert_type(step, Step)
assert_type(model.prefill(batch=np.int64(1), seq_len=512, lm_head="last"), Step)
assert_type(step.apply("quantize:weights=4,group=128", symroof.technique("no-overlap")), Step)
assert_type(step.apply(symroof.techniques.Quantize(weights=4, group=128)), Step)

on = step.on("h100-sxm", ceilings="stated")
assert_type(on, Deployment)
assert_type(on.device, Device | None)

# the roofline
assert_type(on.time, Quantity)
assert_type(on.total.flops, Quantity)
assert_type(on["up_proj"].intensity, Quantity)
assert_type(on.fits, bool | None)
bounds: dict[str, str | None] = {point.name: point.bound for point in on}

# where the bound changes
crossing = on.crossover("up_proj", over=symbols.b)
assert_type(crossing, Crossover)
assert_type(crossing.sentence, str)
crossings = on.crossovers("batch")
assert_type(crossings, Crossovers)
for crossover in crossings:
    assert_type(crossover, Crossover)
    assert_type(crossover.first_integer, int | None)
assert_type(crossings["up_proj"].operator, str)
assert_type(crossings[:2], tuple[Crossover, ...])
assert_type(on.prove("memory-bound", "up_proj", for_all=["batch"]), Certificate)
assert_type(on.regimes("batch"), Regimes)

# what to change
assert_type(on.payoff("quantize:weights=4", over="batch"), Payoff)
variants = on.compare("quantize:weights=4", "quantize:weights=4 quantize:kv=8", over="batch")
assert_type(variants, Comparison)
assert_type(variants["quantize:weights=4"], Variant)
assert_type([variant.payoff for variant in variants[1:]], list[Payoff | None])

# what is needed
need = on.required("bandwidth", target_time="5 ms")
assert_type(need.relation, str)
assert_type(on.largest("batch", capacity="60 GB"), symroof.Largest)
assert_type(on.generation(prompt=512, tokens=128), Generation)

# many points, and a figure
table = on.sweep({"batch": range(1, 65)}, metrics=["time", "throughput"])
if not isinstance(table, Path):
    print(table["time"].max())
figure = symroof.roofline_figure(on.analysis, title="llama-3-8b on an H100")
symroof.show(figure)

try:
    symroof.load_hardware("no such device")
except symroof.DeviceError as error:
    print(error, bounds)
