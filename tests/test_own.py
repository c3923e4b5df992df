"""Models from einsums: their formulas are those of the library's own parts, in both phases, and what does not fit is refused."""

from __future__ import annotations

import pytest
from sympy import Integer

import symroof
from symroof import operator, own_model, tensor
from symroof.errors import EinsumError, InputError, SymroofError
from symroof.operators import Operator, Storage
from symroof.symbols import b, d, declare, e, g, h, k, s, t, w

SIZES = {"d": 4096, "k": 8, "g": 4, "e": 128}


def layer() -> list[Operator]:
    """Projections, caches and grouped attention, as a family has them."""
    x = tensor("hidden", "b s d")
    keys, values = (tensor(name, "b t k e", "kv_cache") for name in ("k_cache", "v_cache"))
    weights = {
        name: tensor(f"{name}.weight", axes, "weight")
        for name, axes in (("q", "d k g e"), ("k", "d k e"), ("v", "d k e"), ("o", "k g e d"))
    }
    q = operator("b s d, d k g e -> b s k g e", x, weights["q"], name="q_proj", role="projection")
    new = operator("b s d, d k e -> b s k e", x, weights["k"], name="k_proj", role="projection", into=keys)
    more = operator("b s d, d k e -> b s k e", x, weights["v"], name="v_proj", role="projection", into=values)
    qk = operator("b s k g e, b t k e -> b k g s t", q, keys, name="qk_matmul", role="scores")
    softmax = operator("b k g s t -> b k g s t", qk, name="softmax", role="softmax", flops=5, exponentials=1)
    sv = operator("b k g s t, b t k e -> b s k g e", softmax, values, name="sv_matmul", role="weighted_sum")
    out = operator("b s k g e, k g e d -> b s d", sv, weights["o"], name="out_proj", role="projection", into=x)
    return [q, new, more, qk, softmax, sv, out]


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("causal", [True, False])
def test_operators_are_those_of_a_family(phase: str, causal: bool) -> None:
    own = getattr(own_model("own", layer(), layers=32, sizes=SIZES), phase)(causal=causal)
    known = getattr(symroof.load_model("llama-3-8b"), phase)(causal=causal)
    for name in ("q_proj", "v_proj", "qk_matmul", "softmax", "sv_matmul", "out_proj"):  # the family's keys are turned before they are kept
        mine, theirs = own.graph[name], known.graph[name]
        assert (mine.flop_count - theirs.flop_count).expand() == 0, name
        for storage in Storage:
            assert (mine.byte_count(storage) - theirs.byte_count(storage)).expand() == 0, (name, storage)
    assert (own.graph.kv_memory() - known.graph.kv_memory()).expand() == 0
    for text in ("flash-attention", "quantize:kv=8", "tensor-parallel:degree=4,link=100GB/s"):
        mine, theirs = (step.apply(text).graph for step in (own, known))
        name = "fused_attention" if text == "flash-attention" else "qk_matmul"
        assert (mine[name].byte_count() - theirs[name].byte_count()).expand() == 0, text
        assert (mine.kv_memory() - theirs.kv_memory()).expand() == 0, text


def test_dimensions_stay_symbols_where_they_are_asked_for() -> None:
    step = own_model("own", layer(), layers=32, sizes=SIZES).prefill(symbolic=True, causal=False)
    assert step["q_proj"].flops.exact == 2 * b * d * e * g * k * s
    assert step["qk_matmul"].flops.exact == 2 * b * e * g * k * s**2
    assert own_model("own", layer(), sizes=SIZES).decode()["qk_matmul"].flops.exact == 2 * 32 * 128 * b * t


def test_a_crossover_against_an_integer_scan() -> None:
    model = own_model("own", layer(), layers=32, sizes=SIZES)
    widths = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16, "seq_len": 128}
    found = symroof.crossover(model.decode(**widths), "q_proj", over="batch", hardware="a100-sxm-80gb")
    bounds = (
        batch
        for batch in range(1, 400)
        if symroof.analyze(model.decode(batch=batch, **widths), "a100-sxm-80gb")["q_proj"].bound == "compute"
    )
    assert found.first_integer == next(bounds)


def test_axes_of_ones_own() -> None:
    lanes = declare("n_lane", "lanes", "lanes of a layer of one's own", domain="integer")
    mixed = operator("b s n_lane d, n_lane d -> b s d", "lanes", tensor("mix", "n_lane d", "weight"), name="mix")
    model = own_model("lanes", [mixed], sizes={"lanes": 4, "d": 64})
    assert model.parameters == 256
    step = model.decode(symbolic=True)
    assert step["mix"].flops.exact == 2 * b * d * lanes
    assert symroof.crossover(step, "mix", over="lanes").verdict
    assert step["mix"].byte_count(Storage.WEIGHT) == d * lanes * w / 8


