"""Money, energy and carbon of a token, by hand; the front of price against speed, against every pair of points."""

from __future__ import annotations

import json
from fractions import Fraction

import numpy as np
import pytest
from sympy import Rational

import symroof
from symroof import symbols

H100 = "h100-sxm"
MODEL = symroof.load_model("llama-3.1-8b")
STEP = MODEL.decode(batch=64, seq_len=2048)


def test_a_token_costs_its_part_of_the_devices_time() -> None:
    for text, devices in (("", 1), ("tensor-parallel:degree=4", 4), ("speculative:acceptance=0.8,length=4,draft_cost=0.05", 1)):
        step = STEP.apply(text) if text else STEP
        analysis = symroof.analyze(step, H100)
        tokens = analysis.total.throughput_expr * analysis.total.time_expr
        cost = symroof.token_cost(step, H100, price="2 USD/h", power="700 W", utilization=0.5, pue=1.25, carbon="400 g/kWh")
        seconds = devices * analysis.total.time_expr / tokens / Rational(1, 2)
        assert cost.device_time_expr == seconds
        assert cost.money_expr == 2 * seconds / 3600
        assert cost.energy_expr == Rational(5, 4) * 700 * seconds
        assert cost.emissions_expr == cost.energy_expr / 3600000 * 400
        assert cost.money_per_million.exact == 10**6 * cost.money_expr


def test_what_is_not_given_stays_a_symbol_and_no_price_is_assumed() -> None:
    cost = symroof.token_cost(STEP, H100)
    assert cost.money_expr.free_symbols == {symbols.pi_d}
    assert cost.emissions_expr.free_symbols == {symbols.pi_w, symbols.e_0, symbols.g_e}
    given = symroof.token_cost(STEP, H100, price="3 USD/h", power="350 W", pue=1.1, carbon=50)
    values = {symbols.pi_d: 3, symbols.pi_w: 350, symbols.e_0: Rational(11, 10), symbols.g_e: 50}
    assert cost.money_expr.subs(values) == given.money_expr
    assert cost.emissions_expr.subs(values) == given.emissions_expr
    letters = symroof.token_cost(MODEL.decode(symbolic=True), None, utilization=None)
    assert {symbols.pi_d, symbols.u_d, symbols.P, symbols.BW} <= letters.money_expr.free_symbols


def test_the_step_s_energy_model_decides_where_no_power_is_given() -> None:
    step = STEP.apply("tensor-parallel:degree=2", "energy:flop=1pJ,byte=30pJ,power=100W")
    joules = symroof.energy(step, H100).system_token.joules_expr
    assert symroof.token_cost(step, H100, pue=Rational(6, 5)).energy_expr == Rational(6, 5) * joules
    assert symroof.token_cost(step, H100, pue=1, power=1).energy_expr != joules


def points(price: int, degrees: tuple[int, ...], last: int, context: int) -> list[tuple[Fraction, Fraction, int, int]]:
    """Every whole batch and degree that fits, analyzed by itself."""
    found = []
    for degree in degrees:
        for batch in range(1, last + 1):
            step = MODEL.decode(batch=batch, seq_len=context)
            analysis = symroof.analyze(step.apply(f"tensor-parallel:degree={degree}") if degree > 1 else step, H100)
            if analysis.fits:
                time = Fraction(*analysis.total.time_expr.as_numer_denom())
                found.append((time, price * degree * time / batch / 3600, degree, batch))
    return found


