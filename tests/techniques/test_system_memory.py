"""Paging and offloading: what they change and nothing else, their limits, where they pay, what they refuse."""

from __future__ import annotations

import random

import pytest
from sympy import Integer, Rational, simplify

import symroof
from symroof.architectures.step import Step
from symroof.errors import DeviceError, InputError
from symroof.operators.facts import Kind
from symroof.operators.operator import Direction, Operator
from symroof.operators.tensor import Level, Storage
from symroof.questions.payoff import payoff
from symroof.questions.regimes import regimes
from symroof.symbols import BW, BW_h, P, b, omega, w
from symroof.techniques.registry import chain, technique

MODELS = ("llama-2-7b", "llama-3-8b", "mixtral-8x7b-v0.1", "opt-125m", "gemma-2-2b", "deepseek-v2-lite", "jamba-v0.1")
SIXTEEN = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
A100, A6000, CPU = "a100-sxm-80gb", "survey/nvidia_A6000", "survey/intel_13900k"


def numbers(model: str, phase: str = "decode", **inputs):
    return getattr(symroof.load_model(model), phase)(**SIXTEEN, **{"batch": 3, "seq_len": 64, **inputs})


def booked(operator: Operator, level: Level = Level.MEMORY) -> dict:
    return {(place, way): operator.byte_count(place, way, level) for place in Storage for way in Direction}


# paging


@pytest.mark.parametrize("phase", ["prefill", "decode"])
@pytest.mark.parametrize("name", MODELS)
def test_pages_change_the_cache_and_nothing_else(name: str, phase: str) -> None:
    """4 bytes per page, layer and sequence beside what attention reads; (p_b - 1) / 2 more tokens kept; activations and weights stay."""
    step, page = numbers(name, phase), random.Random(name).randint(2, 32)
    after = step.apply(technique(f"paged-cache:page={page}"))
    for (old, count), (new, again) in zip(step.graph, after.graph, strict=True):
        assert (old.name, old.flop_count, count) == (new.name, new.flop_count, again)
        for key, value in booked(old).items():
            more = booked(new)[key] - value
            rows = {"read": 64, "write": 64 if phase == "prefill" else 1}[key[1]]
            if key[0] is Storage.KV_CACHE and more != 0:
                assert more % (Rational(4 * 3 * rows, page)) == 0, "a whole number of passes over the table"
            else:
                assert more == 0
    kept, window = after.graph.resident(Storage.KV_CACHE), {}
    for tensor, copies in step.graph.resident(Storage.KV_CACHE).items():
        window[tensor.name] = window.get(tensor.name, 0) + copies * tensor.byte_count
    held = {}
    for tensor, copies in kept.items():
        held[tensor.name] = held.get(tensor.name, 0) + copies * tensor.elements * tensor.bits / 8
    for tensor_name, size in window.items():
        grows = any(tensor.name == tensor_name and {"t", "z"} & set(tensor.axes) for tensor in kept)
        assert held[tensor_name] == size * (64 + Rational(page - 1, 2)) / 64 if grows else size
    assert after.graph.weight_memory() == step.graph.weight_memory()
    assert after.graph.activation_memory() == step.graph.activation_memory()


