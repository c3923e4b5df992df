"""Elements that Transformers keeps of a prompt of 64 tokens, batch 2, of the random configs beside this script.

    python cache_elements.py    # writes cache_elements.csv

A row of `transformers_decoders.jsonl` or `transformers_hybrids.jsonl` is named by its model_type and its place among the rows of that
type. Keys, values, index keys, states and taps of convolutions count; of a window of W tokens that the prompt fills Transformers keeps
W - 1 until the next token is there, and W are counted. Left out: latent attention, whose cache Transformers keeps decompressed, DeepSeek V4,
encoders, and configs whose prompt does not run on the meta device. torch 2.13.0 and transformers 5.24.0.
"""

from __future__ import annotations

import csv
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import torch
import transformers_decoders as decoders
import transformers_hybrids as hybrids
import transformers_random as base

HERE = Path(__file__).parent
LEFT_OUT = (*hybrids.ENCODERS, *hybrids.BOTH, *hybrids.SPARSE, "kimi_k25")
KEPT = ("keys", "values", "idx_keys", "conv_states", "recurrent_states")


def shapes(value: Any) -> list[torch.Size]:
    """The shapes of a tensor, or of those in a dictionary or list."""
    if isinstance(value, torch.Tensor):
        return [value.shape]
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return [shape for one in inner for shape in shapes(one)]


def kept(layer: Any) -> int:
    """Elements of one layer's cache."""
    window = getattr(layer, "sliding_window", None)
    found = 0
    for name in KEPT:
        for shape in shapes(getattr(layer, name, None)):
            freed = name in KEPT[:2] and window and window <= base.PROMPT and shape[-2] == window - 1
            found += math.prod(shape) // shape[-2] * window if freed and window > 1 else math.prod(shape)
    return found


def elements(maker: Any, kind: str, config: dict[str, Any]) -> int:
    model, _ = maker.build(config)
    with torch.no_grad(), torch.device("meta"):
        ids = torch.zeros((base.BATCH, base.PROMPT), dtype=torch.long)
        masked = kind not in maker.STATE and kind not in decoders.RECURRENT_INSIDE
        given = {"attention_mask": torch.ones((base.BATCH, base.PROMPT), dtype=torch.long)} if masked else {}
        past = model(input_ids=ids, use_cache=True, **given).past_key_values
    return sum(map(kept, past.layers))


if __name__ == "__main__":
    with (HERE / "cache_elements.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("model_type", "place", "elements"))
        for name, maker in (("transformers_decoders", decoders), ("transformers_hybrids", hybrids)):
            places: Counter[str] = Counter()
            for line in map(json.loads, (HERE / f"{name}.jsonl").read_text().splitlines()):
                kind = line["model_type"]
                places[kind] += 1
                if kind in LEFT_OUT or kind not in maker.FAMILIES or places[kind] > 8:
                    continue
                try:
                    writer.writerow((kind, places[kind] - 1, elements(maker, kind, line["config"])))
                except (NotImplementedError, AttributeError, ValueError):
                    continue  # experts chosen by value, no forward of text alone, no attention layer at all
