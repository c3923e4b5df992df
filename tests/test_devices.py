"""Every device's file is read back: units, sources, plausibility; and bad files are refused in one line."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from sympy import Rational

import symroof
from symroof import symbols
from symroof.hardware.device import Figure, Link, Target
from symroof.hardware.loader import catalogue, load_hardware
from symroof.operators.facts import Resource
from symroof.present.catalogue import device_report
from symroof.present.report import TEXT, Layout
from symroof.units import BANDWIDTH, BYTE, INTENSITY, RATE, WATT

NAMES = tuple(catalogue())
VENDOR_NAMES = tuple(name for name in NAMES if not name.startswith("survey/"))

IN_MEMORY = ("hbm-pim", "aim")
"""Processing in memory whose units have registers, and no buffer for tiles."""

NO_BUFFER = ("rubin", "mi455x", "ascend-910b3", "ascend-910c", "ascend-950dt", "arc-b580", "arc-pro-b60", "gpu-max-1550")
"""Devices whose on-chip memory no document read so far states."""

SPARSE_IS_NOT_TWICE = (("b300", "fp4"), ("gb300", "fp4"))
"""Blackwell Ultra: dense FP4 is 1.5 times as fast as that of Blackwell, sparse FP4 is not faster."""

SURVEY = (
    *("nvidia_V100", "nvidia_A6000", "nvidia_A100", "nvidia_A100_40G", "nvidia_A100_80G", "nvidia_A800_80G_SXM"),
    *("nvidia_A40", "nvidia_H100", "nvidia_H100_SXM", "nvidia_H100_PCIe", "nvidia_L40", "intel_13900k"),
)


def latencies(link: Link) -> tuple[Figure | None, ...]:
    return link.overhead, link.latency, link.exchange_overhead, link.exchange_latency


def figures(name: str) -> list[Figure]:
    device = load_hardware(name)
    peaks = [figure for peak in device.peaks.values() for figure in (peak.dense, peak.sparse, peak.half_accumulation, peak.clock)]
    others = [device.bandwidth_figure, device.capacity_figure, device.reported_figure, device.tdp, device.processors_figure, device.clock]
    others += [device.vector, device.exponential, device.cache]
    levels = [figure for level in device.on_chip for figure in (level.capacity, level.bandwidth)]
    links = [figure for link in device.links for figure in (link.bandwidth, link.per_peer, *latencies(link))]
    return [figure for figure in (*peaks, *others, *levels, *links) if figure is not None]


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_has_a_source_with_a_date(name: str) -> None:
    for figure in figures(name):
        assert figure.source is not None, figure
        assert figure.source.title
        assert figure.source.publisher
        assert figure.source.url.startswith("https://")
        assert re.fullmatch(r"20[0-9]{2}(-[01][0-9])?", figure.source.date)


@pytest.mark.parametrize("name", NAMES)
def test_quantities_have_their_units(name: str) -> None:
    device = load_hardware(name)
    assert device.bandwidth.units == BANDWIDTH
    for data_type in device.peaks:
        assert device.peak(data_type).units == RATE
        assert device.ridge(data_type).units == INTENSITY
        assert device.ridge(data_type) * device.bandwidth == device.peak(data_type)
    if device.capacity_figure:
        assert device.capacity.units == BYTE
    if device.tdp:
        assert device.power.units == WATT


@pytest.mark.parametrize("name", NAMES)
def test_plausible(name: str) -> None:
    device = load_hardware(name)
    for data_type, peak in device.peaks.items():
        assert 10**11 < peak.dense.value < 4 * 10**16, data_type
        if peak.sparse and (name, data_type) not in SPARSE_IS_NOT_TWICE:
            # Exactly twice where both are printed: the printed digits bound the difference.
            assert 1.5 < peak.sparse.value / peak.dense.value < 2.1, data_type
            if device.sparse_is_twice_dense:
                assert abs(peak.sparse.value - 2 * peak.dense.value) <= 2 * last_digit(peak.dense) + last_digit(peak.sparse), data_type
        if peak.half_accumulation:
            digits = 2 * last_digit(peak.dense) + last_digit(peak.half_accumulation)
            assert abs(peak.half_accumulation.value - 2 * peak.dense.value) <= digits, data_type
    assert 50 * 10**9 <= device.bandwidth_figure.value <= 10**14
    if device.capacity_figure:
        assert 10**8 < device.capacity_figure.value < 10**13
        if device.reported_figure:  # vendors print binary gigabytes as GB; ECC beside the data takes a sixteenth of them on GDDR6
            assert 1 <= device.reported_figure.value / device.capacity_figure.value <= Rational(2**30, 10**9)
    assert [level.role for level in device.on_chip].count("buffer") == (name not in (*IN_MEMORY, *NO_BUFFER))
    assert device.buffer_expr is None or 16 * 1024 <= device.buffer_expr <= 512 * 10**6
    if device.tdp:
        assert 10 < device.tdp.value <= 2000
    # Halving the width never halves the rate.
    order = [device.peaks[kind].dense.value for kind in ("fp64", "fp32", "fp16", "fp8", "fp4") if kind in device.peaks]
    assert order == sorted(order)


def last_digit(figure: Figure) -> float:
    """The weight of a printed figure's last digit, in canonical units."""
    number = figure.printed.split()[0]
    decimals = len(number.partition(".")[2])
    return float(figure.value) / float(number) * 10.0**-decimals


