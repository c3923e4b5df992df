"""What each method of quantization says in its config, as formats of named modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from symroof.architectures.fields import Fields
from symroof.architectures.quantization.formats import (
    ALGORITHMS,
    DOUBLE_QUANTIZED,
    MXFP4,
    MXFP8,
    NF4_BLOCK,
    NVFP4,
    SINGLE,
    UNQUANTIZED,
    Format,
    blocks,
    compressed,
    grouped,
)
from symroof.architectures.quantization.modules import HEAD, ROUTER, SHARED_ROUTER, TABLE

Named = tuple[Format, tuple[str, ...]]
"""Names of modules, and their format."""

KEPT = ("modules_to_not_convert", "ignore", "exclude_modules", "exclude", "ignored_layers", "llm_int8_skip_modules")
"""Fields in which methods list modules that are not quantized."""

KV_WIDTHS = {"FP8": 8, "INT8": 8, "NVFP4": 4}
"""Of modelopt, for the cache."""

HEADS, EVERYTHING = frozenset({HEAD}), frozenset({HEAD, TABLE, ROUTER, SHARED_ROUTER})


class UnknownError(Exception):
    """What a config says of its quantization is not understood."""


@dataclass(frozen=True)
class Scheme:
    """The formats of a checkpoint's modules.

    Attributes
    ----------
    method : its name.
    default : the format of the layers' linear weights that no name mentions; `UNQUANTIZED` where a config lists what it quantizes.
    named : formats of named modules; the first that mentions a module counts.
    also : what else has the default format: the LM head, the embedding, routers.
    kv_bits : the width of the KV cache, if stated.
    exactly : whether a name is that of a matrix itself, not of a module that contains it.
    again : whether some modules were quantized a second time, and those listed as left out have the default format.
    remarks : further information.
    """

    method: str
    default: Format
    named: tuple[Named, ...] = ()
    also: frozenset[str] = frozenset()
    kv_bits: int | None = None
    exactly: bool = False
    again: bool = False
    remarks: tuple[str, ...] = ()


def strings(value: Any) -> tuple[str, ...]:
    """A list of printable texts, or none.

    Raises
    ------
    UnknownError
        It is anything else.
    """
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(text, str) and text.isprintable() for text in value):
        raise UnknownError
    return tuple(value)


def mapping(value: Any) -> Mapping[str, Any]:
    """An object whose names are printable, or none.

    Raises
    ------
    UnknownError
        It is anything else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(name.isprintable() for name in value):
        raise UnknownError
    return value


def by_format(formats: Iterable[tuple[str, Format]]) -> tuple[Named, ...]:
    """Names of modules that no other name among them covers, by format."""
    named: dict[Format, list[str]] = {}
    for name, fmt in formats:
        named.setdefault(fmt, []).append(name)
    return tuple((fmt, tuple(names)) for fmt, names in named.items())


def _width(fields: Fields) -> int:
    return fields.size(fields.named("bits", "w_bit", "nbits"), high=UNQUANTIZED.bits)


def _group(fields: Fields) -> int | None:
    name = fields.named("group_size", "q_group_size")
    return None if fields.peek(name) in (-1, 0) else fields.size(name, None)


def _gptq(fields: Fields, inner: Mapping[str, Any]) -> Scheme:
    """AutoGPTQ and GPTQModel; their files hold zero points of symmetric groups too, only Marlin's do not."""
    marlin = "marlin" in (inner.get("checkpoint_format"), inner.get("quant_method"))
    base = grouped(_width(fields), _group(fields), zero=not marlin)

    def own(pattern: str, values: Any) -> Named:
        if pattern.startswith("-:"):
            return UNQUANTIZED, (f"re:{pattern[2:]}",)
        stated = {"bits": base.bits, "group_size": fields.peek("group_size"), **mapping(values)}
        if type(stated["bits"]) is not int or not 1 <= stated["bits"] <= UNQUANTIZED.bits:
            raise UnknownError
        return grouped(stated["bits"], stated["group_size"], zero=not marlin), (f"re:{pattern.removeprefix('+:')}",)

    dynamic = tuple(own(pattern, values) for pattern, values in mapping(inner.get("dynamic")).items())
    inside = inner.get("modules_in_block_to_quantize")
    if isinstance(inside, list) and inside:
        names = tuple(name for group in inside for name in strings(group if isinstance(group, list) else [group]))
        return Scheme("", UNQUANTIZED, (*dynamic, (base, names)))
    return Scheme("", base, dynamic, HEADS if inner.get("lm_head") is True else frozenset())


