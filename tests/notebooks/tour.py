"""A tour of symroof in a notebook: 25 cells, each ending in what the notebook shows."""

# %%
import symroof

symroof.load_hardware("a100-sxm-80gb")
# %%
model = symroof.load_model("llama-2-7b")
model
# %%
step = model.decode(batch=1, seq_len=256)
step
# %%
on = step.on("a100-sxm-80gb")
on.time
# %%
f"{on.time:.2f}, {on.total.traffic:.3g}, {on.total.flops.to('GFLOP'):.1f}"
# %%
on
# %%
on["up_proj"]
# %%
on.total
# %%
letters = model.decode(symbolic=True).on()
letters["up_proj"].intensity
# %%
on.table(formulas=True)
# %%
on.crossover("up_proj", over="batch")
# %%
letters.crossover("up_proj", over="batch").formula
# %%
[answer for answer in on.crossovers("batch") if answer.first_integer][:4]
# %%
on.regimes("batch")
# %%
on.payoff("quantize:weights=4,group=128", over="batch")
# %%
on.compare("quantize:weights=4,group=128", "fuse:preset=engine")
# %%
on.prove("memory-bound", "qk_matmul", for_all=["batch", "seq_len"])
# %%
on.required("bandwidth", target_time="5 ms")
# %%
on.largest("batch")
# %%
on.generation(prompt=64, tokens=16)
# %%
on.sensitivity()
# %%
my_steps = symroof.symbols.declare("varsigma", "tour_steps", "steps that share one read of the weights")
letters["up_proj"].traffic / my_steps
# %%
letters.context_limit()
# %%
spent = on.apply("energy:flop=1pJ,byte=30pJ,power=100W")
spent.energy()
# %%
symroof.roofline_figure(on.analysis)
