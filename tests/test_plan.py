"""Plans: every number again from steps at whole batches, from sums over contexts and from bytes; promises that are missed; bad input."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import product
from typing import Any

import pytest
from click.testing import CliRunner
from sympy import Rational

import symroof
from symroof.cli.main import cli, main
from tests.steps import sampled

PROMPT, OUTPUT = 2048, 512
TPOT, TTFT = Fraction(50, 1000), Fraction(1)
DEVICES = ("h100-sxm", "h200-sxm", "mi300x")
COUNTS = (1, 2, 4, 8)
QWEN = symroof.load_model("qwen3-32b")


def asked(*arguments: str) -> list[dict]:
    """The records of `symroof plan`."""
    result = CliRunner().invoke(cli, ["plan", *arguments, "--format", "json"], catch_exceptions=False)
    return json.loads(result.stdout)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line of an error."""
    with pytest.raises(SystemExit) as stop:
        main(["plan", *arguments])
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    return err


def seconds(model: symroof.Model, device: str, phase: str, batch: int, length: int, chain: Sequence[str]) -> Fraction:
    """Seconds of one step, each with numbers for everything."""
    step = (model.decode if phase == "decode" else model.prefill)(batch=batch, seq_len=length).with_widths().apply(*chain)
    time = step.on(device).total.time_expr
    return Fraction(int(time.p), int(time.q))


def kept_bytes(model: symroof.Model, prompt: int, output: int, batch: int, chain: Sequence[str]) -> int:
    """Bytes of one device: weights, caches at the longest context, the activations of decode or of one prompt."""
    decode = model.decode(batch=batch, seq_len=prompt + output - 1).with_widths().apply(*chain).graph.memory_exprs()
    prefill = model.prefill(batch=1, seq_len=prompt).with_widths().apply(*chain).graph.memory_exprs()
    return int(decode["weight"] + decode["kv_cache"] + max(decode["activation"], prefill["activation"]))


SHORT: dict[str, Any] = {"prompt": 1024, "output": 64, "hardware": "h100-sxm"}


class Hand:
    """A replica of d devices, by hand: whole batches one by one."""

    def __init__(self, model: symroof.Model, device: str, degree: int, prompt: int, output: int, extra: Sequence[str] = ()) -> None:
        self.model, self.device, self.prompt, self.output = model, device, prompt, output
        self.chain = [*extra, *([f"tensor-parallel:degree={degree}"] if degree > 1 else [])]
        self.read = seconds(model, device, "prefill", 1, prompt, self.chain)
        self.capacity = int(symroof.load_hardware(device).usable.exact)

    def tpot(self, batch: int) -> Fraction:
        """A step at the mean of the contexts from S + 1 to S + n - 1, and the prompts read meanwhile."""
        mean = Fraction(sum(range(self.prompt + 1, self.prompt + self.output)), self.output - 1)
        assert mean.denominator == 1
        step = seconds(self.model, self.device, "decode", batch, int(mean), self.chain)
        return step + batch * self.read / (self.output - 1)

    def fits(self, batch: int) -> bool:
        """Whether a batch fits."""
        return kept_bytes(self.model, self.prompt, self.output, batch, self.chain) <= self.capacity

    def rate(self, batch: int) -> Fraction:
        """Requests per second."""
        return batch / ((self.output - 1) * self.tpot(batch))


@pytest.fixture(scope="module")
def plan() -> list[dict]:
    """The plan of the README."""
    given = ["qwen3-32b", "--prompt", "2048", "--output", "512", "--tpot", "50ms", "--ttft", "1s", "--devices", "1,2,4,8"]
    return asked(*given, "--hardware", *DEVICES, "--price", "h100-sxm=2.5", "mi300x=3")


def test_one_record_for_every_number_of_every_device(plan: list[dict]) -> None:
    assert [(one["hardware"], one["devices"]) for one in plan] == list(product(DEVICES, COUNTS))
    assert {len(one) for one in plan} == {len(plan[0])}