def test_the_mean_over_the_lengths_of_a_page_by_counting() -> None:
    """Pages of p tokens for every length of a page, one by one: their mean is what the formula has."""
    for page in (1, 2, 7, 16):
        lengths = range(5 * page + 1, 6 * page + 1)
        counted = [(-(-length // page) * page) * 2 * 4096 * 2 + -(-length // page) * 4 for length in lengths]
        step = symroof.load_model("llama-2-7b").decode(batch=1, **SIXTEEN).apply(technique(f"paged-cache:page={page}"))
        cache = [step.symbolic.bind(dict(step.values) | {symroof.symbols.t: Integer(length)}).kv_memory() for length in lengths]
        assert sum(cache) / page == 32 * Rational(sum(counted), page)
    plain = numbers("llama-2-7b").graph.kv_memory()
    one = numbers("llama-2-7b").apply(technique("paged-cache:page=1"))
    assert one.graph.kv_memory() - plain == 32 * 3 * 64 * 4, "pages of one token waste none"


def test_reserved_tokens_and_the_largest_batch() -> None:
    """Kwon et al. (2023), arXiv:2309.06180: reserving for the longest sequence is what limits the batch."""
    step = symroof.load_model("llama-2-7b").decode(seq_len=500, **SIXTEEN)
    contiguous = step.apply(technique("paged-cache:layout=contiguous,reserved=2048"))
    assert contiguous.graph.kv_memory() == 2048 * step.graph.kv_memory() / 500
    assert all(booked(one) == booked(other) for (one, _), (other, _) in zip(step.graph, contiguous.graph, strict=True))
    capacity = symroof.load_hardware(A100).usable_figure.value
    found = {}
    for text in ("paged-cache:page=16", "paged-cache:page=256", "paged-cache:layout=contiguous,reserved=2048"):
        changed = step.apply(technique(text))
        found[text] = symroof.largest(changed, over="batch", hardware=A100).integer
        for batch, fits in ((found[text], True), (found[text] + 1, False)):
            graph = changed.symbolic.bind(dict(changed.values) | {b: batch})
            assert bool(graph.weight_memory() + graph.kv_memory() + graph.activation_memory() <= capacity) is fits
    assert list(found.values()) == [272, 220, 67]
    own = numbers("llama-2-7b", seq_len=2048).apply(technique("paged-cache:layout=contiguous,reserved=2048"))
    assert own.graph.kv_memory() == numbers("llama-2-7b", seq_len=2048).graph.kv_memory()


def test_a_window_reserves_its_window() -> None:
    step = numbers("gemma-2-2b", seq_len=8192).apply(technique("paged-cache:layout=contiguous,reserved=8192"))
    assert step.graph.kv_memory() == numbers("gemma-2-2b", seq_len=8192).graph.kv_memory()
    short = numbers("gemma-2-2b", seq_len=64)
    half = 13 * 2 * 3 * 4 * 256 * 2
    assert short.apply(technique("paged-cache:layout=contiguous,reserved=8192")).graph.kv_memory() == half * (4096 + 8192)


def test_paging_never_shortens_a_step() -> None:
    step = symroof.load_model("llama-3-8b").decode(seq_len=2048, **SIXTEEN)
    after = step.apply(technique("paged-cache:page=16"))
    found = payoff(step, after, over="batch", hardware=A100, operator="qk_matmul")
    assert [one.bound for one in found.intervals] == ["loses"]
    moved = 3 * (2048 * 1024 * 2 + (4096 + 32 * 2048) * 2)
    assert found.speedup_expr(3) == Rational(moved, moved + 3 * 2048 * 4 // 16)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("paged-cache:page=16,reserved=64", "reserved belongs to layout=contiguous"),
        ("paged-cache:layout=contiguous,page=16", "page belongs to layout=paged"),
        ("paged-cache:layout=pagd", "did you mean paged"),
        ("paged-cache:layout=contiguous,reserved=63", "reserved 63: the sequences have 64 tokens; expected at least 64"),
        ("paged-cache:page=16 paged-cache:page=16", "is paged already"),
        ("offload:share=3/2", "at most 1"),
        ("offload:share=1,link=1GB/s offload:share=1/2", "weights are offloaded already"),
        ("offload:compute=cpu", "compute=cpu needs unit="),
        ("offload:unit=survey/intel_13900k", "unit belongs to compute=cpu"),
        ("offload:compute=cpu,unit=survey/intel_13900k,share=1/2", "share 1/2: the CPU computes with everything or nothing"),
        ("offload:what=wieghts", "did you mean weights"),
        ("offload:compute=cpu,unit=survey/intel_13900k,overlap=operator", "overlap concerns transfers to the GPU"),
        ("offload:share=1/2 offload:what=kv,overlap=operator", "an earlier offload has overlap=layers, and a step supports only one"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        numbers("llama-3-8b").apply(*chain([text]))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_models_and_devices_that_cannot() -> None:
    with pytest.raises(InputError, match="no KV cache that grows"):
        numbers("mamba-130m").apply(technique("paged-cache:page=16"))
    with pytest.raises(InputError, match="no KV cache that grows"):
        numbers("mamba-130m").apply(technique("offload:what=kv"))
    with pytest.raises(DeviceError, match="neither a name of the catalogue"):
        technique("offload:compute=cpu,unit=i386")
    with pytest.raises(DeviceError, match="states no link to the host"):
        symroof.analyze(numbers("llama-2-7b").apply(technique("offload:share=1")), A6000)


# offloading


@pytest.mark.parametrize("what", ["weights", "kv"])
@pytest.mark.parametrize("name", MODELS)
def test_a_share_of_the_bytes_crosses_the_link_and_nothing_else_changes(name: str, what: str) -> None:
    step, share = numbers(name), Rational(random.Random(name).randint(1, 9), 10)
    after = step.apply(technique(f"offload:what={what},share={share},link=25GB/s"))
    storage = Storage.WEIGHT if what == "weights" else Storage.KV_CACHE
    touched = 0
    for (old, count), (new, again) in zip(step.graph, after.graph, strict=True):
        assert (old.name, old.kind, old.flop_count, count) == (new.name, new.kind, new.flop_count, again)
        for key, value in booked(old).items():
            near, far = booked(new)[key], booked(new, Level.HOST)[key]
            assert near + far == value, "no byte gets lost"
            linear = old.kind is Kind.MATMUL and new.name not in ("lm_head", "embedding") if what == "weights" else far != 0
            assert far == (share * value if key[0] is storage and linear else 0)
            touched += far != 0
    assert touched
    kept, whole = after.graph, step.graph
    assert kept.weight_memory() + kept.kv_memory() + kept.host_memory() == whole.weight_memory() + whole.kv_memory()
    assert kept.parameter_count() == whole.parameter_count()
    assert kept.activation_memory() == whole.activation_memory()
    (held, other) = (kept.weight_memory, kept.kv_memory) if what == "weights" else (kept.kv_memory, kept.weight_memory)
    assert held() < (whole.weight_memory() if what == "weights" else whole.kv_memory())
    assert other() == (whole.kv_memory() if what == "weights" else whole.weight_memory())
    for limit in ("0", "1"):
        end = step.apply(technique(f"offload:what={what},share={limit},link=25GB/s"))
        assert (end.graph.host_memory() == 0) is (limit == "0")
        assert end.graph.byte_count() + end.graph.byte_count(level=Level.HOST) == whole.byte_count()
    if what == "kv" and name != "jamba-v0.1":
        assert end.graph.kv_memory() == 0, "but the state of recurrent layers"


def three_times(share: Rational, link: int, batch: int) -> tuple[Rational, Rational, Rational]:
    """Compute, memory and link time of up_proj of Llama-2-7b on the survey's A6000, by hand."""
    hidden, wide = 4096, 11008
    compute = Rational(2 * batch * hidden * wide) / (Rational(1548385, 10) * 10**9)
    memory = ((1 - share) * hidden * wide * 2 + batch * (hidden + wide) * 2) / Rational(768 * 10**9)
    return compute, memory, share * hidden * wide * 2 / Rational(link * 10**9)


@pytest.mark.slow
def test_the_longest_of_three_times_decides() -> None:
    """Every bound occurs, the analysis, the regimes and the payoff agree with arithmetic by hand, and with the closed form."""
    model, seen = symroof.load_model("llama-2-7b"), set()
    peak, bandwidth = Rational(1548385, 10) * 10**9, 768 * 10**9
    for share, link in ((Rational(1), 25), (Rational(1, 10), 25), (Rational(1, 40), 25), (Rational(1, 2), 700), (Rational(1, 3), 400)):
        text = technique(f"offload:share={share},link={link}GB/s")
        free = model.decode(seq_len=64, **SIXTEEN)
        changed = free.apply(text)
        found = payoff(free, changed, over="batch", hardware=A6000, operator="up_proj")
        follow = regimes(changed, over="batch", hardware=A6000)
        by_compute = share * peak / (link * 10**9)
        by_memory = 4096 * 11008 * (share * (bandwidth + link * 10**9) - link * 10**9) / (Rational(4096 + 11008) * link * 10**9)
        hidden = min(by_compute, max(by_memory, 0))
        for batch in sorted({1, 2, 50, 216, 217, 900, int(hidden), int(hidden) + 1, 7000} - {0}):
            times = three_times(share, link, batch)
            placed = symroof.analyze(model.decode(batch=batch, seq_len=64, **SIXTEEN).apply(text), A6000)
            one = placed["up_proj"]
            assert one.time_expr == max(times)
            assert one.bound == ("compute", "memory", "host")[times.index(max(times))]
            assert (one.bound == "host") == (batch < hidden)
            seen.add(one.bound)
            before = max(three_times(Rational(0), link, batch))
            assert found.speedup_expr(batch) == before / max(times)
            assert follow.time_expr(batch) == placed.total.time_expr
    assert seen == {"compute", "memory", "host"}


@pytest.mark.slow
def test_transfers_run_under_the_work_of_all_layers() -> None:
    """The step takes the longer of all work and all transfers: analysis, regimes, payoff and sweep, on both sides of where it is hidden."""
    pytest.importorskip("xarray")
    model, text = symroof.load_model("llama-2-7b"), technique("offload:share=1/2,link=64GB/s")
    free = model.decode(seq_len=512, **SIXTEEN)
    follow, found = regimes(free.apply(text), over="batch", hardware=A100), payoff(free, free.apply(text), over="batch", hardware=A100)
    moved = Rational(32 * (4 * 4096**2 + 3 * 4096 * 11008), 64 * 10**9)  # a byte a weight
    swept = symroof.sweep("llama-2-7b", A100, {"batch": [1, 8, 64, 700]}, seq_len=512, techniques=(text,), metrics=["time"], **SIXTEEN)
    longer = set()
    for batch in (1, 8, 64, 700):
        step = model.decode(batch=batch, seq_len=512, **SIXTEEN)
        placed, before = (symroof.analyze(one, A100) for one in (step.apply(text), symroof.analyze(step, A100).step))
        work = sum(one.count_expr * max(value for resource, value in one.seconds_exprs.items() if resource != "host") for one in placed)
        assert placed.total.time_expr == max(work, moved) < sum(one.count_expr * one.time_expr for one in placed)
        assert follow.time_expr(batch) == placed.total.time_expr
        assert found.speedup_expr(batch) == before.total.time_expr / placed.total.time_expr
        assert float(swept.time.sel(batch=batch).squeeze()) == pytest.approx(float(placed.total.time_expr), rel=1e-12)
        if work < moved:
            assert follow.at(batch).label == frozenset(), "where transfers bind, no operator is compute-bound"
        longer.add(bool(work < moved))
    assert longer == {True, False}


def test_where_nothing_overlaps_transfers_are_added() -> None:
    step = numbers("llama-2-7b")
    for texts in (["offload:share=1/2,link=64GB/s", "no-overlap"], ["no-overlap", "offload:share=1/2,link=64GB/s"]):
        placed = symroof.analyze(step.apply(*chain(texts)), A100)
        assert placed.total.time_expr == sum(one.count_expr * sum(one.seconds_exprs.values()) for one in placed)


def test_what_the_cpu_is_sent_is_not_fetched_ahead() -> None:
    """Half of the weights over the link, the cache on the CPU: queries and outputs cross it in turn, and all of it is the link's work."""
    texts = ["offload:share=1/2,link=2GB/s", f"offload:what=kv,link=2GB/s,compute=cpu,unit={CPU}"]
    placed = symroof.analyze(numbers("llama-2-7b").apply(*chain(texts)), A100)
    sent = [one for one in placed if one.operator.kind is Kind.TRANSFER]
    assert sent
    assert all(one.work_expr == one.time_expr == one.seconds_exprs["host"] for one in sent)
    link = sum(one.count_expr * one.operator.byte_count(level=Level.HOST) for one in placed) / Rational(2 * 10**9)
    assert placed.total.time_expr == link > sum(one.count_expr * one.work_expr for one in placed)


def test_the_letters_of_the_condition() -> None:
    step = symroof.load_model("llama-2-7b").decode(symbolic=True).apply(technique("offload"))
    up = step["up_proj"]
    batch = omega * w * P / (16 * BW_h)
    assert simplify((up.flop_count / P - up.byte_count(level=Level.HOST) / BW_h).subs(b, batch)) == 0
    even = (up.byte_count() / BW - up.byte_count(level=Level.HOST) / BW_h).subs(omega, BW_h / (BW + BW_h))
    assert simplify(even.subs(b, 0)) == 0


def test_knees_of_the_surveys_figure_18() -> None:
    """Figure 18: HBM and GPU, DDR and GPU, DDR and CPU have their knees at 201.6, 1728 and 15.4 FLOP/byte."""
    step = symroof.load_model("llama-2-13b").decode(seq_len=1024, **SIXTEEN)
    host = step.apply(technique("offload:share=1,link=89.6GB/s"))
    there = step.apply(technique(f"offload:compute=cpu,unit={CPU},link=89.6GB/s"))
    assert payoff(step, host, over="batch", hardware=A6000, operator="up_proj").edges == (Rational(15483850, 8960),)
    knee = {}
    for name, changed in (("gpu", step), ("cpu", there)):
        answer = symroof.crossover(changed, "up_proj", over="batch", hardware=A6000)
        operator = changed.symbolic["up_proj"]
        at = dict(changed.values) | {b: answer.value_expr, symroof.symbols.BW_h: Integer(1)}
        knee[name] = (operator.flop_count / operator.byte_count()).xreplace(at)
    assert {name: round(float(value), 1) for name, value in knee.items()} == {"gpu": 201.6, "cpu": 15.4}


def test_on_the_cpu_by_hand() -> None:
    """gate_proj: its input and its output cross the link, the product runs under the CPU's roof, from its memory."""
    peak, memory, link = Rational(13824) * 10**8, 896 * 10**8, 25 * 10**9
    free = symroof.load_model("llama-2-7b").decode(seq_len=64, **SIXTEEN)
    here = free.apply(technique("offload:share=1,link=25GB/s"))
    there = free.apply(technique(f"offload:link=25GB/s,compute=cpu,unit={CPU}"))
    found = payoff(here, there, over="batch", hardware=A6000, operator="gate_proj")
    for batch in (1, 15, 16, 54, 55, 56, 400, 2000):
        work, weight, rows = 2 * batch * 4096 * 11008, 4096 * 11008 * 2, batch * (4096 + 11008) * 2
        slow = max(Rational(work) / peak, Rational(weight + rows, memory)) + Rational(rows, link)
        over = max(Rational(weight, link), Rational(work) / (Rational(1548385, 10) * 10**9))
        assert found.speedup_expr(batch) == over / slow
        step = symroof.load_model("llama-2-7b").decode(batch=batch, seq_len=64, **SIXTEEN)
        placed = symroof.analyze(step.apply(technique(f"offload:link=25GB/s,compute=cpu,unit={CPU}")), A6000)
        assert placed["gate_proj.send"].time_expr + placed["gate_proj"].time_expr + placed["gate_proj.receive"].time_expr == slow
    assert [one.bound for one in found.intervals] == ["pays", "loses"]
    assert found.edges_expr[0] < Rational(13824 * 10**8) / (25 * 10**9)


@pytest.mark.parametrize("what", ["weights", "kv"])
@pytest.mark.parametrize("name", MODELS)
def test_what_runs_on_the_cpu_gets_its_operands_over_the_link_once(name: str, what: str) -> None:
    step = numbers(name)
    after = step.apply(technique(f"offload:what={what},link=25GB/s,compute=cpu,unit={CPU}"))
    old = {one.name: one for one, _ in step.graph}
    names = [one.name for one, _ in after.graph]
    assert len(names) == len(set(names))
    assert [one for one in names if one in old] == list(old)
    assert after.graph.flop_count == step.graph.flop_count
    for block in after.graph.blocks:
        at_device = {
            access.tensor for one in block.operators if one.unit is None and one.kind is not Kind.TRANSFER for access in one.writes
        }
        sent: set = set()
        for one in block.operators:
            if one.unit is not None:
                assert all(access.tensor.level is Level.HOST or access.tensor.storage is Storage.WEIGHT for access in one.reads)
                assert one.byte_count(level=Level.HOST) == 0, "the host is its memory"
                assert one.byte_count() == old[one.name].byte_count()
            elif one.kind is Kind.TRANSFER:
                assert one.flop_count == 0
                (read,), (written,) = one.reads, one.writes
                assert {read.tensor.level, written.tensor.level} == {Level.MEMORY, Level.HOST}
                assert one.byte_count() == one.byte_count(level=Level.HOST)
                assert one.name.endswith("receive") or (read.tensor not in sent and (read.tensor in at_device or read.tensor.storage))
                sent.add(read.tensor)
            else:
                assert booked(one)[Storage.ACTIVATION, Direction.READ] == booked(old[one.name])[Storage.ACTIVATION, Direction.READ]
    assert after.graph.activation_memory() <= step.graph.activation_memory()
    symroof.analyze(after, A100)


def test_a_step_has_one_host_link() -> None:
    step = symroof.load_model("llama-2-7b").decode(batch=1, seq_len=128, weight_bits=16, activation_bits=16, kv_bits=16)
    once = step.apply(technique("offload:what=weights,share=1/2,link=25GB/s"))
    with pytest.raises(InputError, match="an earlier technique set 25000000000 byte/s, and a step has one host_bandwidth"):
        once.apply(technique("offload:what=kv,share=1/2,link=64GB/s"))
    assert once.apply(technique("offload:what=kv,share=1/2,link=25GB/s")).techniques[-1].startswith("offload:what=kv")


@pytest.mark.parametrize(("share", "link"), [("1/4", "25GB/s"), ("1/1000", "25GB/s"), ("1/1000", "2TB/s")])
def test_the_condition_of_a_host_crossover_is_that_the_host_takes_longer_than_memory(share: str, link: str) -> None:
    offload = technique(f"offload:share={share},link={link}")
    model = symroof.load_model("llama-2-7b")
    crossing = symroof.crossover(model.decode(seq_len=1024).apply(offload), "up_proj", over="batch", hardware=A100)
    for batch in (1, 20, 100):
        point = symroof.analyze(model.decode(batch=batch, seq_len=1024).apply(offload), A100)["up_proj"]
        assert bool(crossing.where.subs({**crossing.values, b: batch})) == (point.bound == "host")
    if share == "1/4":
        assert crossing.sentence.startswith("up_proj is host-bound below batch 3120 and compute-bound above it")
        assert any(line.words == "host-bound where" and "B/BW_h" in line.plain for line in crossing.reasoning())


# what an engine keeps of the memory

LOGS = [
    # model, chain, profiled tokens, total GiB, share, other GiB, blocks of 16, GiB of weights and of activations where printed; vLLM's:
    ("llama-3-8b", "", 8192, "79.22", "0.9", "1.79", 53.29 * 2**30 / 2**21, 14.96, 1.26),  # pull request 10511, H100, 53.29 GiB of cache
    ("qwen2.5-32b", "tensor-parallel:degree=2", 10000, "44.42", "0.9", "0.3", 3947, 30.71, 1.26),  # issue 15815, two L40S
    ("llama-2-7b", "", 4096, "79.15", "0.9", "0", 7351, None, None),  # pull request 2031, A100 80 GB, of which issue 10533 has the total
]


def engine(name: str, *texts: str, **inputs: int) -> Step:
    step = symroof.load_model(name).decode(weight_bits=16, activation_bits=16, kv_bits=16, **inputs)
    return step.apply(*filter(None, texts))


@pytest.mark.parametrize(("name", "chain", "tokens", "total", "share", "other", "blocks", "weights", "activations"), LOGS)
def test_a_cache_is_as_large_as_the_engine_printed(
    name: str, chain: str, tokens: int, total: str, share: str, other: str, blocks: float, weights: float | None, activations: float | None
) -> None:
    """from the config alone 1 to 8 % above the engine's, which keeps activations of its samplers and 0.2 GiB more of weights; from its
    own terms as many as it printed."""
    text = f"paged-cache:page=16,utilization={share},runtime={other}GiB"
    largest = symroof.largest(engine(name, chain, f"{text},profile={tokens}", batch=1), over="seq_len", capacity=f"{total} GiB")
    assert 1 < largest.integer / 16 / blocks < 1.08
    held = {part: float(value) / 2**30 for part, value in largest.memory_exprs.items()}
    assert sum(held.values()) == pytest.approx(float(share) * float(total), rel=1e-5)
    if weights is None or activations is None:
        return
    assert weights - 0.25 < held["weight"] < weights + 0.005
    missing = weights - held["weight"] + activations
    with_all = f"paged-cache:page=16,utilization={share},runtime={round(float(other) + missing, 6)}GiB"
    largest = symroof.largest(engine(name, chain, with_all, batch=1), over="seq_len", capacity=f"{total} GiB")
    assert largest.integer / 16 == pytest.approx(blocks, rel=2e-3)


def test_requests_at_once_are_tokens_over_their_length() -> None:
    text = "paged-cache:page=16,utilization=0.9,profile=8192,runtime=1GiB"
    tokens = symroof.largest(engine("llama-3-8b", text, batch=1), over="seq_len", hardware="h100-sxm").value_expr
    requests = symroof.largest(engine("llama-3-8b", text, seq_len=8192), over="batch", hardware="h100-sxm").value_expr
    assert requests == (tokens + Rational(15, 2)) / (8192 + Rational(15, 2))  # the last page of each is half empty
    usable = symroof.load_hardware("h100-sxm").usable_figure
    assert usable is not None
    plain = engine("llama-3-8b", batch=1, seq_len=8192)
    weights, token = plain.graph.weight_memory(), plain.graph.kv_memory() / 8192 + Rational(4, 16) * 32
    profiled = symroof.load_model("llama-3-8b").prefill(batch=1, seq_len=8192, activation_bits=16, flash_attention=True)
    left = Rational(9, 10) * usable.value - weights - profiled.graph.activation_memory() - 2**30
    assert tokens == left / token - Rational(15, 2)


def test_a_reserve_where_memory_is_asked_for() -> None:
    plain, kept = engine("llama-3-8b", batch=64, seq_len=8192), "paged-cache:page=1,utilization=0.9,runtime=2GiB"
    step = plain.apply(kept)
    assert symroof.analyze(plain, "h100-sxm").fits
    assert not symroof.analyze(step, "h100-sxm").fits
    assert step.graph.activation_memory() == plain.graph.activation_memory() + 2 * 2**30
    most = symroof.largest(step.without("batch"), hardware="h100-sxm").integer
    swept = symroof.sweep(
        "llama-3-8b",
        "h100-sxm",
        {"seq_len": [8192]},
        batch=1,
        techniques=[kept],
        metrics=["largest_batch", "fits"],
        weight_bits=16,
        kv_bits=16,
    )
    assert (int(swept.largest_batch.values.ravel()[0]), bool(swept.fits.values.ravel()[0])) == (most, True)
    needed = symroof.required_capacity(step).exact
    assert needed == (step.graph.weight_memory() + step.graph.kv_memory() + step.graph.activation_memory()) * Rational(10, 9)
    assert engine("llama-3-8b", "paged-cache:page=1", batch=1, seq_len=64).graph.activation_memory() < 2**30
    for texts, said in (
        (("paged-cache:page=16,profile",), "profile needs a number of tokens"),
        (("mixed-batch:chunk=64", "paged-cache:page=16,profile=512"), "no prefill after the techniques before it"),
        (("paged-cache:page=16,utilization=1.5",), "at most 1"),
    ):
        with pytest.raises(InputError, match=said):
            engine("llama-3-8b", *texts, batch=8, seq_len=512)
    fused = engine("llama-3-8b", "flash-attention", "paged-cache:page=16,profile=512", batch=8, seq_len=512)
    assert fused.symbolic.reserve.activations > 0
