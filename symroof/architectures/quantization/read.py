"""Where a checkpoint says how it is quantized: in its config, or in hf_quant_config.json beside it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from symroof.architectures.architecture import Architecture
from symroof.architectures.config import parse
from symroof.architectures.fields import Fields
from symroof.architectures.quantization.checkpoint import Quantization
from symroof.architectures.quantization.formats import MXFP4, UNQUANTIZED
from symroof.architectures.quantization.methods import Scheme, UnknownError, scheme
from symroof.architectures.quantization.modules import ELSEWHERE
from symroof.errors import quote
from symroof.files import is_readable

INSIDE = ("quantization_config", "compression_config", "quantization")
"""Fields of a config.json. MLX writes the last, and the first beside it."""

BESIDE = "hf_quant_config"
"""The file of modelopt beside a config.json; of an entry of the catalogue, in a folder of this name."""


def published_quantization(
    sources: Iterable[Fields], path: Path, architecture: Architecture, *, vision: bool = False
) -> tuple[Quantization | None, tuple[str, ...]]:
    """The quantization of a checkpoint, None if there is none; and a remark where there is one that is not understood.

    Parameters
    ----------
    sources : the fields of its config, and of the part of it that is read.
    path : the config.json.
    vision : whether that part is the vision encoder of a larger model, which methods usually do not quantize.

    Raises
    ------
    ConfigError
        A width or the size of a group makes no sense, or the file beside the config cannot be read.
    """
    stated = [(name, fields, name) for fields in sources for name in INSIDE if name in fields and _is_meant(fields, name)]
    known: tuple[str, Scheme] | None = None
    unknown: list[str] = []
    for source, fields, name in [*stated, *_beside(path)]:
        inner = fields.nested(name, apart=True)
        content = fields.peek(name)
        if known is None:
            try:
                known = source, _with_experts(fields, scheme(inner, content))
            except UnknownError:
                unknown.append(f"{source} ({quote(content.get('quant_method'))})")
    if known is None:
        default = "every weight is counted at w bits, 16 unless weight_bits is given"
        return None, tuple(f"{which} is not understood: {default}" for which in dict.fromkeys(unknown))
    source, read = known
    if vision and (read.default == UNQUANTIZED or any(ELSEWHERE.search(name) for _, names in read.named for name in names)):
        return None, ()
    return Quantization(source, read, architecture), ()


def _with_experts(fields: Fields, read: Scheme) -> Scheme:
    """The same with routed experts in a format of their own, as DeepSeek V4 states it beside its quantization.

    Source: vLLM, models/deepseek_v4.py, DeepseekV4FP8Config: "fp4" is MXFP4, and "fp8" as the rest.
    """
    if "expert_dtype" not in fields:
        return read
    own = fields.choice("expert_dtype", {"fp4": (MXFP4, ("mlp.experts",)), "fp8": None})
    return read if own is None or read.again else replace(read, named=(*read.named, own))


def _is_meant(fields: Fields, name: str) -> bool:
    """Whether it is a quantization: ``quantization`` without a width is some other field."""
    content = fields.peek(name)
    return name != "quantization" or (isinstance(content, Mapping) and "bits" in content)


def _beside(path: Path) -> list[tuple[str, Fields, str]]:
    """The fields of modelopt's file, if there is one: in its ``quantization``, or on their own."""
    beside = path.with_name(f"{BESIDE}.json") if path.name == "config.json" else path.parent / BESIDE / path.name
    if not is_readable(beside):
        return []
    content = parse(beside)
    content = content if isinstance(content.get("quantization"), Mapping) else {"quantization": content}
    return [(f"{BESIDE}.json", Fields(content, str(beside)), "quantization")]
