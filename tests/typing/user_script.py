"""What a user writes in an afternoon: its types are known, so that an editor completes every name in it."""

from pathlib import Path
from typing import assert_type

import numpy as np

import symroof
from symroof import Certificate, Crossover, Deployment, Device, Generation, Model, Payoff, Quantity, Regimes, Step, Variant, symbols

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
assert_type([answer.verdict for answer in on.crossovers(over="batch")], list[str])
assert_type(on.prove("memory-bound", "up_proj", for_all=["batch"]), Certificate)
assert_type(on.regimes("batch"), Regimes)

# what to change
assert_type(on.payoff("quantize:weights=4", over="batch"), Payoff)
variants = on.compare("quantize:weights=4", "quantize:weights=4 quantize:kv=8", over="batch")
assert_type(variants, tuple[Variant, ...])
assert_type(variants[0].name, str)

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