@pytest.mark.slow
def test_the_front_is_what_no_pair_beats() -> None:
    every = points(2, (1, 2, 4), 24, 16384)
    best = sorted(one for one in every if not any(other[0] <= one[0] and other[1] <= one[1] and other[:2] != one[:2] for other in every))
    front = symroof.price_of_speed(MODEL.decode(seq_len=16384), H100, price="2 USD/h", degrees=(1, 2, 4), largest_batch=24)
    assert [(point.time_expr, point.money_expr, point.degree, point.batch) for point in front] == [
        (Rational(time.numerator, time.denominator), Rational(money.numerator, money.denominator), degree, batch)
        for time, money, degree, batch in best
    ]
    for promise in (5, 8, 12, 30):
        met = [one for one in every if one[0] <= Fraction(promise, 1000)]
        cheapest = min(met, key=lambda one: (one[1], one[0]))
        assert (front.within(f"{promise} ms").degree, front.within(f"{promise} ms").batch) == cheapest[2:]


def test_of_one_degree_a_larger_batch_is_slower_and_cheaper() -> None:
    front = symroof.price_of_speed(MODEL.decode(seq_len=2048), H100, price="2 USD/h", degrees=(1,))
    assert [point.batch for point in front] == [*range(1, front.cheapest.batch + 1)]
    assert front.cheapest.batch == symroof.largest(MODEL.decode(seq_len=2048), hardware=H100).integer
    times, prices = [point.time_expr for point in front], [point.money_expr for point in front]
    assert times == sorted(set(times))
    assert prices == sorted(set(prices), reverse=True)
    assert front["1 x 10"].batch == 10
    doubled = symroof.price_of_speed(MODEL.decode(seq_len=2048), H100, price=4, degrees=(1,))
    assert [point.money_expr for point in doubled] == [2 * price for price in prices]


def test_numbers_of_arrays_are_degrees() -> None:
    given = {"price": 2, "largest_batch": 4}
    front = symroof.price_of_speed(MODEL.decode(seq_len=2048), H100, degrees=np.array([1, 2]), **given)
    assert front == symroof.price_of_speed(MODEL.decode(seq_len=2048), H100, degrees=(1, 2), **given)
    assert json.loads(front.report().render("json"))["points"][0]["devices"] == 2


def test_degrees_that_do_not_fit_are_left_out_with_the_reason() -> None:
    front = symroof.price_of_speed(symroof.load_model("llama-3-70b").decode(seq_len=2048), H100, price=2, degrees=(1, 3, 4, 8))
    assert {point.degree for point in front} == {4, 8}
    assert [reason.split(":")[0] for reason in front.left_out] == ["1 device", "3 devices"]
    assert "not even batch 1 fits" in front.left_out[0]
    assert "3" in front.left_out[1]


@pytest.mark.parametrize(
    ("ask", "match"),
    [
        (lambda: symroof.token_cost(STEP, H100, price="2 USD"), "'2 USD' is not in dollar / hour"),
        (lambda: symroof.token_cost(STEP, H100, price=-1), "price '-1': expected a number above 0"),
        (lambda: symroof.token_cost(STEP, H100, utilization=1.5), "utilization '3/2': expected a share"),
        (lambda: symroof.token_cost(STEP, H100, pue=0.9), "pue '9/10': expected at least 1"),
        (lambda: symroof.token_cost(STEP, H100, carbon="5 g"), "'5 g' is not in gram / kilowatt_hour"),
        (lambda: symroof.price_of_speed(MODEL.prefill(batch=1, seq_len=8), H100, price=2), "that of a decode step; this is prefill"),
        (lambda: symroof.price_of_speed(MODEL.decode(seq_len=2048), H100, price=2, degrees=(True,)), "no degree serves.*degree True"),
        (lambda: symroof.price_of_speed(MODEL.decode(seq_len=8), H100, price=2, largest_batch=0), "largest_batch 0: expected"),
        (lambda: symroof.price_of_speed(MODEL.decode(seq_len=8), H100, price=2, degrees=()), "expected at least one number of devices"),
        (lambda: symroof.price_of_speed(MODEL.decode(), H100, price=2), "give seq_len"),
        (
            lambda: symroof.price_of_speed(MODEL.decode(seq_len=2048), H100, price=2, degrees=(1,)).within("1 ms"),
            "tpot '1 ms': the fastest, 1 device at batch 1, takes 4.569 ms",
        ),
    ],
)
def test_bad_input_is_one_line(ask, match: str) -> None:
    with pytest.raises(symroof.InputError, match=match) as error:
        ask()
    assert "\n" not in str(error.value)