def test_every_number_by_hand(plan: list[dict]) -> None:
    hands = {(device, degree): Hand(QWEN, device, degree, PROMPT, OUTPUT) for device in DEVICES for degree in (1, 2, 4, 8)}
    for one in sampled(plan, 4):
        degree, batch = one["degree"], one["batch"]
        hand = hands[one["hardware"], degree]
        assert one["replicas"] * degree == one["devices"]
        assert one["parallelism"] == (f"tensor-parallel:degree={degree}" if degree > 1 else None)
        assert hand.fits(one["batch_by_memory"])
        assert not hand.fits(one["batch_by_memory"] + 1)
        assert hand.tpot(one["batch_by_time"]) <= TPOT < hand.tpot(one["batch_by_time"] + 1)
        assert batch == min(one["batch_by_time"], one["batch_by_memory"])
        assert one["binding"] == ("time" if one["batch_by_time"] < one["batch_by_memory"] else "memory")
        tpot, rate = hand.tpot(batch), one["replicas"] * hand.rate(batch)
        assert one["ttft"] == pytest.approx(float(hand.read), rel=1e-15)
        assert hand.read <= TTFT
        assert Fraction(one["tpot_exact"]) == tpot
        assert one["max_rate"] == pytest.approx(float(rate), rel=1e-15)
        assert one["throughput"] == pytest.approx(float(rate * OUTPUT), rel=1e-15)
        assert one["throughput_per_device"] == pytest.approx(float(rate * OUTPUT / one["devices"]), rel=1e-15)
        price = {"h100-sxm": Fraction(5, 2), "mi300x": 3}.get(one["hardware"])
        cost = None if price is None else float(price * one["devices"] / 3600 / (rate * OUTPUT) * 10**6)
        assert one["cost_per_million_tokens"] == (None if cost is None else pytest.approx(cost, rel=1e-14))
        memory = one["memory"]
        assert memory["capacity"] == hand.capacity
        used = memory["weight"] + memory["kv_cache"] + memory["activation"]
        assert used == kept_bytes(QWEN, PROMPT, OUTPUT, batch, hand.chain)
        shares = {"memory": used / hand.capacity, "ttft": float(hand.read), "tpot": float(tpot / TPOT)}
        assert one["headroom"] == {name: pytest.approx(1 - share) for name, share in shares.items()}