def _auto_round(fields: Fields, inner: Mapping[str, Any]) -> Scheme:
    """Intel's AutoRound, whose files are packed as GPTQ's or AWQ's, or in the formats of MX and NVFP4."""
    kind = str(inner.get("data_type") or "int")
    zeros = "llm_compressor" not in str(inner.get("packing_format"))

    def fmt(bits: int, group: Any) -> Format:
        if kind.startswith(("mx", "nv")):
            return {4: MXFP4 if kind.startswith("mx") else NVFP4, 8: MXFP8}.get(bits, UNQUANTIZED)
        return UNQUANTIZED if bits >= UNQUANTIZED.bits else grouped(bits, group, zero=zeros)

    base, group = _width(fields), _group(fields)

    def own(name: str, values: Any) -> tuple[str, Format]:
        bits = mapping(values).get("bits", base)
        if type(bits) is not int or bits < 1:
            raise UnknownError
        return name, fmt(bits, mapping(values).get("group_size", group))

    return Scheme("", fmt(base, group), by_format(own(*item) for item in mapping(inner.get("extra_config")).items()))


def _awq(fields: Fields, inner: Mapping[str, Any]) -> Scheme:
    """AutoAWQ: zero points unless the config denies them."""
    return Scheme("", grouped(_width(fields), _group(fields), zero=inner.get("zero_point") is not False))


def _bitsandbytes(fields: Fields, inner: Mapping[str, Any]) -> Scheme:
    del fields
    if inner.get("load_in_4bit") is True:
        return Scheme("", grouped(4, int(NF4_BLOCK), DOUBLE_QUANTIZED if inner.get("bnb_4bit_use_double_quant") is True else SINGLE))
    if inner.get("load_in_8bit") is True:
        return Scheme("", Format(8))
    raise UnknownError


def _fp8(fields: Fields, inner: Mapping[str, Any]) -> Scheme:
    """FP8, where modelopt may have given some modules another format afterwards."""
    del fields
    listed = _listed(inner)
    return Scheme("", blocks(8, inner.get("weight_block_size")), listed, again=bool(listed))


def _mlx(fields: Fields, inner: Mapping[str, Any]) -> Scheme:
    """Apple's MLX: a scale and a bias of 16 bits for every group; every matrix, embedding and LM head included."""

    def fmt(values: Mapping[str, Any], bits: int, group: Any) -> Format:
        mode = values.get("mode", inner.get("mode", "affine"))
        if mode == "affine":
            return Format(bits, replace(scales, zero=scales.scale) if (scales := grouped(bits, group).scales) else None)
        known = {"mxfp4": MXFP4, "mxfp8": MXFP8, "nvfp4": NVFP4}
        if not isinstance(mode, str) or mode not in known:
            raise UnknownError
        return known[mode]

    bits, group = _width(fields), _group(fields)
    own = []
    for name, values in inner.items():
        if values is False:
            own.append((name, UNQUANTIZED))
        elif isinstance(values, Mapping):
            width = values.get("bits", bits)
            if type(width) is not int or not 1 <= width <= UNQUANTIZED.bits or not name.isprintable():
                raise UnknownError
            own.append((name, fmt(values, width, values.get("group_size", group))))
    return Scheme("MLX", fmt({}, bits, group), by_format(own), EVERYTHING)


def _modelopt(fields: Fields, inner: Mapping[str, Any]) -> Scheme:
    """NVIDIA's modelopt, one algorithm for all or one for each of a list of layers."""
    del fields
    if listed := _listed(inner):
        return Scheme("", UNQUANTIZED, listed)
    if inner.get("quant_algo") is None or str(inner.get("quant_algo")).upper() == "MIXED_PRECISION":
        return replace(_groups(inner), also=frozenset())
    schemes = (scheme.get("group_size") for scheme in _schemes(inner, "weights"))
    return Scheme("", _algorithm(inner["quant_algo"], inner.get("group_size") or next(schemes, None)))


def _listed(inner: Mapping[str, Any]) -> tuple[Named, ...]:
    """The formats of modelopt's list of layers, if there is one."""
    own = ((name, mapping(values)) for name, values in mapping(inner.get("quantized_layers")).items())
    return by_format((name, _algorithm(values.get("quant_algo"), values.get("group_size"))) for name, values in own)


def _algorithm(algorithm: Any, group: Any) -> Format:
    if not isinstance(algorithm, str) or algorithm.upper() not in ALGORITHMS:
        raise UnknownError
    return ALGORITHMS[algorithm.upper()](group)


def _groups(inner: Mapping[str, Any]) -> Scheme:
    """The groups of compressed-tensors: modules by name, or all linear ones, the LM head and routers too where they are not ignored."""
    default, named, also = None, [], frozenset[str]()
    for group in mapping(inner.get("config_groups")).values():
        scheme = mapping(group).get("weights")
        fmt = UNQUANTIZED if scheme is None else compressed(mapping(scheme))
        if fmt is None:
            raise UnknownError
        targets = strings(mapping(group).get("targets"))
        if "Linear" in targets or not targets:
            if default not in (None, fmt):
                raise UnknownError
            default, also = fmt, EVERYTHING - {TABLE} if targets else also
        if names := tuple(name for name in targets if name != "Linear"):
            named.append((fmt, names))
    if default is None and not named:
        raise UnknownError
    return Scheme("", default or UNQUANTIZED, tuple(named), also)


