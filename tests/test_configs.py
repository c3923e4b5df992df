"""Configs a user may hand over: right, odd, and wrong; each wrong one gets one line that names the field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import symroof
from symroof import symbols
from symroof.architectures.config import catalogue
from symroof.architectures.families import FAMILIES, MODEL_TYPES, family_of, multimodal
from symroof.architectures.families.family import DecoderFamily
from symroof.architectures.families.layouts import last_of_each
from symroof.architectures.families.recipes import WITH_BIAS, attention, flag, mlp
from symroof.architectures.fields import Fields
from symroof.operators.elementwise import Norm

LLAMA = json.loads(catalogue()["llama-2-7b"].read_text())
BASES = [json.loads(catalogue()[name].read_text()) for name in ("llama-2-7b", "opt-350m", "gpt-j-6b", "chatglm3-6b", "dit-s-2")]


def load(tmp_path: Path, content: Any) -> symroof.Model:
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return symroof.load_model(path)


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "zero": ({"hidden_size": 0}, "hidden_size is 0; expected a whole number from 1 to 1e12"),
    "negative": ({"num_hidden_layers": -1}, "num_hidden_layers is -1; expected a whole number"),
    "fraction": ({"vocab_size": 1.5}, "vocab_size is 1.5; expected a whole number"),
    "text": ({"hidden_size": "4096"}, "hidden_size is '4096'; expected a whole number"),
    "boolean": ({"hidden_size": True}, "hidden_size is True; expected a whole number"),
    "huge": ({"hidden_size": 10**13}, "hidden_size is 10000000000000; expected a whole number from 1 to 1e12"),
    "null": ({"intermediate_size": None}, "intermediate_size is null; expected a whole number"),
    "list": ({"num_attention_heads": [32]}, "num_attention_heads is [32]; expected a whole number"),
    "heads": ({"num_key_value_heads": 5}, "num_attention_heads 32 is not divisible by num_key_value_heads 5"),
    "head size": ({"num_attention_heads": 24, "num_key_value_heads": 24}, "hidden_size 4096 is not divisible by num_attention_heads 24"),
    "flag": ({"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no'; expected true or false"),
    "activation": ({"hidden_act": "sillu"}, "hidden_act is 'sillu'; did you mean silu"),
    "family": ({"model_type": "llamma"}, "model_type 'llamma' is not a family known here; did you mean llama"),
    "another family": ({"model_type": "internvl"}, "model_type 'internvl' is not a family known here; known: llama, "),
    "a part": ({"model_type": "hunyuan_v1"}, "model_type 'hunyuan_v1' is not a family known here; known: llama, "),
    "no family": ({"model_type": None}, "model_type is missing; known: llama, "),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_field_is_named_and_quoted(tmp_path: Path, case: str) -> None:
    changes, message = WRONG[case]
    with pytest.raises(symroof.SymroofError) as error:
        load(tmp_path, LLAMA | changes)
    assert "config.json': " in str(error.value)
    assert message in str(error.value)


GARBAGE = {
    "truncated": (b'{"model_type": "llama"', "is not JSON"),
    "list": (b"[1]", "contains [1]; expected one JSON object of fields"),
    "not text": (b"\xff\xfe{}", "is not UTF-8 text (byte 0)"),
    "digits": (b'{"hidden_size": ' + b"9" * 10**6 + b"}", "contains a number with too many digits"),
    "deep": (b"[" * 10**5, "is nested too deeply"),
    "twice": (b'{"model_type": "llama", "model_type": "opt"}', "field 'model_type' occurs twice"),
    "large": (b" " * 5_000_000, "is larger than 4000000 bytes: not a config.json"),
    "empty": (b"", "is not JSON"),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_a_file_that_is_no_config(tmp_path: Path, case: str) -> None:
    content, message = GARBAGE[case]
    with pytest.raises(symroof.SymroofError) as error:
        load(tmp_path, content)
    assert message in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 400


def test_a_field_that_is_not_understood_is_reported(tmp_path: Path) -> None:
    model = load(tmp_path, LLAMA | {"num_experts": 8, "rope_theta": 1e6, "_comment": "mine"})
    assert model.unread == ("num_experts",)
    assert any("num_experts" in line for line in model.decode().statements)


def test_head_dim_may_differ_from_hidden_over_heads(tmp_path: Path) -> None:
    wide = load(tmp_path, LLAMA | {"head_dim": 256})
    assert wide.parameters - symroof.load_model("llama-2-7b").parameters == 32 * 4 * 4096 * 32 * 128


def test_absent_kv_heads_mean_multi_head_attention(tmp_path: Path) -> None:
    absent = {key: value for key, value in LLAMA.items() if key != "num_key_value_heads"}
    assert load(tmp_path, absent).parameters == symroof.load_model("llama-2-7b").parameters


def test_a_folder_is_as_good_as_its_config(tmp_path: Path) -> None:
    load(tmp_path, LLAMA)
    model = symroof.load_model(tmp_path)
    assert (model.name, model.parameters) == (tmp_path.name, 6738415616)


def test_beyond_the_published_positions_is_said() -> None:
    notes = symroof.load_model("opt-125m").decode(seq_len=5000).statements
    assert "5000 tokens are more than the 2048 positions the model was published for" in notes


values = st.one_of(
    *(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), st.text(max_size=8)),
    *(st.lists(st.integers(), max_size=2), st.dictionaries(st.text(max_size=3), st.integers(), max_size=2)),
)


@pytest.mark.slow
@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_mutated_configs_are_understood_or_refused(tmp_path: Path, data: st.DataObject) -> None:
    """Fields dropped, or replaced by anything: a graph whose counts add up, or one clear line."""
    config = dict(data.draw(st.sampled_from(BASES)))
    for name in data.draw(st.lists(st.sampled_from(sorted(config)), min_size=1, max_size=3, unique=True)):
        if data.draw(st.booleans()):
            del config[name]
        else:
            config[name] = data.draw(values)
    try:
        model = load(tmp_path, config)
    except symroof.SymroofError as error:
        message = str(error)
    else:
        assert sum(model.parameters_per_part.values()) == model.parameters > 0
        assert model.decode(batch=1, seq_len=2).graph.flop_count > 0
        return
    assert len(message.splitlines()) == 1


def test_every_family_is_in_models() -> None:
    contents = [json.loads(path.read_text()) for path in catalogue().values()]
    kinds = {content.get("model_type") or content["_class_name"] for content in contents}
    assert kinds <= {*MODEL_TYPES, *multimodal.FAMILIES}
    texts = [(content.get("text_config", {}), multimodal.FAMILIES.get(content.get("model_type"))) for content in contents]
    kinds |= {inner.get("model_type") or known.text[0] for inner, known in texts if known and known.text}
    missing = set(FAMILIES) - {family_of(kind) for kind in kinds if kind in MODEL_TYPES}
    assert {family.family for family in missing} == {
        "ministral",
        "internlm2",
        "hunyuan_v1_moe",
        "exaone_moe",
        "bailing_moe_v2",
    }  # no published config was at hand
    assert {kind for kind in kinds if kind in multimodal.FAMILIES} == set(multimodal.FAMILIES) - {"phi4_multimodal", "minimax_m3_vl"}


def test_a_family_is_one_entry() -> None:
    """Llama with norms on queries and keys, a flag that gives the MLP biases, and a name of its own for the vocabulary."""
    family = DecoderFamily(
        "pane",
        "made up",
        {"full": attention(kv_heads=4, qk_norm=Norm.RMS, **WITH_BIAS), "dense": mlp(bias=flag("pane_bias", True))},
        mixers=last_of_each(4, "window_period"),
        window=1024,
        vocabulary="words",
        ignored=("pane_dropout",),
    )
    config = {key: value for key, value in LLAMA.items() if key not in ("vocab_size", "num_key_value_heads", "mlp_bias")}
    fields = Fields(config | {"words": 32000, "pane_dropout": 0.1, "strange": 1}, "pane/config.json")
    architecture = family.read(fields)
    pane, llama = symroof.Model("pane", architecture, "pane/config.json"), symroof.load_model("llama-2-7b")
    fewer_kv_heads, norms, biases = 2 * (32 - 4) * 128 * 4096, 2 * 128, 2 * 11008 + 4096
    assert pane.parameters - llama.parameters == 32 * (norms + biases - fewer_kv_heads)
    assert (architecture.family, architecture.dimensions[symbols.W]) == ("pane", 1024)
    assert [architecture.dimensions[symbols.LAYERS[kind]] for kind in ("sliding", "full")] == [24, 8]
    assert fields.unread((*family.ignored_fields, "model_type")) == ["strange"]
    for changes, message in (
        ({"words": "many"}, "words is 'many'; expected a whole number"),
        ({"pane_bias": 1}, "pane_bias is 1; expected true or false"),
        ({"window_period": 0}, "window_period is 0; expected a whole number"),
        ({"add_cross_attention": True}, "add_cross_attention is True; only False is understood"),
    ):
        with pytest.raises(symroof.SymroofError, match=message):
            family.read(Fields(config | {"words": 32000} | changes, "pane/config.json"))


def test_the_catalogue_is_read_once_and_a_file_again(tmp_path: Path) -> None:
    assert symroof.load_model("llama-2-7b") is symroof.load_model("meta-llama/Llama-2-7b-hf")
    assert load(tmp_path, LLAMA).layers == 32
    assert load(tmp_path, LLAMA | {"num_hidden_layers": 7}).layers == 7


def test_every_published_config_names_its_source() -> None:
    for path in catalogue().values():
        content = json.loads(path.read_text())
        assert content["_source"]
        assert content["_license"]
        assert symroof.load_model(content["_name_or_path"]).name == path.stem
        assert symroof.load_model(path.stem).unread == ()


def test_the_survey_s_models_have_the_survey_s_dimensions() -> None:
    """`name hidden intermediate layers heads kv_heads vocabulary`, as the survey's tool had them."""
    listed = """
    llama-2-7b 4096 11008 32 32 32 32000
    llama-2-13b 5120 13824 40 40 40 32000
    llama-2-70b 8192 28672 80 64 8 32000
    opt-125m 768 3072 12 12 12 50272
    opt-1.3b 2048 8192 24 32 32 50272
    opt-2.7b 2560 10240 32 32 32 50272
    opt-6.7b 4096 16384 32 32 32 50272
    opt-13b 5120 20480 40 40 40 50272
    opt-30b 7168 28672 48 56 56 50272
    opt-66b 9216 36864 64 72 72 50272
    gpt-j-6b 4096 16384 28 16 16 50400
    chatglm3-6b 4096 13696 28 32 2 65024
    """
    from symroof.symbols import L, d, f, h, k, v

    for line in listed.split("\n")[1:-1]:
        name, *numbers = line.split()
        sizes = symroof.load_model(name).architecture.dimensions
        assert [sizes[d], sizes[f], sizes[L], sizes[h], sizes.get(k, sizes[h]), sizes[v]] == [int(number) for number in numbers]