UNEVEN = {
    ("h20", "all"): "the export limit is set on the chip's rate, not on its clock",
    ("b300", "int8"): "Blackwell Ultra gave INT8 up; documents round it to 150, 153.5 and 188",
    ("gb300", "int8"): "as for the B300",
    ("l40s", "fp16"): "NVIDIA prints 362.05 where its own FP8 and TF32 figures imply 366",
    ("l40s", "bf16"): "as for FP16",
    ("rtx-pro-6000", "fp4"): "printed as 4000 sparse: rounded",
}
"""Peaks that are no whole power of two per clock and processor, and why."""


@pytest.mark.parametrize("name", VENDOR_NAMES)
def test_units_do_a_power_of_two_of_operations_per_clock(name: str) -> None:
    """Or three times one (dense FP4 of Blackwell Ultra): finds slips in peak, clock and count, and sparse figures taken for dense."""
    device = load_hardware(name)
    if device.processors is None or device.clock is None:
        return
    rates = {("vector", "dense"): (device.vector, device.clock)} if device.vector else {}
    for data_type, peak in device.peaks.items():
        for what in ("dense", "sparse", "half_accumulation"):
            rates[data_type, what] = (getattr(peak, what), peak.clock or device.clock)
    for (data_type, what), (figure, clock) in rates.items():
        if figure is None or (name, data_type) in UNEVEN or (name, "all") in UNEVEN:
            continue
        rate = float(figure.value / (clock.value * device.processors))
        factors = (1, 3) if (name, data_type) in SPARSE_IS_NOT_TWICE else (1,)
        nearest = min((factor * 2.0**power for factor in factors for power in range(20)), key=lambda one: abs(rate / one - 1))
        printed = (1 + (what != "dense")) * last_digit(figure) / float(figure.value) + last_digit(clock) / float(clock.value)
        assert abs(rate / nearest - 1) <= printed, (data_type, what, rate)


@pytest.mark.parametrize(("name", "data_type"), UNEVEN)
def test_exceptions_are_needed(name: str, data_type: str) -> None:
    device = load_hardware(name)
    peak = device.peaks["fp16" if data_type == "all" else data_type]
    rate = float(peak.dense.value / ((peak.clock or device.clock).value * device.processors))
    assert all(abs(rate / 2.0**power - 1) > 0.005 for power in range(20))