@pytest.mark.parametrize(
    ("make", "kind", "why"),
    [
        (
            lambda: tensor("x", "b q"),
            InputError,
            "tensor 'x': axis 'q' is not a symbol of the library: make it with symroof.symbols.declare",
        ),
        (lambda: tensor("x", "b b"), EinsumError, "has axis 'b' twice"),
        (lambda: tensor("x", "b", "cache"), InputError, "storage 'cache'"),
        (lambda: operator("b d, d f", "x", "y", name="up"), EinsumError, "is not an einsum"),
        (lambda: operator("b d, d f -> b f", "x", name="up"), EinsumError, "up: 'b d, d f -> b f' has 2 operands, and 1 are given"),
        (lambda: operator("b d -> b", "x", name="sum"), EinsumError, "sum: a contraction has two operands, 'b d -> b' has 1; give flops"),
        (
            lambda: operator("b d, d f -> b f", tensor("x", "b f"), "y", name="up"),
            EinsumError,
            "up: the einsum needs axes 'b d', tensor 'x' has 'b f'",
        ),
        (
            lambda: operator("b d -> b d", "x", name="up", role="scorer", flops=1),
            InputError,
            "role 'scorer': did you mean scores or score_cap?",
        ),
        (lambda: own_model("none", []), InputError, "operators []: give at least one"),
        (lambda: own_model("own", layer(), sizes={"hidden_sise": 4}), InputError, "did you mean hidden_size?"),
        (lambda: own_model("own", layer(), layers=0), InputError, "layers 0: expected a whole number"),
        (lambda: own_model("own", layer()).decode(lm_head="all"), InputError, "lm_head 'all': an einsum says what is computed"),
    ],
)
def test_what_does_not_fit_is_refused_in_a_line(make, kind: type[SymroofError], why: str) -> None:
    with pytest.raises(kind) as raised:
        make()
    assert why in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_technique_may_use_the_builder_within_a_graph() -> None:
    """Sizes are those of the operands: in a decode step a token is one, whatever the symbol says."""
    up = symroof.load_model("llama-3-8b").decode(symbolic=True).symbolic["up_proj"]
    low = operator("b s d, d rho -> b s rho", up.reads[0].tensor, tensor("A", "d rho", "weight"), name="low")
    assert low.flop_count.subs({b: 1, d: 4096, symroof.symbols.rho: 16}) == Integer(2 * 4096 * 16)
    assert h not in low.flop_count.free_symbols


def test_flash_attention_fuses_scores_that_are_sums() -> None:
    """Scores of a latent and of a rotary key: all four operators are one, with their FLOPs, and every cached number read once."""
    latent, rotary = symroof.tensor("latent", "b t k r_kv", "kv_cache"), symroof.tensor("rotary", "b t r", "kv_cache")
    parts = [
        symroof.operator("b s k g r_kv, b t k r_kv -> b k g s t", "query", latent, name="content", role="scores"),
        symroof.operator("b s k g r, b t r -> b k g s t", "rotary_query", rotary, name="position", role="scores"),
    ]
    parts.append(symroof.operator("b k g s t, b k g s t -> b k g s t", *parts, name="softmax", role="softmax", flops=6))
    parts.append(symroof.operator("b k g s t, b t k r_kv -> b s k g r_kv", parts[2], latent, name="sv", role="weighted_sum"))
    model = symroof.own_model("gla", parts, layers=3, sizes={"k": 2, "g": 16, "r_kv": 256, "r": 64})
    for step in (model.decode(batch=3, seq_len=500).with_widths(), model.prefill(batch=3, seq_len=500).with_widths()):
        (whole, count), *others = step.apply("flash-attention").graph
        assert (count, others, whole.name) == (3, [], "fused_attention")
        assert whole.flop_count == sum(operator.flop_count for operator, _ in step.graph)
        rows = 500 if step.options.decode else sum(range(500)) + 500
        assert whole.contraction_flop_count == 2 * 3 * 32 * (2 * 256 + 64) * rows
        queries = 1 if step.options.decode else 500
        one_pass = whole.byte_count().subs(symroof.symbols.R, 500).doit()
        assert one_pass == 2 * 3 * (500 * (2 * 256 + 64) + queries * 32 * (2 * 256 + 64))
