"""Links: latency affine in the devices, rates to one peer, a second tier between nodes; all against collectives played through."""

from __future__ import annotations

import csv
import itertools
import os
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import pytest
from sympy import Expr, Integer, Rational, oo, simplify

import symroof
from symroof import symbols
from symroof.architectures.step import Step
from symroof.errors import DeviceError, InputError
from symroof.hardware.device import Device, Target
from symroof.hardware.loader import load_hardware
from symroof.operators.collective import Group, all_gather, all_reduce, all_to_all, reduce_scatter, send
from symroof.operators.facts import Resource
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Level, Space, Storage, Tensor
from symroof.questions.scaling import best_degree, over_degree, paying_degrees, useful_doubling
from symroof.roof.ledger import seconds_of, time_of
from symroof.roof.links import linked
from symroof.sweeps.sweep import sweep
from symroof.techniques.registry import chain, technique

SIXTEEN = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
A100, H100 = "a100-sxm-80gb", "h100-sxm"
n, i = symbols.n_p, symbols.n_i


def numbers(text: str = "", model: str = "llama-2-7b", phase: str = "decode", **inputs: object) -> Step:
    return getattr(symroof.load_model(model), phase)(**SIXTEEN, **{"batch": 16, "seq_len": 512, **inputs}).apply(*chain([text]))


def seconds(step: Step, device: str = A100) -> Expr:
    return symroof.analyze(step, device).total.time_expr


def payload(size: Expr = symbols.b) -> tuple[Tensor, Tensor]:
    space = Space({"b": size})
    return tuple(Tensor(name, ("b",), Storage.ACTIVATION, space, Integer(16)) for name in "xy")  # pyright: ignore[reportReturnType]


# collectives played through


class Played:
    """Devices with the chunks they have, each with whose parts are summed in it; what was sent over which tier, and the steps."""

    def __init__(self, devices: int, node: int) -> None:
        self.devices, self.node = devices, node
        self.has = [{chunk: {device} for chunk in range(devices)} for device in range(devices)]
        self.sent: dict[str, Counter[int]] = {"link": Counter(), "network": Counter()}
        self.steps = Counter[str]()

    @property
    def inside(self) -> list[list[int]]:
        return [[first + place for place in range(self.node)] for first in range(0, self.devices, self.node)]

    @property
    def across(self) -> list[list[int]]:
        return [list(places) for places in zip(*self.inside, strict=True)]

    def ring(self, tier: str, rings: list[tuple[list[int], list[list[int]]]], *, add: bool, shift: int) -> None:
        """Around every ring at once, part by part: what comes is added, or takes the place of what was there."""
        for turn in range(len(rings[0][0]) - 1):
            moving = []
            for members, parts in rings:
                for place, device in enumerate(members):
                    part = parts[(place - turn + shift) % len(members)]
                    moving.append((device, members[(place + 1) % len(members)], {chunk: set(self.has[device][chunk]) for chunk in part}))
            for source, target, part in moving:
                self.sent[tier][source] += len(part)
                for chunk, owners in part.items():
                    self.has[target][chunk] = owners | (self.has[target][chunk] if add else set())
            self.steps[tier] += 1

    def reduce_scatter(self) -> None:
        """Place p of a node ends with the sums of the chunks of its place, and of them its node's."""
        parts = [[chunk for chunk in range(self.devices) if chunk % self.node == place] for place in range(self.node)]
        self.ring("link", [(members, parts) for members in self.inside], add=True, shift=-1)
        rings = [(members, [[node * self.node + place] for node in range(len(members))]) for place, members in enumerate(self.across)]
        self.ring("network", rings, add=True, shift=-1)

    def all_gather(self) -> None:
        rings = [(members, [[node * self.node + place] for node in range(len(members))]) for place, members in enumerate(self.across)]
        self.ring("network", rings, add=False, shift=0)
        parts = [[chunk for chunk in range(self.devices) if chunk % self.node == place] for place in range(self.node)]
        self.ring("link", [(members, parts) for members in self.inside], add=False, shift=0)