@pytest.mark.parametrize("name", VENDOR_NAMES)
def test_levels_links_and_rates_agree_with_processors(name: str) -> None:
    device, content = load_hardware(name), tomllib.loads(catalogue()[name].read_text())
    assert all({"to", "direction"} <= link.keys() for link in content.get("link", []))
    for link in device.links:
        assert link.one_way_per_peer_expr <= link.one_way_expr
        if link.per_peer and link.peers:
            assert link.peers * link.per_peer.value <= link.bandwidth.value * Rational(101, 100)
    held = [level.instances for level in device.on_chip if level.role == "buffer" and level.instances > 1]
    if device.kind in ("gpu", "cpu", "soc") and device.processors:
        assert held in ([], [device.processors])
    if device.vendor == "NVIDIA" and device.kind == "gpu" and device.clock:
        assert device.vector is not None
        assert device.exponential is not None
        assert device.exponential.value == device.processors * device.clock.value * (32 if name in ("b300", "gb300") else 16)
    if device.vector and "fp16" in device.peaks:
        assert device.vector.value < device.peaks["fp16"].dense.value, "units apart from the matrix units are slower"
    assert device.cache is None or device.cache.value > device.bandwidth_figure.value
    assert device.cache_capacity_expr is None or device.buffer_expr is None or device.cache_capacity_expr > device.buffer_expr


def test_the_survey_s_twelve_are_there() -> None:
    assert {f"survey/{name}" for name in SURVEY} == {name for name in NAMES if name.startswith("survey/")}


def test_at_least_ninety_by_the_vendors_figures() -> None:
    assert len(VENDOR_NAMES) >= 90


@pytest.mark.parametrize(
    ("name", "data_type", "dense"),
    # The figures peers get wrong: dense, not sparse; GB, not GiB; the tensor core's rate, not the CUDA core's.
    [
        *[("h100-sxm", "fp16", "989.4"), ("a100-sxm-80gb", "fp16", "312"), ("a100-sxm-80gb", "int8", "624"), ("l40s", "fp16", "362.05")],
        *[("rtx-4090", "fp16", "165.2"), ("v100-sxm2-32gb", "fp16", "125"), ("h100-sxm", "fp8", "1978.9"), ("mi300x", "fp16", "1307.4")],
    ],
)
def test_dense_peaks(name: str, data_type: str, dense: str) -> None:
    assert load_hardware(name).peaks[data_type].dense.printed.split()[0] == dense


def test_aliases_are_unique_and_lead_somewhere() -> None:
    from symroof.hardware.loader import _aliases, _parse

    listed = [alias for path in catalogue().values() for alias in _parse(path).get("aliases", [])]
    assert len(listed) == len(set(listed))
    assert not set(listed) & set(NAMES)
    assert load_hardware("A100").name == "a100-sxm-80gb"
    assert set(_aliases().values()) <= set(NAMES)


OWN = """
name = "My chip"
[peak.fp16]
dense = "100 TFLOP/s"
[memory]
bandwidth = "1 TB/s"
"""


def test_a_users_own_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(OWN)
    device = symroof.load_hardware(path)
    assert (device.name, device.title, device.ridge("fp16").magnitude) == (str(path), "My chip", 100)
    with pytest.raises(symroof.SymroofError, match=r"mine\.toml: no memory capacity is stated"):
        _ = device.capacity


PEAK = "[peak.fp16]\ndense = '1 TFLOP/s'\n"
LINK = "[[link]]\nname = 'x'\nbandwidth = '1 GB/s'\ndirection = 'each'\n"
CACHE_LEVEL = "[[on_chip]]\nname = 'L2'\ncapacity = '1 MB'\nrole = 'cache'\n"

