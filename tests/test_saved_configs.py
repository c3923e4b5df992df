"""Configs as tools save them: Transformers 5's own spellings, and what publishers leave out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import symroof

SAVED = {line["name"]: line["config"] for line in map(json.loads, Path("tests/data/transformers5_saved.jsonl").read_text().splitlines())}
"""Of one model per model_type, the catalogue's config as Transformers 5.24 saves it again; the script beside it made them."""


def read(folder: Path, config: dict[str, Any]) -> symroof.Model:
    path = folder / "config.json"
    path.write_text(json.dumps(config))
    return symroof.load_model(path)


TIED_WHEN_SAVED = ("mistral-small-3.1-24b-instruct-2503", "flan-t5-xl")
"""The outer config of the first does not say whether the LM head is tied: Mistral3Config fills in yes, and text_config says no.
T5Config writes yes where the file says no."""
OF_DEFAULTS = "step-3.7-flash"
"""Transformers 5.24 does not read this file's fields, which stand outside a `text_config`: what it saves is its default config."""


@pytest.mark.parametrize("name", sorted(SAVED.keys() - {OF_DEFAULTS}))
def test_a_config_saved_by_transformers_5_says_the_same(tmp_path: Path, name: str) -> None:
    """The same structure; only the number of positions may differ, which some classes drop or fill in."""
    known, again = symroof.load_model(name), read(tmp_path, SAVED[name])
    changes: dict[str, Any] = {"max_positions": None} | ({"tied": True} if name in TIED_WHEN_SAVED else {})
    assert replace(again.architecture, max_positions=None) == replace(known.architecture, **changes)
    assert known.architecture.tied != again.architecture.tied or name not in TIED_WHEN_SAVED
    assert set(again.unread) <= {"expert_dtype"}, "DeepSeek V4's, where no quantization is beside it"


def test_the_saved_spellings_are_there() -> None:
    """What the test above is about occurs in the files."""
    assert any("rope_parameters" in config for config in SAVED.values())
    assert any(config.get("sliding_window") == 0 for config in SAVED.values())
    assert any("layers_block_type" in config and "num_hidden_layers" not in config for config in SAVED.values())
    assert any("dtype" in config.get("text_config", {}) for config in SAVED.values())


NESTED = json.loads(Path(symroof.load_model("qwen3-vl-8b-instruct").origin).read_text())
MODERN = json.loads(Path(symroof.load_model("modernbert-base").origin).read_text())


@pytest.mark.parametrize("config", [NESTED, MODERN], ids=["nested", "encoder"])
def test_whether_there_is_an_encoder_is_read_wherever_it_is_said(tmp_path: Path, config: dict[str, Any]) -> None:
    """`to_dict` of Transformers writes it outside too."""
    assert read(tmp_path, config | {"is_encoder_decoder": False}).unread == ()
    with pytest.raises(symroof.SymroofError, match="is_encoder_decoder is True; only False is understood"):
        read(tmp_path, config | {"is_encoder_decoder": True})


OWN = SAVED["gemma-4-26b-a4b"]
FIELDS_OF_LAYERS = OWN["text_config"]["per_layer_config"]


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_numbers_of_layers_may_have_leading_zeros(tmp_path: Path, digits: int) -> None:
    """Transformers 5 writes as many digits as the largest has."""
    assert "05" in FIELDS_OF_LAYERS
    stated = {str(int(number)).zfill(digits): own for number, own in FIELDS_OF_LAYERS.items()}
    model = read(tmp_path, OWN | {"text_config": OWN["text_config"] | {"per_layer_config": stated}})
    assert model.architecture == symroof.load_model("gemma-4-26b-a4b").architecture


@pytest.mark.parametrize(
    ("stated", "refusal"),
    [
        ({number: own | {"intermediate_size": 9} for number, own in FIELDS_OF_LAYERS.items()}, "has 'intermediate_size'; only "),
        (FIELDS_OF_LAYERS | {"5": FIELDS_OF_LAYERS["05"]}, "the same for all of a kind"),
        (FIELDS_OF_LAYERS | {"06": FIELDS_OF_LAYERS["05"]}, "the same for all of a kind"),
    ],
)
def test_fields_of_single_layers_are_read_or_refused(tmp_path: Path, stated: dict[str, Any], refusal: str) -> None:
    with pytest.raises(symroof.SymroofError, match=f"text_config.per_layer_config .*{refusal}"):
        read(tmp_path, OWN | {"text_config": OWN["text_config"] | {"per_layer_config": stated}})


@pytest.mark.parametrize(
    ("name", "within"),
    [("dbrx-instruct", "ffn_config"), ("mpt-7b", "attn_config"), ("minimax-m3", "sparse_attention_config")],
)
def test_an_unknown_field_inside_an_object_is_named(tmp_path: Path, name: str, within: str) -> None:
    config = json.loads(Path(symroof.load_model(name).origin).read_text())
    assert read(tmp_path, config | {within: config.get(within, {}) | {"mystery": 3}}).unread == (f"{within}.mystery",)


def test_a_kind_of_layers_rotates_what_stands_outside_if_it_says_nothing(tmp_path: Path) -> None:
    config = SAVED["mimo-v2-flash"]
    stated = {kind: {"rope_theta": 1e4, "rope_type": "default"} for kind in config["rope_parameters"]}
    again = read(tmp_path, config | {"rope_parameters": stated, "partial_rotary_factor": 0.5})
    assert (again.dimensions[symroof.symbols.r], again.dimensions[symroof.symbols.r_w]) == (96, 96)
    stated["full_attention"]["partial_rotary_factor"] = 0.25
    assert read(tmp_path, config | {"rope_parameters": stated}).dimensions[symroof.symbols.r] == 48


PLAIN = json.loads(Path(symroof.load_model("mistral-7b-v0.1").origin).read_text())


@pytest.mark.parametrize(("window", "kept"), [(0, 0), (None, 0), (128, 128)])
def test_a_window_of_zero_is_none(tmp_path: Path, window: int | None, kept: int) -> None:
    model = read(tmp_path, PLAIN | {"sliding_window": window})
    assert model.architecture.dimensions.get(symroof.symbols.W, 0) == kept


@pytest.mark.parametrize("window", [False, -1, 0.0, "0"])
def test_what_is_no_window_is_told(tmp_path: Path, window: object) -> None:
    with pytest.raises(symroof.SymroofError, match="sliding_window is "):
        read(tmp_path, PLAIN | {"sliding_window": window})


def test_layers_are_as_many_as_are_listed(tmp_path: Path) -> None:
    config = json.loads(Path(symroof.load_model("smollm3-3b").origin).read_text())
    del config["num_hidden_layers"], config["no_rope_layers"]
    assert read(tmp_path, config | {"layer_types": ["full_attention"] * 7}).layers == 7
    with pytest.raises(symroof.SymroofError, match="num_hidden_layers is missing"):
        read(tmp_path, config | {"layer_types": []})


def test_gpt2_has_1024_positions_where_it_says_nothing(tmp_path: Path) -> None:
    """As GPT2Config of Transformers."""
    config = json.loads(Path(symroof.load_model("gpt2").origin).read_text())
    for name in ("n_positions", "n_ctx"):
        config.pop(name, None)
    assert read(tmp_path, config).architecture == symroof.load_model("gpt2").architecture