LAYOUTS = [(1, 1), (2, 1), (2, 2), (4, 2), (6, 3), (8, 8), (16, 8), (12, 4), (24, 8)]


@pytest.mark.parametrize(("devices", "node"), LAYOUTS)
@pytest.mark.parametrize("what", ["all_reduce", "reduce_scatter", "all_gather"])
def test_collectives_over_two_tiers_step_by_step(what: str, devices: int, node: int) -> None:
    """Cho, Finkler, Kung and Hunter (2019), BlueConnect, section 3: rings inside, across and inside again."""
    played = Played(devices, node)
    if what == "all_gather":
        played.has = [{chunk: {device} if chunk == device else set() for chunk in range(devices)} for device in range(devices)]
    if what != "all_gather":
        played.reduce_scatter()
        assert all(played.has[device][device] == {*range(devices)} for device in range(devices))
    if what != "reduce_scatter":
        played.all_gather()
        whole = [{*range(devices)} if what == "all_reduce" else {chunk} for chunk in range(devices)]
        assert all(has[chunk] == whole[chunk] for has in played.has for chunk in range(devices))
    group = Group(Integer(devices), Integer(node), symbols.l_0, symbols.t_l, symbols.t_n)
    x, y = payload()
    operator = {"all_reduce": all_reduce, "reduce_scatter": reduce_scatter, "all_gather": all_gather}[what]("c", Access(x), y, group)
    for level, tier in ((Level.LINK, "link"), (Level.NETWORK, "network")):
        sent = {played.sent[tier][device] for device in range(devices)}
        assert len(sent) == 1, "every device sends as much"
        assert operator.byte_count(level=level) == sent.pop() * x.byte_count / devices
    steps = played.steps["link"] * symbols.t_l + played.steps["network"] * symbols.t_n
    assert operator.latency == steps + (symbols.l_0 if devices > 1 else 0)


@pytest.mark.parametrize(("devices", "node"), LAYOUTS)
def test_an_exchange_sends_every_device_its_own(devices: int, node: int) -> None:
    over = Counter(
        "link" if one // node == other // node else "network" for one in [devices - 1] for other in range(devices) if one != other
    )
    x, y = payload()
    operator = all_to_all("a", Access(x), y, Group(Integer(devices), Integer(node), symbols.l_x, symbols.t_x, symbols.t_n))
    assert operator.byte_count(level=Level.LINK) == over["link"] * x.byte_count / devices
    assert operator.byte_count(level=Level.NETWORK) == over["network"] * x.byte_count / devices
    waited = symbols.t_n if over["network"] else 0  # once: what goes to other nodes is under way at the same time
    assert operator.latency == (devices - 1) * symbols.t_x + waited + (symbols.l_x if devices > 1 else 0)