WRONG = {
    "[peak.fp17]\ndense = '1 TFLOP/s'": "peak.fp17: 'fp17' is not a data type known here; did you mean fp16",
    "[peak.fp16]\ndense = '1 TB/s'": "peak.fp16.dense: '1 TB/s' is not in flop / second; write it like '312 TFLOP/s'",
    "[peak.fp16]\ndense = 312": "peak.fp16.dense is 312; expected text",
    "[peak.fp16]\ndense = '0 TFLOP/s'": "peak.fp16.dense is '0 TFLOP/s'; expected more than 0",
    "[peak.fp16]\ndens = '1 TFLOP/s'": "peak.fp16 has the unknown key 'dens'; did you mean dense",
    "[peak.fp16]\nsource = 'x'\ndense = '1 TFLOP/s'": "peak.fp16.source is 'x'; there is no [source.x]",
    "[peak]": "table [peak] is empty; state at least one data type",
    "peak = 3": "peak is 3; expected a table",
    "": "table [peak] is missing",
    "[[on_chip]]\nname = 'x'\ncapacity = '1 MB'\ninstances = 0\n[peak.fp16]\ndense = '1 TFLOP/s'": "on_chip.instances is 0",
    "[[link]]\nname = 'x'\nbandwidth = '1 GB/s'\ndirection = 'up'\n[peak.fp16]\ndense = '1 TFLOP/s'": "link.direction is 'up'; known: each",
    "kind = 'gpuu'\n[peak.fp16]\ndense = '1 TFLOP/s'": "kind is 'gpuu'; did you mean gpu",
    "aliases = 'a'\n[peak.fp16]\ndense = '1 TFLOP/s'": "aliases is 'a'; expected a list of names",
    "name = 'a\u2028b'\n[peak.fp16]\ndense = '1 TFLOP/s'": "expected one line of at most 600 characters",
    "[peak.int8]\ndense = '400 TOP/s'\nsparse = '200 TOP/s'": "sparse '200 TOP/s' is less than dense '400 TOP/s'; are they swapped?",
    "[[on_chip]]\nname = 'x'\ncapacity = '1 MB'\nrole = 'bufer'\n[peak.fp16]\ndense = '1 TFLOP/s'": "on_chip.role is 'bufer'",
    "[peak.fp16": "is not TOML",
    PEAK
    + "[[link]]\nname = 'x'\nbandwidth = '1 GB/s'\ndirection = 'each'\nto = 'hosts'": "link.to is 'hosts'; known: host, device, network",
    PEAK + LINK + "peers = 0": "link.peers is 0; expected a whole number from 1",
    PEAK
    + "[[link]]\nname = 'x'\nbandwidth = '1 GB/s'\ndirection = 'each'\nper_peer = '2 GB/s'": "per_peer '2 GB/s' is more than the total",
    PEAK + "[processors]\nname = 'SM'": "processors.count is None; expected a whole number from 1",
    PEAK + "[processors]\ncount = 2\nclock = '1410 W'": "processors.clock: '1410 W' is not in hertz; write it like '1410 MHz'",
    PEAK + "[exponential]\nper_clock = 16": "exponential.per_clock is per processor: processors.count and processors.clock are needed",
    PEAK + "[exponential]\nper_clock = 16\nrate = '1 TOP/s'": "exponential: expected one of rate and per_clock",
    PEAK + "[exponential]\nnote = 'x'": "exponential: expected one of rate and per_clock",
    PEAK + "[vector]\ntype = 'fp32'": "vector states no peak, and there is no [peak.fp32] to take it from",
    PEAK + "[vector]\ntype = 'float'": "vector.type is 'float'; known: fp64, fp32",
    PEAK + CACHE_LEVEL + "per_clock = '64 B'": "on_chip.per_clock: processors.clock is needed",
    PEAK + CACHE_LEVEL + "per_clock = '64 B'\nbandwidth = '1 TB/s'": "on_chip.per_clock: bandwidth is stated too",
    PEAK + CACHE_LEVEL + CACHE_LEVEL: "on_chip has the role 'cache' more than once; expected at most one",
    PEAK + CACHE_LEVEL + "[cache]\nbandwidth = '1 TB/s'": "[cache] and the on_chip level 'L2' are both the cache",
    PEAK + "half_accumulation = '0.5 TFLOP/s'": "half accumulation '0.5 TFLOP/s' is less than dense '1 TFLOP/s'; are they swapped?",
    PEAK + "sparse = '2 TFLOP/s'\nsparse_source = 'x'": "peak.fp16.sparse_source is 'x'; there is no [source.x]",
    "x = 1": "top level has the unknown key 'x'",
}


@pytest.mark.parametrize("content", WRONG)
def test_a_bad_file_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"{content}\n[memory]\nbandwidth = '1 TB/s'\n")
    with pytest.raises(symroof.SymroofError) as error:
        symroof.load_hardware(path)
    assert WRONG[content] in str(error.value)
    assert "mine" in str(error.value)
    assert "\n" not in str(error.value)


