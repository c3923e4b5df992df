"""The forms of measured kernels typed a second time, in plain Python, for tests: times of rows, and rows of planted constants."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping

GPU = {"P": 312e12, "BW": 2039e9, "S": 108, "f": 1.41e9, "L2": 40 * 2**20}
"""The A100 SXM 80 GB by its vendor's figures."""

B200 = {"P": 2250e12, "BW": 7700e9, "S": 148, "f": 1.965e9, "L2": 126 * 2**20}
L40S = {"P": 362.05e12, "BW": 864e9, "S": 142, "f": 2.52e9, "L2": 96 * 2**20}


def joined(power: float, *times: float) -> float:
    return sum(time**power for time in times) ** (1 / power)


def gemm(m: int, n: int, k: int, c: Mapping[str, float], gpu: Mapping[str, float] = GPU) -> float:
    work, moved = 2 * m * n * k, 2 * (m * k + n * k + m * n)
    roofs = (work / (c["e1"] * gpu["P"]), moved / (c["e2"] * gpu["BW"]), k * c["tau"] / gpu["f"])
    return c["t0"] + joined(c["p"], *roofs)


def held(working: float, capacity: float) -> float:
    """The share of a loop's working set that a cache still holds: the smaller root of h = exp(-(1 - h) r), by bisection."""
    ratio = working / capacity
    if ratio <= 1:
        return 1.0
    low, high = 0.0, 1.0 - 1e-9
    for _ in range(100):  # h - exp(-(1 - h) r) is negative below the root and positive above, up to 1
        middle = (low + high) / 2
        low, high = (middle, high) if middle < math.exp(-(1 - middle) * ratio) else (low, middle)
    return low


def decode(b: int, t: int, h: int, g: int, e: int, c: Mapping[str, float], gpu: Mapping[str, float] = GPU, grouped: bool = False) -> float:
    """One query over a context of t, h query heads, g KV heads of e components; in a loop that stays in the cache as far as it fits."""
    moved = 2 * (2 * b * t * g * e + 2 * b * h * e)
    if "phi" in c:
        share = held(moved, c["phi"] * gpu["L2"])
        c = {**c, "e2": 1 / ((1 - share) / c["e2"] + share * gpu["BW"] / (c["l"] * gpu["f"] * gpu["S"]))}
    most = min(math.ceil(t / 128), max(1, gpu["S"] // (b * g)))
    splits = 1 if grouped and h == g else most
    roof = moved / (c["e2"] * gpu["BW"])
    if grouped and h == g:
        roof = max(roof, 4 * b * t * g * e / (b * g * 15 * gpu["f"]))
    second = (splits > 1) + (grouped and h > g > 1 and b > 1)
    return c["t0"] + c["tc"] * second + joined(c["p"], roof, math.ceil(b * g * splits / gpu["S"]) * c["t1"])


def prefill(
    b: int, s: int, h: int, g: int, e: int, c: Mapping[str, float], gpu: Mapping[str, float] = GPU, traits: str = "", moved: float = 0.0
) -> float:
    """A causal prompt of s, its keys and values written into the cache by a kernel beside it.

    Where exponentials have a rate, x of their time counts; else 5 FLOPs a score are done on the matrix units.
    """
    moved = moved or 2 * (2 * b * s * h * e + 2 * b * s * g * e) + 8 * b * s * g * e
    pairs = b * h * s * (s + 1) / 2
    matrix = pairs * (4 * e + (0 if "x" in c else 5)) / (c["e1"] * gpu["P"])
    if "x" in c:
        exposed = c["x"] * pairs / (16 * gpu["f"] * gpu["S"])
        matrix = max(matrix, exposed) if "overlapped" in traits else matrix + exposed
    tiles = g * math.ceil(s * h / g / 128) if "packed" in traits else h * math.ceil(s / 128)
    copied = 0
    if "grouped" in traits and s == 1:
        tiles, copied = g, int(h > g > 1 and b > 1)
    items = math.ceil(b * tiles / gpu["S"]) * c["t1"]
    own = matrix * 128 * s * gpu["S"] / pairs + c["t1"]
    return c["t0"] + c["tc"] * copied + moved / (c["e2"] * gpu["BW"]) + max(matrix + items, own)


PLANTED = {
    "gemm": {"t0": 5e-6, "e1": 0.8, "e2": 0.75, "tau": 1.5, "p": 2.0},
    "decode": {"t0": 8e-6, "e2": 0.8, "t1": 3.5e-6, "tc": 5e-6, "p": 2.0},
    "prefill": {"t0": 7e-6, "e1": 0.65, "e2": 0.85, "t1": 3e-6, "tc": 0.0},
}


def csv_of(
    kernel: str,
    count: int = 400,
    noise: float = 0.03,
    seed: int = 1,
    scale: float = 1e6,
    planted: Mapping[str, float] | None = None,
    heads: tuple[int, ...] = (128,),
    name: str = "a100_sxm",
    **traits: object,
) -> str:
    """A file of rows with planted constants and noise, times in microseconds."""
    planted = planted or PLANTED[kernel]
    chance = random.Random(seed)
    sizes = [2**power for power in range(15)]

    def pick(low: int, high: int) -> int:
        return chance.choice([size for size in sizes if low <= size <= high])

    lines = []
    for _ in range(count):
        if kernel == "gemm":
            row = (pick(1, 8192), pick(1024, 16384), pick(1024, 16384))
            time = gemm(*row, planted)
        else:
            h, e = pick(8, 64), chance.choice(heads)
            g = min(h, pick(1, 8))
            b, length = pick(1, 256), pick(16, 16384)
            while b * length * g > 2**20:
                b, length = pick(1, 256), pick(16, 16384)
            row = (b, length, h, g, e)
            time = (decode if kernel == "decode" else prefill)(*row, planted, **traits)  # type: ignore[arg-type]
        lines.append(",".join(map(str, (*row, "bfloat16", name, f"{time * scale * chance.uniform(1 - noise, 1 + noise):.6g}"))))
    names = {
        "gemm": "m,n,k,dtype",
        "decode": "batch,kv_len,heads,kv_heads,head_dim,kv_dtype",
        "prefill": "batch,seq,heads,kv_heads,head_dim,kv_dtype",
    }
    return "\n".join([f"{names[kernel]},gpu,latency_us", *lines]) + "\n"
