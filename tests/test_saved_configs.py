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


AT_ODDS = "mistral-small-3.1-24b-instruct-2503"
"""Its outer config does not say whether the LM head is tied; Mistral3Config fills in yes, and text_config says no."""


@pytest.mark.parametrize("name", sorted(SAVED.keys() - {AT_ODDS}))
def test_a_config_saved_by_transformers_5_says_the_same(tmp_path: Path, name: str) -> None:
    """The same structure; only the number of positions may differ, which some classes drop or fill in."""
    known, again = symroof.load_model(name), read(tmp_path, SAVED[name])
    assert replace(again.architecture, max_positions=None) == replace(known.architecture, max_positions=None)
    assert again.unread == ()


def test_the_outer_config_decides_on_the_head(tmp_path: Path) -> None:
    """As in Transformers 5, which ties it then."""
    known, again = symroof.load_model(AT_ODDS), read(tmp_path, SAVED[AT_ODDS])
    assert not known.architecture.tied
    assert replace(again.architecture, max_positions=None) == replace(known.architecture, max_positions=None, tied=True)


def test_the_saved_spellings_are_there() -> None:
    """What the test above is about occurs in the files."""
    assert any("rope_parameters" in config for config in SAVED.values())
    assert any(config.get("sliding_window") == 0 for config in SAVED.values())
    assert any("layers_block_type" in config and "num_hidden_layers" not in config for config in SAVED.values())
    assert any("dtype" in config.get("text_config", {}) for config in SAVED.values())


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