def _compressed_tensors(fields: Fields, inner: Mapping[str, Any]) -> Scheme:
    del fields
    sparse = mapping(inner.get("sparsity_config"))
    dense = sparse.get("format") in (None, "dense")
    remark = () if dense else ("the checkpoint is sparse too (sparsity_config): what it saves by that is not counted",)
    return replace(_groups(inner), exactly=True, remarks=remark)


def _format(fmt: Format) -> Callable[[Fields, Mapping[str, Any]], Scheme]:
    return lambda fields, inner: Scheme("", fmt)


METHODS: dict[str, Callable[[Fields, Mapping[str, Any]], Scheme]] = {
    **dict.fromkeys(("gptq", "marlin", "gptq_marlin", "gptqmodel"), _gptq),
    **dict.fromkeys(("awq", "awq_marlin"), _awq),
    **dict.fromkeys(("auto-round", "autoround", "intel/auto-round"), _auto_round),
    **dict.fromkeys(("bitsandbytes", "bitsandbytes_4bit", "bitsandbytes_8bit"), _bitsandbytes),
    **dict.fromkeys(("fp8", "finegrained_fp8"), _fp8),
    **dict.fromkeys(("fbgemm_fp8", "eetq"), _format(Format(8))),
    **dict.fromkeys(("modelopt", "modelopt_fp4", "modelopt_mixed"), _modelopt),
    "compressed-tensors": _compressed_tensors,
    "mxfp4": _format(MXFP4),
    "nvfp4": _format(NVFP4),
    "MLX": _mlx,
}
"""By ``quant_method``; MLX's configs have none."""


def method_of(inner: Mapping[str, Any]) -> str:
    """The method: the one named, or the one whose fields are there.

    Raises
    ------
    UnknownError
        None is named, and none has these fields.
    """
    stated = inner.get("quant_method")
    if stated is not None:
        if not isinstance(stated, str):
            raise UnknownError
        return stated
    producer = inner.get("producer")
    if (isinstance(producer, Mapping) and producer.get("name") == "modelopt") or "quant_algo" in inner:
        return "modelopt"
    if "load_in_4bit" in inner or "load_in_8bit" in inner:
        return "bitsandbytes"
    if "config_groups" in inner:
        return "compressed-tensors"
    if "bits" in inner and "group_size" in inner:
        return "MLX"
    raise UnknownError


def scheme(fields: Fields, inner: Mapping[str, Any]) -> Scheme:
    """The formats that a config's quantization states.

    Parameters
    ----------
    fields, inner : its fields, checked and as they are.

    Raises
    ------
    ConfigError
        A width or the size of a group makes no sense.
    UnknownError
        It is not understood.
    """
    method = method_of(inner)
    if method not in METHODS:
        raise UnknownError
    read = METHODS[method](fields, inner)
    left = () if read.again else tuple(name for field in KEPT for name in strings(inner.get(field)))
    remarks = (*read.remarks, *_remarks(inner))
    kept = ((UNQUANTIZED, left),) if left else ()
    return replace(read, method=method, named=(*kept, *read.named), kv_bits=_cache(inner), remarks=remarks)


def _cache(inner: Mapping[str, Any]) -> int | None:
    """The stated width of the KV cache; None if there is none, or it is not understood (`_remarks`)."""
    stated = inner.get("kv_cache_scheme") or inner.get("kv_cache_quant_algo")
    width = stated.get("num_bits") if isinstance(stated, Mapping) else KV_WIDTHS.get(stated) if isinstance(stated, str) else None
    return width if type(width) is int and 1 <= width <= UNQUANTIZED.bits else None


def _remarks(inner: Mapping[str, Any]) -> Iterator[str]:
    """Information on cache and activations that the step does not take up by itself."""
    stated = inner.get("kv_cache_scheme") or inner.get("kv_cache_quant_algo")
    if stated and _cache(inner) is None and str(stated).lower() not in ("none", "auto"):
        yield "what the config says of the KV cache's width is not understood: 16 bits unless kv_bits is given"
    algorithm = str(inner.get("quant_algo") or "")
    activations = inner.get("activation_scheme") in ("static", "dynamic") or algorithm in ("FP8", "NVFP4", "MXFP8", "INT8_SQ")
    if activations or any(scheme.get("num_bits") for scheme in _schemes(inner, "input_activations")):
        yield "the config quantizes activations too: give activation_bits"


def _schemes(inner: Mapping[str, Any], what: str) -> list[Mapping[str, Any]]:
    """The schemes of weights or activations in the groups of compressed-tensors and modelopt."""
    groups = inner.get("config_groups")
    schemes = [group.get(what) for group in groups.values() if isinstance(group, Mapping)] if isinstance(groups, Mapping) else []
    return [scheme for scheme in schemes if isinstance(scheme, Mapping)]
