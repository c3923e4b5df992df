"""Multi-head latent attention, decompressed or absorbed."""

from __future__ import annotations

from dataclasses import dataclass

from sympy import Expr, Integer

from symroof import symbols
from symroof.architectures.options import Options
from symroof.architectures.parts.part import BlockBuilder
from symroof.operators.attention import rotary
from symroof.operators.latent_attention import absorbed, decompressed
from symroof.operators.linear import linear
from symroof.operators.norm import Norm, norm
from symroof.operators.tensor import Space, Storage, Tensor, axes_of


@dataclass(frozen=True)
class LatentAttention:
    """Queries and keys-values through low ranks; the cache keeps ``r_kv + r`` components per token.

    Attributes
    ----------
    compressed_queries : whether the queries go through a rank of their own, ``r_q``.
    bias : whether the two compressing projections and the output projection have one.

    Source: DeepSeek-AI (2024), arXiv:2405.04434; Transformers' DeepseekV3Attention.
    """

    compressed_queries: bool
    bias: bool = False

    def axes(self) -> dict[str, Expr]:
        named: dict[str, Expr] = {axis: getattr(symbols, axis) for axis in ("h", "r_kv", "r", "e_n", "e_v")}
        return named | ({"r_q": symbols.r_q} if self.compressed_queries else {})

    @staticmethod
    def block_shape(options: Options) -> tuple[Expr, Expr]:
        """Components of a row of queries and query heads per row of keys, which size FlashAttention's blocks."""
        if options.absorbed:
            return symbols.r_kv + symbols.r, symbols.h
        return symbols.e_n + symbols.r, Integer(1)

    def __call__(self, record: BlockBuilder, x: Tensor, space: Space, options: Options) -> Tensor:
        latent = Tensor("latent_cache", axes_of("b t r_kv"), Storage.KV_CACHE, space)
        keys_rotary = Tensor("k_rotary_cache", axes_of("b t r"), Storage.KV_CACHE, space)
        table = Tensor("cos_sin", axes_of("s r"), Storage.ACTIVATION, space)
        source, width = x, "d"
        if self.compressed_queries:
            source = record(linear("q_down_proj", "b s d, d r_q -> b s r_q", x, bias=self.bias))
            source, width = record(norm("q_down_norm", source, Norm.RMS, over=("r_q",))), "r_q"
        q = record(linear("q_proj", f"b s {width}, {width} h e_n -> b s h e_n", source))
        turned = record(linear("q_rotary_proj", f"b s {width}, {width} h r -> b s h r", source))
        turned = record(rotary("q_rotary", turned, table))
        down = record(linear("kv_down_proj", "b s d, d r_kv -> b s r_kv", x, bias=self.bias))
        record(norm("kv_down_norm", down, Norm.RMS, over=("r_kv",), into=latent))
        single = record(linear("k_rotary_proj", "b s d, d r -> b s r", x, bias=self.bias))
        record(rotary("k_rotary", single, table, into=keys_rotary))
        attend = self._absorbed if options.absorbed else self._decompressed
        context = attend(record, (q, turned), latent, keys_rotary, options)
        return record(linear("out_proj", "b s h e_v, h e_v d -> b s d", context, bias=self.bias))

    @staticmethod
    def _absorbed(record: BlockBuilder, queries: tuple[Tensor, Tensor], latent: Tensor, keys_rotary: Tensor, options: Options) -> Tensor:
        q, turned = queries
        q = record(linear("k_up_proj", "b s h e_n, r_kv h e_n -> b s h r_kv", q))
        context = q
        for operator in absorbed(q, turned, latent, keys_rotary, fused=options.flash_attention):
            context = record(operator)
        return record(linear("v_up_proj", "b s h r_kv, r_kv h e_v -> b s h e_v", context))

    @staticmethod
    def _decompressed(
        record: BlockBuilder, queries: tuple[Tensor, Tensor], latent: Tensor, keys_rotary: Tensor, options: Options
    ) -> Tensor:
        q, turned = queries
        keys = record(linear("k_up_proj", "b t r_kv, r_kv h e_n -> b t h e_n", latent))
        values = record(linear("v_up_proj", "b t r_kv, r_kv h e_v -> b t h e_v", latent))
        context = q
        for operator in decompressed(q, turned, keys, keys_rotary, values, fused=options.flash_attention):
            context = record(operator)
        return context