def test_no_other_replica_gives_more(plan: list[dict]) -> None:
    for one in sampled([one for one in plan if one["devices"] == 8], 1):
        best = 0.0
        for degree in (1, 2, 4, 8):
            hand = Hand(QWEN, one["hardware"], degree, PROMPT, OUTPUT)
            low, high = 0, 4096
            while low < high:  # time and memory grow with the batch
                middle = (low + high + 1) // 2
                low, high = (middle, high) if hand.fits(middle) and hand.tpot(middle) <= TPOT else (low, middle - 1)
            best = max(best, float(8 // degree * hand.rate(low)) if low else 0.0)
        assert one["max_rate"] == pytest.approx(best, rel=1e-15)


def test_the_formula_gives_the_batch(plan: list[dict]) -> None:
    symbols = symroof.symbols
    for one in plan:
        values = {symbols.lookup(name).symbol: value for name, value in one["formula_values"].items()}
        time = (symbols.T_p - symbols.tau_w) / (symbols.tau_s + symbols.tau_p / (symbols.n - 1))
        formula = time if one["binding"] == "time" else (symbols.M_d - symbols.M_w) / symbols.M_s
        assert one["formula"] == str(formula)
        assert math.floor(float(formula.xreplace(values)) + 1e-9) == one["batch"]


def test_batch_by_memory_at_4096() -> None:
    """13 sequences of 4,096 tokens fit 80e9 bytes beside 16-bit weights; an H100's usable memory takes 18, 17 where prompts are read on it,
    and with 4-bit weights 60."""
    device = symroof.load_hardware("h100-sxm")
    assert symroof.largest(QWEN.decode(seq_len=4096), capacity="80 GB").integer == 13
    assert symroof.largest(QWEN.decode(seq_len=4096), hardware=device).integer == 18
    for extra, batch in (([], 17), (["quantize:weights=4,group=128"], 60)):
        found = symroof.plan(QWEN, prompt=3585, output=512, hardware=device, techniques=extra)[0]
        hand = Hand(QWEN, "h100-sxm", 1, 3585, 512, extra)
        assert found.batch_by_memory == batch == max(one for one in range(1, 100) if hand.fits(one))


def test_the_rate_sets_the_batch() -> None:
    """Little's law: as many sequences as arrive while one generates."""
    for rate in (1, 3, 5):
        one = symroof.plan(QWEN, prompt=PROMPT, output=OUTPUT, hardware="h100-sxm", devices=[2], tpot="50 ms", rate=rate)[0]
        steady, tpot = one.steady_expr, one.tpot_at_rate_expr
        assert 1 < steady < one.batch
        assert tpot < one.tpot_expr
        assert steady == rate * (OUTPUT - 1) * tpot / one.replicas
        on = QWEN.decode(seq_len=PROMPT).apply("tensor-parallel:degree=2").on("h100-sxm")
        load = on.under_load(rate=rate, prompt=PROMPT, output=OUTPUT, prefill="here")
        assert (load.batch_expr, load.token_time_expr) == (steady, tpot), "one theory of load"
    alone = symroof.plan(QWEN, prompt=PROMPT, output=OUTPUT, hardware="h100-sxm", devices=[2], rate=0.01)[0]
    assert alone.steady_expr < 1
    assert float(alone.tpot_at_rate_expr) == pytest.approx(float(Hand(QWEN, "h100-sxm", 2, PROMPT, OUTPUT).tpot(1)))


def test_a_rate_beyond_saturation_says_how_many_devices_would_do() -> None:
    few = symroof.plan(QWEN, prompt=PROMPT, output=OUTPUT, hardware="h100-sxm", devices=[2], tpot="50 ms", rate="20/s")[0]
    needed = int(few.miss.meets_exprs["devices"])
    assert few.miss.promise == "rate"
    assert few.cost_per_token is None
    for count, does in ((needed - 2, False), (needed, True)):
        found = symroof.plan(QWEN, prompt=PROMPT, output=OUTPUT, hardware="h100-sxm", devices=[count], tpot="50 ms", rate="20/s")[0]
        assert (found.miss is None) == does


def test_prefill_apart() -> None:
    one = symroof.plan(QWEN, prompt=PROMPT, output=OUTPUT, hardware="h100-sxm", devices=[16], tpot="40 ms", split=True)[0]
    hand = Hand(QWEN, "h100-sxm", one.degree, PROMPT, OUTPUT)
    step = hand.tpot(one.batch) - one.batch * hand.read / (OUTPUT - 1)
    assert Fraction(str(one.tpot_expr)) == step <= Fraction(40, 1000)
    decode, prefill = one.batch / ((OUTPUT - 1) * step), 1 / hand.read
    total = one.replicas + one.prefill_replicas
    assert total * one.degree == 16
    rates = [min(apart * prefill, (total - apart) * decode) for apart in range(1, total)]
    assert Fraction(str(one.max_rate_expr)) == max(rates) == rates[one.prefill_replicas - 1]
    cache = QWEN.prefill(batch=1, seq_len=PROMPT).with_widths().graph.kv_memory() / one.degree
    link = next(link for link in symroof.load_hardware("h100-sxm").links if link.to == "device")
    assert one.transfer_expr == cache / link.one_way_expr
    experts = symroof.plan("mixtral-8x7b-v0.1", **SHORT, devices=[16], techniques=["expert-parallel:degree=8"], split=True)[0]
    whole = symroof.load_model("mixtral-8x7b-v0.1").prefill(batch=1, seq_len=1024).with_widths().graph.kv_memory()
    assert experts.transfer_expr == whole / link.one_way_expr, "every device has a prompt of its own"
    alone = symroof.plan(QWEN, prompt=PROMPT, output=OUTPUT, hardware="h100-sxm", split=True)[0]
    assert alone.miss.promise == "technique"
    assert "two replicas" in alone.miss.why


def test_experts_are_shared_out_where_that_gives_more() -> None:
    model = symroof.load_model("mixtral-8x7b-v0.1")
    one = symroof.plan(model, prompt=1024, output=256, hardware="h100-sxm", devices=[8], tpot="50 ms")[0]
    assert one.miss is None
    for text in ("tensor-parallel:degree=8", "expert-parallel:degree=8", "tensor-parallel:degree=8,experts=whole"):
        found = symroof.plan(model, prompt=1024, output=256, hardware="h100-sxm", devices=[8], tpot="50 ms", techniques=[text])[0]
        assert found.degree == 8
        assert found.parallelism == ()
        assert found.max_rate_expr <= one.max_rate_expr


def test_calibrated_kernels_take_longer_and_give_fewer() -> None:
    stated, calibrated = (
        symroof.plan("llama-3.1-8b", prompt=1024, output=256, hardware="h100-sxm", tpot="15 ms", ceilings=ceilings)[0]
        for ceilings in ("stated", "calibrated")
    )
    assert calibrated.batch < stated.batch
    assert calibrated.throughput < stated.throughput
    step = symroof.load_model("llama-3.1-8b").decode(batch=calibrated.batch, seq_len=1152).with_widths()
    prefill = symroof.load_model("llama-3.1-8b").prefill(batch=1, seq_len=1024).with_widths()
    times = [float(one.on("h100-sxm", ceilings="calibrated").total.time_expr) for one in (step, prefill)]
    assert float(calibrated.tpot_expr) == pytest.approx(times[0] + calibrated.batch * times[1] / 255, rel=1e-9)


def test_missed_promises_say_what_binds_and_what_would_do() -> None:
    slow = symroof.plan(QWEN, prompt=PROMPT, output=OUTPUT, hardware="h100-sxm", devices=[1, 4], ttft="100 ms")
    miss = slow[0].miss
    assert (miss.promise, miss.resource) == ("ttft", "compute")
    assert slow[1].miss is None
    late = symroof.plan(QWEN, prompt=PROMPT, output=OUTPUT, hardware="h100-sxm", tpot="15 ms")[0].miss
    assert (late.promise, late.resource) == ("tpot", "memory")
    step = QWEN.decode(batch=1, seq_len=PROMPT + OUTPUT // 2).with_widths()
    read = QWEN.prefill(batch=1, seq_len=PROMPT).with_widths().on("h100-sxm").total.time_expr
    target = Rational(15, 1000) - read / (OUTPUT - 1)
    assert late.meets_exprs["bandwidth"] == symroof.required(step, over="bandwidth", hardware="h100-sxm", target_time=target).value_expr
    large = symroof.plan("llama-3-70b", prompt=PROMPT, output=OUTPUT, hardware="h100-sxm", devices=[1, 2, 3])
    assert [one.miss and one.miss.promise for one in large] == ["memory", None, "memory"]
    assert not large[0].fits
    assert large[0].miss.value_expr > large[0].miss.limit_expr == symroof.load_hardware("h100-sxm").usable.exact


def test_the_left_out_are_told() -> None:
    text = (
        CliRunner()
        .invoke(cli, ["plan", "llama-3-70b", "--prompt", "100", "--output", "10", "--hardware", "h100-sxm", "--devices", "1,2,3"])
        .stdout
    )
    assert "h100-sxm x1: memory 141.2 GB, 1.651 times the 85.52 GB that are there; 2 devices would do" in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--tpot", "0ms"], "--tpot '0ms': expected a time above 0"),
        (["--devices", "0"], "--devices '0': expected numbers of devices from 1 to 4096"),
        (["--devices", "1,,2"], "--devices '1,,2': expected numbers of devices"),
        (["--price", "h100-sxm"], "--price 'h100-sxm': expected a device and dollars per hour"),
        (["--price", "h100-sxm=-1"], "--price 'h100-sxm=-1': expected a device and dollars per hour"),
        (["--price", "a100-sxm-80gb=2"], "price of 'a100-sxm-80gb': expected one of the devices asked about, h100-sxm"),
        (["--price", "h101=2"], "'h101'"),
        (["--rate", "0"], "--rate '0': expected requests per second"),
        (["--with", "tensor-parallel"], "degree must be given as a number"),
        (["--output", "1"], "output 1: expected at least 2 tokens"),
        (["--rate", "3s"], "'3s' is not in 1 / second; write it like '2/s'"),
        (["--prompt", "0"], "--prompt '0': expected a whole number"),
        (["--hardware", "h1000"], "h1000"),
    ],
)
def test_bad_input(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    given = {"--prompt": "100", "--output": "10", "--hardware": "h100-sxm"}
    given.update(zip(arguments[::2], arguments[1::2], strict=True))
    assert says in refused(capsys, "qwen3-32b", *(word for pair in given.items() for word in pair))


@pytest.mark.parametrize(
    ("model", "says"), [("bert-base-uncased", "generates no tokens"), ("t5-base", "has an encoder that reads the prompt")]
)
def test_models_that_do_not_go_on_with_a_prompt(model: str, says: str) -> None:
    for ask in (symroof.plan, symroof.promises):
        with pytest.raises(symroof.InputError, match=says):
            ask(symroof.load_model(model), prompt=100, output=10, hardware="h100-sxm")


def test_prefill_apart_has_to_fit_too() -> None:
    """Scores of a long prompt that go through memory fill a device that only reads prompts."""
    asked: dict[str, Any] = {"prompt": 45_000, "output": 16, "hardware": "h100-sxm", "devices": [2], "split": True}
    missed = symroof.plan("llama-3-8b", **asked)[0]
    step = symroof.load_model("llama-3-8b").prefill(batch=1, seq_len=45_000).with_widths()
    assert missed.miss.promise == "memory"
    assert missed.miss.value_expr == sum(step.graph.memory_exprs().values()) > missed.miss.limit_expr
    assert symroof.plan("llama-3-8b", **asked, flash_attention=True)[0].miss is None


def test_two_devices_of_one_name_are_two() -> None:
    device = symroof.load_hardware("h100-sxm")
    slower = dataclasses.replace(device, bandwidth_figure=dataclasses.replace(device.bandwidth_figure, value=device.bandwidth_expr / 2))
    both = symroof.plan("llama-3-8b", prompt=100, output=16, hardware=[device, slower], tpot="20 ms")
    assert both[0].batch > both[1].batch
