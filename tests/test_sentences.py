"""What is said beside the numbers: conventions of models and techniques, certificates, names of columns, short forms."""

from __future__ import annotations

import csv
import json
import re

import pytest

import symroof
from symroof.architectures.config import catalogue
from symroof.architectures.parts.compressed import CompressedAttention
from symroof.questions.technique_effect import effect_of
from symroof.symbols import E
from symroof.techniques.registry import names, technique, technique_class
from tests.steps import A100, WIDTHS, analysis, step

PLACEHOLDERS = re.compile(r"\b(None|True|False|oo|zoo|nan|inf|object at)\b|[{}]|  ")
"""What a program leaves in a sentence where a word or a number is missing."""


def last(text: str, model: str = "llama-2-7b", phase: str = "decode", **inputs: int) -> str:
    """The sentences of the technique that was applied last."""
    made = step(model, phase, text, **({"batch": 8, "seq_len": 512} | inputs))
    name = made.symbolic.applied[-1].name
    return " ".join(line.text for line in made.symbolic.conventions if line.key == name)


@pytest.mark.parametrize("name", catalogue())
def test_a_model_is_told_about_what_it_has(name: str) -> None:
    model = symroof.load_model(name)
    texts = " ".join(model.prefill(symbolic=True).statements)
    assert ("mixture of experts" in texts) == (E in model.dimensions)
    layers = getattr(model.architecture, "layers", ())
    windows = any((layer.window and not layer.chunked) or isinstance(layer.mixer, CompressedAttention) for layer in layers)
    assert ("sliding window" in texts) == windows
    assert ("chunked attention" in texts) == any(layer.chunked for layer in layers)
    assert not PLACEHOLDERS.search(texts), texts


@pytest.mark.parametrize("name", names())
def test_a_technique_says_its_name_and_nothing_unfinished(name: str) -> None:
    effect = effect_of(technique_class(name))
    for made in (effect.technique(symbolic=False), effect.technique(symbolic=True)):
        before = effect.step(over=False)
        texts = [line.text for line in before.apply(made).symbolic.conventions if line not in before.symbolic.conventions]
        assert texts
        assert not [text for text in texts if PLACEHOLDERS.search(text)], texts


@pytest.mark.parametrize(
    ("text", "present", "absent"),
    [
        ("quantize:weights=4,group=128", "q_s = 16, q_z = 0", "per-tensor scales"),
        ("quantize:weights=4", "per-tensor scales not counted", "q_s"),
        ("quantize:weights=4", "dequantization is free", "two operations"),
        ("quantize:weights=4,dequantize=counted", "two operations per weight", "is free"),
        ("offload:share=1/2", "the longer of all work and all transfers", "computes with them"),
        ("offload:share=1/2", "overlaps with this layer's work", "overlaps with its own operator"),
        ("offload:share=1/2,overlap=operator", "overlaps with its own operator", "overlaps with this layer's work"),
        ("quantize:weights=8,activations=8", "converted once, by a separate pass", "a lower bound"),
        ("quantize:weights=8,activations=8,scope=all", "is a lower bound on time", "converted once"),
        ("medusa:heads=2,nodes=4,acceptance=0.5", "the heads run on all of them", "the last accepted"),
        ("medusa:heads=2,nodes=4,acceptance=0.5,rows=last", "only the last accepted token", "all of them"),
        ("early-exit:depth=1/2", "from the token's hidden state at exit", "a lower bound"),
        ("early-exit:depth=1/2,skipped_kv=none", "no keys or values, a lower bound on time", "at exit"),
        ("offload:share=1,compute=cpu,unit=xeon-platinum-8480plus", "xeon-platinum-8480plus computes with them", "its own operator"),
        ("offload:what=kv,share=1/2", "of the kv in host memory", "LM head"),
        ("flash-attention:reread=memory", "from the on-chip buffer", "B_c"),
        ("flash-attention:rows=64,keys=32", "B_r = 64 query rows and B_c = 32 keys", "on-chip buffer"),
    ],
)
def test_a_sentence_follows_the_parameters(text: str, present: str, absent: str) -> None:
    said = last(text, phase="prefill" if text.startswith("flash") else "decode")
    assert present in said
    assert absent not in said


def test_a_certificate_by_roots_ends_where_the_range_does() -> None:
    free = step(seq_len=512)
    answer = symroof.prove(free, "memory-bound", "attn_add", for_all="batch", hardware=A100)
    assert answer.verdict == "proved"
    for proved in (answer, symroof.prove(free, "compute-bound", "up_proj", for_all="batch", at_least={"batch": 200}, hardware=A100)):
        assert not PLACEHOLDERS.search(proved.certificate), proved.certificate


def test_every_word_of_a_technique_has_choices_or_a_meaning() -> None:
    for name in names():
        kind = technique_class(name)
        for field in kind.__dataclass_fields__.values():
            if "choices" in field.metadata:
                assert field.metadata["choices"] or field.metadata["meaning"], (name, field.name)


def test_the_table_of_operators_names_its_formulas(run) -> None:
    command = ("analyze", "llama-2-7b", "--hardware", "a100", "--phase", "decode", "--seq-len", 64, "--formulas", "--format", "csv")
    header, first = [*csv.reader(run(*command).out.splitlines())][:2]
    row = dict(zip(header, first, strict=True))
    assert {"formula_flops", "formula_bytes"} <= row.keys()
    operator = step(batch=1, seq_len=64).symbolic[row["name"]]
    letters = {str(symbol) for symbol in operator.byte_count().free_symbols}
    assert set(re.findall(r"[A-Za-z]\w*", row["formula_bytes"])) == letters


def test_an_operator_s_short_form_is_short() -> None:
    group = step("llama-2-7b", "decode", "fuse:operators=gate_proj+up_proj+mlp_act", batch=1, seq_len=64)["gate_proj+up_proj+mlp_act"]
    for operator in (analysis(batch=1, seq_len=64)["up_proj"].operator, group):
        assert operator.name in repr(operator)
        assert len(repr(operator)) < 400, repr(operator)


def test_a_long_name_of_a_module_is_cut_at_sixty(tmp_path) -> None:
    content = json.loads(catalogue()["llama-2-7b"].read_text())
    long = "abcdefghij" * 7
    content["quantization_config"] = {"quant_method": "awq", "bits": 4, "group_size": 128, "modules_to_not_convert": [long]}
    (tmp_path / "config.json").write_text(json.dumps(content))
    said = " ".join(symroof.load_model(tmp_path).decode(activation_bits=16, kv_bits=16).statements)
    assert long[:60] in said
    assert long[:61] not in said


def test_sentences_tell_the_widths() -> None:
    made = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=64, **WIDTHS).apply(technique("quantize:weights=4,kv=8"))
    said = " ".join(made.statements)
    assert "weights 4" in said
    assert "kv 8" in said
    assert "activations" not in said.partition("quantize:")[2].partition(";")[0]