def test_of_equals_in_price_the_fastest_stays_and_of_equals_in_both_that_of_fewer_devices() -> None:
    from symroof.serving.money import _front

    one, two, three = Fraction(1), Fraction(2), Fraction(3)
    candidates = [(two, two, 2, 1), (two, two, 1, 4), (three, two, 1, 5), (three, one, 4, 9)]
    assert [(point.degree, point.batch) for point in _front(candidates, Rational(1))] == [(1, 4), (4, 9)]


COST = ("cost", "opt-125m", "--hardware", "t4", "--seq-len", "64")
PROVISION = ("provision", "opt-125m", "--hardware", "t4", "--prompt", "64", "--batch", "4")
TYPED = {
    (*COST, "--price", "x"): "--price 'x': expected dollars per hour, such as 2.5",
    (*COST, "--price", "2EUR"): "'2EUR': 'EUR' is not a unit known here; write it like '2 USD/h'",
    (*COST, "--utilization", "2"): "utilization '2': expected a share, above 0 and at most 1",
    (*COST, "--carbon", "0"): "--carbon '0': expected grams per kilowatt hour, such as 400",
    (*COST, "--degrees", "1,2"): "--degrees compares prices: give --price too, dollars per hour of one device, such as 2.5",
    (*COST, "--degrees", "1,x", "--price", "2"): "--degrees '1,x': expected numbers of devices from 1 to 4096, such as 1,2,4,8",
    (*COST, "--degrees", "1", "--price", "2", "--pue", "1.2"): "--pue is given, but --degrees asks for price and speed over every batch",
    (*COST, "--degrees", "1", "--price", "2", "--phase", "prefill"): "the price of speed is that of a decode step; this is prefill",
    (*PROVISION, "--output", "1"): "output 1: prefill yields the only token",
    (*PROVISION, "--output", "9", "--link", "50"): "--link '50': expected a bandwidth above 0, such as 50GB/s",
    (*PROVISION, "--output", "9", "--tpot", "1us"): "a decode step at batch 4 takes",
}


@pytest.mark.parametrize("command", TYPED, ids=" ".join)
def test_the_commands_refuse_in_one_line(run, command: tuple[str, ...]) -> None:
    result = run(*command)
    assert (result.status, result.out) == (2, "")
    assert TYPED[command] in result.err
    assert result.err.count("\n") == 1


def test_the_commands_give_the_functions_answers(run) -> None:
    asked = ("--hardware", H100, "--seq-len", "2048", "--format", "json")
    record = json.loads(run("cost", "llama-3.1-8b", *asked, "--batch", "64", "--price", "2", "--power", "700W", "--pue", "1.2").out)
    cost = symroof.token_cost(STEP, H100, price=2, power=700, pue=1.2)
    assert (record["money"], record["energy"]) == (float(cost.money_expr), float(cost.energy_expr))
    points = json.loads(run("cost", "llama-3.1-8b", *asked, "--price", "2", "--degrees", "1").out)["points"]
    front = symroof.price_of_speed(MODEL.decode(seq_len=2048), H100, price=2, degrees=(1,))
    assert [point["batch"] for point in points] == [point.batch for point in front]
    sizes = ("--prompt", "512", "--output", "32", "--batch", "8")
    record = json.loads(run("provision", "llama-3.1-8b", "--hardware", H100, *sizes, "--format", "json").out)
    pools = symroof.provision(MODEL, prompt=512, output=32, batch=8, hardware=H100)
    assert record["exact"] == str(pools.ratio_expr)
    assert record["elasticities"]["batch"] == float(pools.elasticity["batch"].exact)
