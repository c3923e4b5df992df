"""Layers that a search chose one by one: published sizes, what is refused, and tensor parallelism with KV heads of each layer's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sympy import Rational

import symroof
from symroof.architectures.config import catalogue
from symroof.operators.facts import Kind

SUPER, SMALL, ULTRA = "llama-3_3-nemotron-super-49b-v1", "llama-3_1-nemotron-51b-instruct", "llama-3_1-nemotron-ultra-253b-v1"
PLAIN = {name: json.loads(catalogue()[name].read_text()) for name in (SUPER, SMALL, ULTRA)}


def layers(name: str) -> list[tuple[int, int, int]]:
    """KV heads (0 for none, -1 for a matrix in place of attention) and MLP width of every layer, and its number, from the file."""
    config = PLAIN[name]
    found = []
    for number, block in enumerate(config["block_configs"]):
        attention, ffn = block["attention"], block["ffn"]
        heads = -1 if attention["replace_with_linear"] else 0
        if not attention["no_op"] and heads == 0:
            heads = config["num_attention_heads"] // attention["n_heads_in_group"]
        width = 0 if ffn["no_op"] else -(-int(2 * ffn["ffn_mult"] * config["hidden_size"] / 3) // 256) * 256
        found.append((heads, width, number))
    return found


def weights(name: str, degree: int = 1) -> int:
    """Of one of the devices, every one of which has all norms and matrices in place of attention, and a KV head at least."""
    config = PLAIN[name]
    d, v, e = config["hidden_size"], config["vocab_size"], config["hidden_size"] // config["num_attention_heads"]
    total = 2 * v * d // degree + d
    for heads, width, _ in layers(name):
        total += (d if heads else 0) + (d if width else 0) + 3 * d * width // degree
        total += d * d if heads == -1 else 0
        total += 2 * d * d // degree + 2 * d * e * max(heads // degree, 1) if heads > 0 else 0
    return total


@pytest.mark.parametrize(("name", "published"), [(SUPER, 49_867_145_216), (SMALL, 51_501_015_040), (ULTRA, 253_401_268_224)])
def test_parameters_layer_by_layer(name: str, published: int) -> None:
    model = symroof.load_model(name)
    assert model.parameters == weights(name) == published
    assert model.layers == len(PLAIN[name]["block_configs"])
    idle = sum(heads == width == 0 for heads, width, _ in layers(name))
    said = [line for line in model.decode().statements if "have neither attention nor an MLP" in line]
    assert len(said) == (idle > 0) == (name == ULTRA)


@pytest.mark.parametrize("degree", [2, 8, 16])
@pytest.mark.parametrize("name", [SMALL, SUPER])
def test_a_device_has_a_kv_head_of_every_layer(name: str, degree: int) -> None:
    """51B has layers with 8, 4, 2 and 1 of them."""
    step = symroof.load_model(name).decode(batch=3, seq_len=1000, weight_bits=16, activation_bits=16, kv_bits=16)
    graph = step.apply(f"tensor-parallel:degree={degree}").graph
    assert graph.weight_memory() == 2 * weights(name, degree)
    kept = sum(max(Rational(heads, degree), 1) for heads, _, _ in layers(name) if heads > 0)
    assert graph.kv_memory() == 2 * kept * 2 * 128 * 3 * 1000
    reduced = sum(operator.kind is Kind.COLLECTIVE for operator, _ in graph)
    assert reduced == sum(operator.name.endswith(("embedding", "out_proj", "down_proj", "lm_head")) for operator, _ in graph)


def test_windows_with_heads_of_their_own_are_copied_too() -> None:
    """MiMo-V2-Flash: 4 KV heads in full layers, 8 in those with a window; a key has 192 components, a value 128."""
    model = symroof.load_model("mimo-v2-flash")
    full, window = (int(model.dimensions[symroof.symbols.LAYERS[kind]]) for kind in ("full_moe", "sliding_moe"))
    dense, kept = model.layers - full - window, int(model.dimensions[symroof.symbols.W])
    for degree, heads in ((2, (2, 4)), (8, (1, 1)), (16, (1, 1))):
        step = model.decode(batch=1, seq_len=4096, kv_bits=16).apply(f"tensor-parallel:degree={degree}")
        assert step.graph.kv_memory() == 2 * 320 * ((full + dense) * 4096 * heads[0] + window * kept * heads[1])


FIRST: dict[str, dict[str, tuple[Any, str]]] = {
    "attention": {
        "n_heads_in_group": (None, "block_configs[0].attention.n_heads_in_group is null; expected a whole number"),
        "window_length": (128, "block_configs[0].attention.window_length is 128; only null is understood"),
        "no_op": ("yes", "block_configs[0].attention.no_op is 'yes'; expected true or false"),
    },
    "ffn": {
        "ffn_mult": (0, "block_configs[0].ffn.ffn_mult is 0; expected a number above 0"),
        "sparsify": ([{"rate": 2}], "block_configs[0].ffn.sparsify is [{'rate': 2}]; only null is understood"),
    },
}


@pytest.mark.parametrize(("half", "field"), [(half, field) for half, fields in FIRST.items() for field in fields])
def test_what_is_wrong_in_a_layer_is_named(tmp_path: Path, half: str, field: str) -> None:
    value, message = FIRST[half][field]
    assert message in refusal(tmp_path, lambda blocks: blocks[0][half].update({field: value}))


def test_a_list_of_another_length_and_too_many_sizes_are_named(tmp_path: Path) -> None:
    assert "block_configs is a list of 79; expected a list of 80 objects" in refusal(tmp_path, lambda blocks: blocks.pop())
    seven = refusal(tmp_path, lambda blocks: blocks[0]["attention"].update(n_heads_in_group=7))
    assert "num_attention_heads 64 is not divisible by block_configs[0].attention.n_heads_in_group 7" in seven

    def many(blocks: list[dict[str, Any]]) -> None:
        for number, block in enumerate(blocks, 1):
            block["ffn"]["ffn_mult"] = number / 8

    assert "block_configs has 80 widths of MLPs; at most 32 are understood" in refusal(tmp_path, many)


def refusal(folder: Path, change: Any) -> str:
    config = json.loads(json.dumps(PLAIN[SUPER]))
    change(config["block_configs"])
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    with pytest.raises(symroof.SymroofError) as error:
        symroof.load_model(path)
    return str(error.value)


def test_experts_for_images_stay_in_memory_and_are_not_read() -> None:
    """ERNIE 4.5 VL: in 27 of 28 layers 64 experts of 1536 for text and 64 of 512 for images; what divides the former divides both."""
    model = symroof.load_model("ernie-4.5-vl-28b-a3b-pt")
    step = model.decode(batch=8, seq_len=100, weight_bits=16, activation_bits=16, kv_bits=16)
    text, images = (27 * 64 * 3 * 2560 * width for width in (1536, 512))
    rest = model.parameters - text - images
    assert model.active_parameters == rest + text * 6 // 64
    assert not any(operator.name.startswith("images.") for operator, _ in step)
    assert step.graph.weight_memory() == 2 * (rest + text + images)
    assert step.apply("expert-parallel:degree=8").graph.weight_memory() == 2 * (rest + (text + images) // 8)
    kept = step.apply("quantize:weights=8").graph.weight_memory() - (text + images)
    assert kept == step.apply("quantize:weights=8,keep=moe.shared_gate_proj").graph.weight_memory() - (text + images) - 27 * 2560 * 3072
    half = step.apply("skip-layers:depth=1/2").graph.weight_memory()
    assert half == step.graph.weight_memory() / 2 + 103424 * 2560 + 2560