@pytest.mark.parametrize(("devices", "node"), [(2, 2), (8, 8), (4, 2), (16, 8), (3, 1)])
def test_the_slowest_of_a_ring_of_neighbours_leaves_its_node(devices: int, node: int) -> None:
    leaving = any(device // node != (device + 1) // node for device in range(devices - 1))
    x, _ = payload()
    hop = send("s", x, Integer(3), Group(Integer(devices), Integer(node), symbols.l_x, symbols.t_x, symbols.t_n), slots=Integer(5))
    assert hop.byte_count(level=Level.LINK) == 3 * x.byte_count
    assert hop.byte_count(level=Level.NETWORK) == (3 * x.byte_count if leaving else 0)
    assert simplify(hop.latency - 5 * (symbols.l_x + symbols.t_x + (symbols.t_n if leaving else 0))) == 0


def test_a_step_of_ring_attention_waits_for_the_network() -> None:
    for degree, step in ((8, 3), (16, 7)):
        hidden = f"context-parallel:degree={degree},node=8"
        late, plain = (seconds(numbers(text, phase="prefill"), H100) for text in (f"{hidden},latency=3us,network_latency=7us", hidden))
        assert late - plain == 32 * 2 * (degree - 1) * Rational(step, 10**6), "keys and values go around apart"
        sent = numbers(hidden, phase="prefill").graph
        assert sent.byte_count(level=Level.NETWORK) == (sent.byte_count(level=Level.LINK) if degree > 8 else 0)


def test_latency_is_affine_in_the_devices_of_one_node() -> None:
    x, y = payload()
    late = [all_reduce("r", Access(x), y, Group(Integer(k), None, symbols.l_0, symbols.t_l)).latency for k in range(2, 12)]
    assert late == [symbols.l_0 + 2 * (k - 1) * symbols.t_l for k in range(2, 12)]
    trees = [Group(Integer(k), Integer(8), symbols.l_0, symbols.t_l, symbols.t_n, "tree").latency(2) for k in (8, 16, 64)]
    assert trees == [symbols.l_0 + 6 * symbols.t_l + 2 * across * symbols.t_n for across in (0, 1, 3)]


# neutral parameters


@pytest.mark.parametrize(
    ("model", "phase", "text"),
    [
        ("llama-2-7b", "decode", "tensor-parallel:degree=8"),
        ("llama-2-7b", "decode", "tensor-parallel:degree=8,collective=tree"),
        ("mixtral-8x7b-v0.1", "decode", "expert-parallel:degree=8"),
        ("llama-2-7b", "decode", "pipeline-parallel:degree=8,micro_batches=4"),
        ("llama-2-7b", "prefill", "context-parallel:degree=8,latency=3us"),
    ],
)
@pytest.mark.parametrize("device", [A100, "mi300x"])
def test_one_node_is_one_tier(model: str, phase: str, text: str, device: str) -> None:
    one = seconds(numbers(text, model, phase), device)
    for node in (8, 16):
        assert seconds(numbers(f"{text},node={node}", model, phase), device) == one
    free = numbers(f"{text},node", model, phase)  # two tiers in letters, of which one is left in numbers
    at = replace(free, symbolic=free.symbolic.bind({symbols.n_d: Integer(8)}))
    assert free.symbolic.byte_count(level=Level.NETWORK) != 0
    assert at.symbolic.bind(free.values).byte_count(level=Level.NETWORK) == 0
    assert seconds(at, device) == one


def test_without_overhead_latency_is_proportional_as_it_was() -> None:
    for degree in (2, 8):
        plain = numbers(f"tensor-parallel:degree={degree},latency=0")
        late = numbers(f"tensor-parallel:degree={degree},latency=5us")
        more = numbers(f"tensor-parallel:degree={degree},latency=5us,overhead=8us")
        assert seconds(late) - seconds(plain) == (65 * 2 + 1) * (degree - 1) * Rational(5, 10**6)
        assert seconds(more) - seconds(late) == (65 + 1) * Rational(8, 10**6)


# what a device states of its link


def of_device(name: str = A100) -> dict[str, Expr]:
    link = load_hardware(name).link(Target.DEVICE)
    return {key: getattr(link, key).value for key in ("overhead", "latency", "exchange_overhead", "exchange_latency")}


def test_latency_is_the_devices_where_none_is_given() -> None:
    own, plain = of_device(), seconds(numbers("tensor-parallel:degree=8,latency=0"))
    with_own = 66 * own["overhead"] + (65 * 14 + 7) * own["latency"]
    assert seconds(numbers("tensor-parallel:degree=8")) - plain == with_own
    assert seconds(numbers("tensor-parallel:degree=8,overhead=0")) == plain, "one that is given stands for both"
    assert seconds(numbers("tensor-parallel:degree=8,link=300GB/s")) == plain, "of another link it states nothing"
    step = numbers("tensor-parallel:degree=8")
    assert (
        symroof.analyze(step, A100, ceilings="classic").total.time_expr
        == symroof.analyze(numbers("tensor-parallel:degree=8,latency=0"), A100, ceilings="classic").total.time_expr
    )
    assert seconds(step, "v100-sxm2-32gb") == seconds(numbers("tensor-parallel:degree=8,latency=0"), "v100-sxm2-32gb")
    told = " ".join(symroof.analyze(step, A100).statements)
    assert "collective overhead 7.87 us, link latency 945 ns" in told


def test_exchanges_and_sends_have_latencies_of_their_own() -> None:
    own, model = of_device(), "mixtral-8x7b-v0.1"
    plain, late = (seconds(numbers(f"expert-parallel:degree=8{text}", model, batch=64)) for text in (",latency=0", ""))
    assert late - plain == 32 * 2 * (own["exchange_overhead"] + 7 * own["exchange_latency"])
    piped = "pipeline-parallel:degree=4,micro_batches=2"
    plain, late = (seconds(numbers(piped + text)) for text in (",latency=0", ""))
    assert late - plain == 5 * (own["exchange_overhead"] + own["exchange_latency"])
    ring = "context-parallel:degree=8"
    assert seconds(numbers(ring, phase="prefill")) == seconds(numbers(f"{ring},latency=0", phase="prefill")), "hidden behind attention"


def test_a_step_between_nodes_takes_what_is_stated_given_or_no_less_than_inside() -> None:
    plain = seconds(numbers("tensor-parallel:degree=16,node=8,latency=0"))
    own, network = of_device(), load_hardware(A100).link(Target.NETWORK)
    late = 66 * own["overhead"] + (65 * 14 + 7) * own["latency"]
    for text, step in (("", network.latency.value), (",network_latency=4us", Rational(4, 10**6)), (",network=25GB/s", own["latency"])):
        assert seconds(numbers(f"tensor-parallel:degree=16,node=8{text}")) - plain == late + (65 * 2 + 1) * step, text
    given = seconds(numbers("tensor-parallel:degree=16,node=8,latency=1us"))
    assert given - plain == ((65 * 14 + 7) + (65 * 2 + 1)) * Rational(1, 10**6)


# rates to one peer


@pytest.mark.parametrize("degree", [2, 4, 8])
def test_a_pair_of_devices_has_one_of_seven_links(degree: int) -> None:
    """Every device sends each other one its n-th of the payload, and gets the sum of its own: 2/n of it over every pair's link."""
    device, size = load_hardware("mi300x"), 2 * 16 * 4096
    whole, pair = Rational(448 * 10**9), Rational(64 * 10**9)
    sent = Counter((one, other) for one in range(degree) for other in range(degree) if one != other for _ in range(2))
    busiest = max(sent.values()) * Rational(size, degree) / pair
    together = sum(count for (one, _), count in sent.items() if one == 0) * Rational(size, degree) / whole
    step = symroof.analyze(numbers(f"tensor-parallel:degree={degree}"), device)["out_proj.all_reduce"]
    assert step.time_expr == max(busiest, together)
    assert step.seconds_exprs[Resource.PEER] == busiest
    assert step.bound == ("link" if degree == 8 else "peer"), "of equals the first"
    given = symroof.analyze(numbers(f"tensor-parallel:degree={degree},link=448GB/s"), device)["out_proj.all_reduce"]
    assert given.time_expr == together, "what the device states of its link is not so of another"
    slow = symroof.analyze(numbers(f"tensor-parallel:degree={degree} efficiency:link=1/2"), device)["out_proj.all_reduce"]
    assert slow.time_expr == 2 * step.time_expr


def test_one_neighbour_has_one_link() -> None:
    step = symroof.analyze(numbers("pipeline-parallel:degree=4,micro_batches=4"), "mi300x")["stage.send"]
    assert step.seconds_exprs[Resource.PEER] == 7 * step.seconds_exprs[Resource.LINK]
    assert step.bound == "peer"


# how many devices a link joins


@pytest.mark.parametrize(
    ("device", "text", "said"),
    [
        (
            "h100-pcie",
            "tensor-parallel:degree=8",
            "device 'h100-pcie' links 2 devices, and 8 share the step: give those of one node, as node=2",
        ),
        (H100, "tensor-parallel:degree=16", "device 'h100-sxm' links 8 devices, and 16 share the step: give those of one node, as node=8"),
        (H100, "tensor-parallel:degree=32,node=16", "links 8 devices, and 16 share the step"),
        (
            H100,
            "tensor-parallel:degree=4 pipeline-parallel:degree=4,micro_batches=4",
            "links 8 devices, and 16 share the step: give each technique's devices of one node, node=..., whose product is at most 8",
        ),
    ],
)
def test_more_devices_than_a_link_joins_are_refused(device: str, text: str, said: str) -> None:
    with pytest.raises(DeviceError) as told:
        seconds(numbers(text), device)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_one_device_more_than_a_link_joins_is_too_many() -> None:
    step, machine = symroof.load_model("llama-2-7b").decode(symbolic=True), load_hardware(H100).machine
    assert linked(step.apply(technique("tensor-parallel:degree=8")).symbolic, machine).joined == 8
    with pytest.raises(DeviceError, match="links 8 devices, and 9 share"):
        linked(step.apply(technique("tensor-parallel:degree=9")).symbolic, machine)


@pytest.mark.parametrize(
    ("device", "text"),
    [
        (H100, "tensor-parallel:degree=16,link=450GB/s"),
        (H100, "tensor-parallel:degree=16,node=8"),
        (H100, "tensor-parallel:degree=8 pipeline-parallel:degree=4,micro_batches=4,node=1"),
        ("h100-pcie", "tensor-parallel:degree=8,node=2"),
        ("tpu-v5e", "tensor-parallel:degree=16"),
        ("gb200", "tensor-parallel:degree=32"),
    ],
)
def test_other_links_nodes_and_toruses_join_more(device: str, text: str) -> None:
    assert seconds(numbers(text), device) > 0


def test_devices_beyond_a_bridge_are_reached_by_way_of_the_host() -> None:
    step = symroof.analyze(numbers("tensor-parallel:degree=8,node=2"), "h100-pcie")["out_proj.all_reduce"]
    size = 2 * 16 * 4096
    assert step.seconds_exprs[Resource.LINK] == Rational(size) / (300 * 10**9)
    assert step.seconds_exprs[Resource.NETWORK] == 2 * Rational(size, 2) * Rational(3, 4) / (64 * 10**9)
    assert step.time_expr == max(step.seconds_exprs.values())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("tensor-parallel:degree=12,node=8", "degree 12 is not a multiple of node 8"),
        ("tensor-parallel:degree=8,network=50GB/s", "a network connects nodes: give the devices per node, as node=8"),
        ("tensor-parallel:degree=8,network_latency=5us", "a network connects nodes"),
        ("tensor-parallel:degree=8,node=0", "from 1 on"),
        ("tensor-parallel:degree=16,node=8,network=50us", "network '50us': expected a number or one such as 25GB/s"),
        (
            "tensor-parallel:degree=16,node=8,network=25GB/s pipeline-parallel:degree=2,micro_batches=2,node=1,network=50GB/s",
            "one network_bandwidth",
        ),
    ],
)
def test_refusals(text: str, said: str) -> None:
    with pytest.raises(InputError) as told:
        numbers(text)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