FULL = """
[source.paper]
title = "t"
publisher = "p"
url = "https://example.org"
date = "2025"
[source.other]
title = "o"
publisher = "p"
url = "https://example.org"
date = "2026"
[processors]
count = 6
name = "CU"
clock = "2 GHz"
source = "paper"
[peak.fp32]
dense = "3 TFLOP/s"
source = "paper"
[peak.fp16]
dense = "10 TFLOP/s"
sparse = "20 TFLOP/s"
half_accumulation = "25 TFLOP/s"
clock = "1 GHz"
[vector]
type = "fp32"
[exponential]
per_clock = 4
[memory]
capacity = "8 GB"
reported = "8 GiB"
reported_source = "other"
reported_note = "by the driver"
bandwidth = "1 TB/s"
source = "paper"
[[on_chip]]
name = "L1"
capacity = "64 KiB"
instances = 6
role = "buffer"
[[on_chip]]
name = "L3"
capacity = "4 MiB"
instances = 3
role = "cache"
per_clock = "100 B"
[[link]]
name = "PCIe, by its name alone no host"
bandwidth = "10 GB/s"
direction = "each"
to = "network"
[[link]]
name = "fabric"
bandwidth = "700 GB/s"
direction = "total"
to = "device"
peers = 7
per_peer = "100 GB/s"
overhead = "4 us"
latency = "700 ns"
exchange_overhead = "6 us"
exchange_latency = "0.2 us"
[[link]]
name = "bus"
bandwidth = "64 GB/s"
direction = "total"
to = "host"
"""


def test_what_a_device_states_is_what_its_machine_has(tmp_path: Path) -> None:
    path = tmp_path / "full.toml"
    path.write_text(FULL)
    device = load_hardware(path)
    assert (device.processors, device.clock.value, device.peaks["fp16"].clock.value) == (6, 2 * 10**9, 10**9)
    assert device.machine.rates == {
        Resource.MEMORY: 10**12,
        Resource.VECTOR: 3 * 10**12,
        Resource.EXPONENTIAL: 4 * 6 * 2 * 10**9,
        Resource.CACHE: 100 * 2 * 10**9 * 3,
        Resource.HOST: 32 * 10**9,
        Resource.LINK: 350 * 10**9,
        Resource.PEER: 50 * 10**9,
        Resource.NETWORK: 10 * 10**9,
    }
    stated = {symbols.l_0: 4, symbols.t_l: Rational(7, 10), symbols.l_x: 6, symbols.t_x: Rational(1, 5), symbols.t_n: Rational(7, 10)}
    assert {letter: seconds * 10**6 for letter, seconds in device.machine.latencies.items()} == stated, "between nodes no less than inside"
    assert device.machine.joined == 8
    assert device.cache_capacity_expr == 4 * 2**20
    assert (device.capacity.magnitude, device.usable.magnitude) == (8 * 10**9, 8 * 2**30)
    assert (device.usable_figure.source.title, device.usable_figure.note, device.capacity_figure.source.title) == (
        "o",
        "by the driver",
        "t",
    )
    fabric = device.link(Target.DEVICE)
    assert (fabric.one_way_expr, fabric.one_way_per_peer_expr, fabric.peers) == (350 * 10**9, 50 * 10**9, 7)
    half = device.accumulating("fp16")
    assert device.accumulating("fp32") is device
    assert {name: peak.dense.value / 10**12 for name, peak in half.peaks.items()} == {"fp32": 3, "fp16": 25}
    assert half.machine.fastest(("fp16",))[1] == 25 * 10**12
    assert half.peaks["fp16"].sparse is None, "a sparse rate with FP16 accumulation is not stated"
    assert load_hardware(f"{path}@fp16") == half
    assert [load_hardware(one).name for one in ("3090@fp16", "3090@fp32", "a100@fp16")] == ["rtx-3090@fp16", "rtx-3090", "a100-sxm-80gb"]
    with pytest.raises(symroof.SymroofError, match="accumulate 'fp8'"):
        device.accumulating("fp8")


