"""Five slips of a user's, each on a line that names the rule of the type checker that catches it."""

import symroof

model = symroof.load_model("llama-3-8b")
model.decode(bacth=8, seq_len=4096)  # reportCallIssue: a misspelt keyword
on = model.decode(batch=8, seq_len=4096).on("h100-sxm")
print(on.crossing("up_proj", over="batch"))  # reportAttributeAccessIssue: no such question
for crossover in on.crossovers("batch"):
    print(crossover.operater)  # reportAttributeAccessIssue: no such attribute of a member
print(on.compare("quantize:weights=4")["unchanged"].speed)  # reportAttributeAccessIssue: the same of a variant
print(on.payoff("quantize:weights=4", over=8).sentence)  # reportArgumentType: a number where a variable is asked