def test_a_network_that_no_file_states_is_asked_for() -> None:
    with pytest.raises(DeviceError, match=r"states no network to other nodes; give its bandwidth, as network=50GB/s"):
        seconds(numbers("tensor-parallel:degree=16,node=8"), "tpu-v5e")
    assert seconds(numbers("tensor-parallel:degree=16,node=8,network=50GB/s"), "tpu-v5e") > 0


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('latency = "0 us"', "link.latency is '0 us'; expected more than 0"),
        ('overhead = "4 GB"', "link.overhead"),
        ('latency = "5"', "link.latency"),
        ('topology = "star"', "link.topology is 'star'; known: direct, torus"),
        ('latencies = "5 us"', "unknown key 'latencies'"),
    ],
)
def test_bad_links_of_a_file(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "own.toml"
    link = f'[[link]]\nname = "l"\nbandwidth = "1 GB/s"\ndirection = "each"\n{line}\n'
    path.write_text(f'[peak.fp16]\ndense = "1 TFLOP/s"\n[memory]\nbandwidth = "1 TB/s"\n{link}')
    with pytest.raises(DeviceError) as told:
        load_hardware(path)
    assert said in str(told.value)
    assert "\n" not in str(told.value)


# over the degree


@pytest.mark.parametrize("device", [A100, "mi300x", "h100-pcie"])
@pytest.mark.parametrize("algorithm", ["ring", "tree"])
def test_time_over_the_degree_is_that_of_whole_steps_over_both_tiers(algorithm: str, device: str) -> None:
    late = "" if device == A100 else ",latency=2us,network_latency=9us"
    text = f"tensor-parallel:node={2 if device == 'h100-pcie' else 8},collective={algorithm}{late}"
    times = over_degree(numbers(text), device).pieces_expr
    for degree in (1, 2, 4, 8, 16, 32):
        assert times(degree) == seconds(numbers(f"{text},degree={degree}"), device), degree
    assert times.high == (2**20 if algorithm == "tree" else oo)
    value, whole = times.minimum(), times.minimum(whole=True)
    assert whole[0] == min(times(degree) for degree in range(1, 300))
    assert value[0] <= whole[0]
    assert all(times(Rational(k, 7)) >= value[0] for k in range(7, 7 * 60))


def test_the_degree_ends_where_the_link_does() -> None:
    free = numbers("tensor-parallel")
    assert over_degree(free, A100).pieces_expr.high == 8
    assert over_degree(free, "v100-sxm2-32gb").pieces_expr.high == oo
    assert over_degree(numbers("tensor-parallel pipeline-parallel:degree=2,micro_batches=2"), A100).pieces_expr.high == 4
    with pytest.raises(InputError, match="degree 16: the device's link joins 8"):
        best_degree(free, hardware=A100, among=(8, 16))
    node = symroof.regimes(numbers("tensor-parallel:degree=16,node"), over="node", hardware=A100)
    assert node.times.high == 8
    assert [node.time_expr(k) for k in (1, 2, 8)] == [seconds(numbers(f"tensor-parallel:degree=16,node={k}")) for k in (1, 2, 8)]
    few = symroof.regimes(numbers("tensor-parallel:degree=4,node"), over="node", hardware=A100)
    assert few.times.high == oo
    assert few.time_expr(64) == seconds(numbers("tensor-parallel:degree=4"))


def test_crossings_over_two_tiers_lie_where_whole_steps_say() -> None:
    """The degrees at which more devices stop to pay, held against the step of one device at whole numbers around each."""
    before, text = numbers(), "tensor-parallel:node=8,network_latency=40us"
    found = symroof.payoff(before, before.apply(technique(text)), over="degree", hardware=A100)
    high = found.edges_expr[-1]
    one, times = seconds(before), over_degree(before.apply(technique(text)), A100).pieces_expr
    below, above = 8 * int(high // 8), 8 * (int(high // 8) + 1)
    assert below > 8, "in the second tier"
    assert times(below) < one < times(above)
    assert simplify(times(high) - one) == 0
    assert times(32) == seconds(numbers(f"{text},degree=32"))


def test_sweeps_over_degree_and_node_are_analyses() -> None:
    told = sweep("llama-2-7b", A100, {"degree": [1, 2, 8, 16, 32]}, batch=16, seq_len=512, techniques=chain(["tensor-parallel:node=8"]))
    wanted = [float(seconds(numbers(f"tensor-parallel:node=8,degree={degree}"))) for degree in (1, 2, 8, 16, 32)]
    classic = [
        float(symroof.analyze(numbers(f"tensor-parallel:node=8,degree={degree}"), A100, ceilings="classic").total.time_expr)
        for degree in (1, 2, 8, 16, 32)
    ]
    found = told["time"].values.ravel()
    assert all(low <= time <= high * (1 + 1e-12) for low, time, high in zip(classic, found, wanted, strict=True))
    assert found[3] - classic[3] == pytest.approx(
        float(66 * of_device()["overhead"] + (65 * 14 + 7) * of_device()["latency"] + 131 * 2.7e-6)
    )
    with pytest.raises(DeviceError, match="links 8 devices, and 16 share"):
        sweep("llama-2-7b", A100, {"degree": [2, 16]}, batch=16, seq_len=512, techniques=chain(["tensor-parallel"]))


# closed forms of the degree


def test_closed_forms_with_an_overhead_against_a_search() -> None:
    for gain, latency, overhead in itertools.product((-3, 0, 5, 30, 200), (0, 1, 3), (0, 2, 11, 60)):
        pays = [k for k in range(2, 400) if Rational(gain * (k - 1), k) > overhead + latency * (k - 1)]
        ends = paying_degrees(Integer(gain + 7), Integer(7), Integer(latency), Integer(overhead))
        assert [k for k in range(2, 400) if ends is not None and ends[0] < k < ends[1]] == pays, (gain, latency, overhead)


def test_closed_form_of_trees_against_a_search() -> None:
    for gain, latency in itertools.product((0, 1, 3, 64, 100, 1000), (1, 2, 7)):
        times = {k: Rational(gain, k) + latency * (k - 1).bit_length() for k in range(1, 1025)}
        best = useful_doubling(Integer(gain + 9), Integer(9), Integer(latency))
        assert times[int(best)] == min(times.values())
    assert useful_doubling(Integer(9), Integer(9), Integer(0)) == 1


# measured collectives

MEASURED = Path(os.environ.get("SYMROOF_MEASURED", "")) / "nccl.csv"
COLLECTIVES: dict[str, Callable[[str, Access, Tensor, Group], Operator]] = {
    "all_reduce": all_reduce,
    "all_gather": all_gather,
    "reduce_scatter": reduce_scatter,
    "alltoall": all_to_all,
}
SMALL = 8192
"""Bytes up to which the rates of a link do not show."""


def rows(device: str) -> list[tuple[str, int, int, float]]:
    """Collective, GPUs, bytes and seconds."""
    with MEASURED.open(newline="") as stream:
        read = [row for row in csv.DictReader(stream) if device.startswith(row["gpu"].replace("_", "-"))]
    return [(row["op"], int(row["num_gpus"]), 2 * int(row["message_elems"]), float(row["latency_us"]) / 1e6) for row in read]


def least(device: Device, what: str, devices: int, size: int) -> Expr:
    """The time of a collective by the library's own operator and ledger, in numbers."""
    stated = device.machine.latencies
    own = (symbols.l_x, symbols.t_x) if what == "alltoall" else (symbols.l_0, symbols.t_l)
    group = Group(Integer(devices), None, *(stated[letter] for letter in own))
    x, y = payload(Integer(size // 2))
    operator = COLLECTIVES[what]("c", Access(x), y, group)
    return time_of(operator, seconds_of(operator, device.machine, symbols.P), machine=device.machine)


def steepest(times: list[tuple[int, Fraction]], weights: list[tuple[int, Fraction]]) -> tuple[Fraction, Fraction]:
    """The line below all points that is highest on average, relative to the weights' times: at a corner, so two points touch."""
    lowest = {steps: min(time for other, time in times if other == steps) for steps, _ in times}
    candidates = []
    for (one, low), (other, high) in itertools.combinations(sorted(lowest.items()), 2):
        slope = (high - low) / (other - one)
        start = low - slope * one
        if all(start + slope * steps <= time for steps, time in lowest.items()):
            candidates.append((sum((start + slope * steps) / time for steps, time in weights), start, slope))
    _, start, slope = max(candidates)
    return start, slope


def of_page(name: str) -> list[str]:
    """The rows of the page's table: mean and median error by what binds."""
    device, told = load_hardware(name), []
    kinds = {"all-reduce, all-gather, reduce-scatter": [*COLLECTIVES][:3], "all-to-all": ["alltoall"]}
    for (title, names), devices in itertools.product(kinds.items(), (2, 4, 8)):
        groups: dict[str, list[tuple[float, float]]] = {"small": [], "latency": [], "bandwidth": []}
        for what, count, size, time in rows(name):
            if what not in names or count != devices:
                continue
            late, total = (float(least(device, what, devices, bytes_)) for bytes_ in (0, size))
            wire = total - late
            for key in ["small"] * (size <= SMALL) + ["latency" if late > wire else "bandwidth"]:
                groups[key].append((total / time - 1, (late + wire / 0.6) / time - 1))
        columns = [[abs(plain) for plain, _ in groups[key]] for key in groups] + [[abs(slower) for _, slower in groups["bandwidth"]]]
        cells = (f"{100 * statistics.mean(errors):.1f} ({100 * statistics.median(errors):.1f})" for errors in columns)
        told.append(f"| {name} | {title} | {devices} | {' | '.join(cells)} |")
    return told


@pytest.mark.skipif(not MEASURED.is_file(), reason="measured collectives are not at hand: SYMROOF_MEASURED names their folder")
def test_the_page_tells_how_far_the_constants_are_off() -> None:
    page = (Path(__file__).parent.parent.parent / "docs" / "links.md").read_text()
    table = page.partition("<!-- errors -->")[2].partition("<!-- end -->")[0].split("\n")[3:-1]
    assert table == [*of_page(A100), *of_page(H100)]


@pytest.mark.skipif(not MEASURED.is_file(), reason="measured collectives are not at hand: SYMROOF_MEASURED names their folder")
@pytest.mark.parametrize("name", [A100, H100])
def test_measured_collectives(name: str) -> None:
    """No row is faster than the least time; the constants are the largest that are so, and as far off as the file says."""
    device = load_hardware(name)
    link = device.link(Target.DEVICE)
    found = rows(name)
    assert len(found) == 252
    for what, devices, size, time in found:
        assert least(device, what, devices, size) <= time, (what, devices, size)
    for kinds, overhead, latency in (
        (["all_reduce", "all_gather", "reduce_scatter"], link.overhead, link.latency),
        (["alltoall"], link.exchange_overhead, link.exchange_latency),
    ):
        chosen = [row for row in found if row[0] in kinds]
        steps = [(2 if what == "all_reduce" else 1) * (devices - 1) for what, devices, _, _ in chosen]
        wires = [Fraction(step * size, devices) / int(link.one_way_expr) for step, (_, devices, size, _) in zip(steps, chosen, strict=True)]
        exact = [Fraction(round(row[3] * 1e8), 10**8) for row in chosen]
        beside = [(step, time - wire) for step, time, wire in zip(steps, exact, wires, strict=True)]
        small = [(step, time) for step, time, row in zip(steps, exact, chosen, strict=True) if row[2] <= SMALL]
        start, slope = steepest(beside, small)
        assert 0 <= float(start) - float(overhead.value) < 1e-8, (float(start), overhead.printed)
        assert 0 <= float(slope) - float(latency.value) < 1e-9, (float(slope), latency.printed)
        errors = [abs(float(least(device, *row[:3])) / row[3] - 1) * 100 for row in chosen if row[2] <= SMALL]
        assert f"median error {statistics.median(errors):.1f} %" in overhead.note