def test_devices_without_a_link_of_their_own_reach_each_other_by_way_of_the_host(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(f"{OWN}[[link]]\nname = 'x'\nbandwidth = '20 GB/s'\ndirection = 'total'\nto = 'host'\n")
    assert {load_hardware(path).machine.rates[resource] for resource in (Resource.LINK, Resource.HOST)} == {10**10}
    path.write_text(f"{OWN}[[link]]\nname = 'PCIe 4.0'\nbandwidth = '20 GB/s'\ndirection = 'each'\n")
    machine = load_hardware(path).machine
    assert machine.rate(Resource.LINK) == 2 * 10**10, "a file that does not say where its link leads"
    with pytest.raises(symroof.SymroofError, match="states no link to the host; give its bandwidth"):
        machine.rate(Resource.HOST)
    path.write_text(OWN)
    assert not {Resource.LINK, Resource.HOST} & load_hardware(path).machine.rates.keys()


def test_memory_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("[peak.fp16]\ndense = '1 TFLOP/s'\n")
    with pytest.raises(symroof.SymroofError, match=r"table \[memory\] is missing"):
        symroof.load_hardware(path)


def test_an_alias_is_not_lost_to_a_file_of_the_same_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a100").write_text(OWN)
    assert load_hardware("a100").name == "a100-sxm-80gb"
    assert load_hardware("./a100").title == "My chip"
    assert load_hardware("NVIDIA T4").name == "t4"


@pytest.mark.parametrize(
    ("name", "data_type", "dense"), [("mi250x", "fp32", "95.7"), ("mi300x", "fp64", "163.4"), ("a100-sxm-80gb", "fp64", "19.5")]
)
def test_matrix_rates_where_the_chip_has_them(name: str, data_type: str, dense: str) -> None:
    assert load_hardware(name).peaks[data_type].dense.printed.split()[0] == dense


def printed(name: str | None, width: int | None = 80) -> list[str]:
    """What a terminal of 80 columns shows."""
    return device_report(name).render(TEXT, Layout(width)).splitlines()


def test_the_list_fits_a_terminal_and_data_files_have_all() -> None:
    lines = printed(None)
    assert max(map(len, lines)) <= 80
    rows = [line.split() for line in lines if line.split() and line.split()[0] in NAMES]
    assert [row[0] for row in rows] == list(VENDOR_NAMES)
    h100 = next(line for line in lines if line.startswith("h100-sxm"))
    assert h100.split() == ["h100-sxm", "989.4", "T", "1.979", "P", "3.35", "T", "295.3", "80", "G", "700"]
    record = device_report(None).record()
    assert [one["name"] for one in record] == list(NAMES)
    assert next(one for one in record if one["name"] == "t4")["device"] == "NVIDIA T4"


def test_a_part_of_a_name_lists_what_contains_it() -> None:
    assert {one["name"] for one in device_report("survey").record()} == {f"survey/{name}" for name in SURVEY}
    assert [one["name"] for one in device_report("instinct").record()] == [name for name in NAMES if name.startswith("mi")]
    assert any(line.startswith("survey/nvidia_V100") for line in printed("survey"))
    with pytest.raises(symroof.SymroofError, match="'nothing' is neither a name of the catalogue nor a file"):
        device_report("nothing")


def test_a_device_tells_each_figure_with_its_source() -> None:
    shown = {(one["figure"], one["value"]): (one["source"], one["note"]) for one in device_report("h100-sxm").record()}
    assert shown["memory capacity reported", "81559 MiB"][0].startswith("Modal Labs: ")
    assert shown["exponentials per second", "16 per clock x 132 SMs x 1980 MHz"][0].startswith("NVIDIA: CUDA C++")
    assert shown["L2 cache", "50 MiB"][1] == "last cache before memory"
    assert shown["shared memory x 132", "228 KiB"][1] == "holds a kernel's tiles"
    assert shown["NVLink 4", "900 GB/s"][1].startswith("to other devices, 7 reached, both ways together; ")
    assert shown["fp16 peak, dense", "989.4 TFLOP/s"][1].startswith("at 1830 MHz; ")
    assert {cited for cited, _ in shown.values()} == {line.partition("] ")[2] for line in printed("h100-sxm", None) if line[0:1] == "["}
    assert len(shown) == len(figures("h100-sxm")) - sum(peak.clock is not None for peak in load_hardware("h100-sxm").peaks.values())
    cards = [one["value"] for one in device_report("rtx-3090").record() if one["note"].startswith("FP16 accumulation")]
    assert cards == ["142 TFLOP/s", "284 TFLOP/s"]
