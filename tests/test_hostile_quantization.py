"""Broken quantizations, in the config and beside it: weights of a size that can be, or one line that names the field."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path
from typing import Any

import symroof
from symroof.architectures.config import catalogue
from symroof.architectures.families import MODEL_TYPES, multimodal
from symroof.errors import quote
from tests.conftest import DATA
from tests.steps import EVERYTHING
from tests.test_hostile_configs import JUNK, bounded

COUNT, EVERY = 10_000, 1 if EVERYTHING else 40
FOUND = (7084,)
"""Seeds that found a fault: a name that cannot be printed stood in a note as it was."""
"""So many mutations there are; the suite takes one of so many, and with this variable all."""

Json = Any
FIELDS = ("quantization_config", "quantization", "compression_config")


def published() -> list[tuple[dict[str, Json], dict[str, Json] | None]]:
    """Configs of quantized checkpoints as published, with the file beside them, if any."""
    known = []
    for line in map(json.loads, (DATA / "quantized_configs.jsonl").read_text().splitlines()):
        inner = line["config"].get("text_config", {}).get("model_type", line["config"]["model_type"])
        if {line["config"]["model_type"], inner} <= {*MODEL_TYPES, *multimodal.FAMILIES}:
            known.append((line["config"], line.get("hf_quant_config")))
    for row in csv.DictReader((DATA / "quantized_checkpoints.csv").read_text().splitlines()):
        config = json.loads(catalogue()[row["base"]].read_text()) | json.loads(row["changes"] or "{}") | json.loads(row["quantization"])
        known.append((config, config.pop("hf_quant_config", None)))
    return known


PUBLISHED = published()
NAMES = (
    *(
        "model.layers.0.mlp",
        "re:.*self_attn.*",
        "*",
        "re:(",
        "re:[",
        "re:(a|b",
        "model.layers.[9-0].x",
        "re:" + "(a|b)" * 40,
        "",
        ".",
        "layers.",
    ),
    *(
        "model.layers.99999999999999999999.mlp",
        "re:.*layers\\.(1|2|3)\\..*",
        "x" * 5000,
        "\x1b[31m",
        "\ud800",
        "experts.7",
        "mlp.experts.999",
    ),
)


def places(value: Json, inside: tuple[Json, ...] = ()) -> list[tuple[Json, ...]]:
    """Every place in it, as the keys and indices that lead there."""
    found = [inside]
    if isinstance(value, dict | list) and len(inside) < 6:
        for key in list(value) if isinstance(value, dict) else range(min(len(value), 4)):
            found += places(value[key], (*inside, key))
    return found


def mutate(rng: random.Random, content: Json) -> Json:
    """A copy with something wrong at one place."""
    content = json.loads(json.dumps(content))
    *outer, last = ("", *rng.choice(places(content)))
    whole = {"": content}
    holder: Json = whole
    for key in outer:
        holder = holder[key]
    way = rng.randrange(6)
    if way == 0 and isinstance(holder, dict) and last:
        del holder[last]
    elif way == 1 and isinstance(holder[last], list):
        holder[last] = [*holder[last], rng.choice((*NAMES, *JUNK[:-1]))] * rng.choice((1, 1, 300))
    elif way == 2 and isinstance(holder[last], dict):
        holder[last][rng.choice((*NAMES, "bits", "group_size", "ignore", "dynamic", "lm_head"))] = rng.choice(JUNK[:-1])
    elif way == 3 and type(holder[last]) in (int, float):
        holder[last] = holder[last] * rng.choice((-1, 0, 2, 1000, 10**15))
    elif way == 4 and isinstance(holder[last], str):
        holder[last] = rng.choice((holder[last] * 1000, holder[last].upper(), holder[last][:-1], rng.choice(NAMES)))
    else:
        holder[last] = rng.choice(JUNK[:-1])
    return whole[""]


def mutated(seed: int) -> tuple[dict[str, Json], Json]:
    rng = random.Random(seed)
    config, beside = rng.choice(PUBLISHED)
    config = dict(config)
    own = [name for name in FIELDS if name in config] or ["quantization_config"]
    if beside is not None and rng.random() < 0.7:
        return config, mutate(rng, beside)
    inner = config.get(own[0], {"quant_method": "fp8"})
    for _ in range(rng.choice((1, 1, 2, 3))):
        inner = mutate(rng, inner)
    config.update(dict.fromkeys(own, inner))
    return config, beside


def test_mutated_quantizations(tmp_path: Path) -> None:
    path, beside = tmp_path / "config.json", tmp_path / "hf_quant_config.json"
    wrong: list[str] = []
    understood = named = 0
    for seed in (*range(0, COUNT, EVERY), *FOUND):
        config, other = mutated(seed)
        path.write_text(json.dumps(config))
        beside.unlink(missing_ok=True)
        if other is not None:
            beside.write_text(json.dumps(other))
        try:
            with bounded():
                model = symroof.load_model(path)
            notes = model.notes
            stored = float(model.decode(batch=1, seq_len=1).with_widths().graph.weight_memory())
        except symroof.SymroofError as refused:
            message = str(refused)
            clear = len(message) < 400 and message.isprintable() and message.startswith((quote(str(path)), quote(str(beside))))
            named_field = any(
                name in message for name in (*FIELDS, "hf_quant_config", "contains", "too deeply", "too many digits", "larger than")
            )
            if not clear or not named_field:
                wrong.append(f"{seed}: {message}")
            named += 1
            continue
        if not all(line.isprintable() and len(line) < 2000 for line in notes) or not model.parameters / 8 <= stored <= 6 * model.parameters:
            wrong.append(f"{seed}: {stored / model.parameters} bytes per weight, {notes}")
        understood += 1
    assert wrong == []
    assert understood > named > 0
