"""Alternating updates: residual streams of which a layer computes one, and corrects the others; the low-rank residual of Gemma 3n."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr

from symroof import symbols
from symroof.architectures.parts.part import BlockBuilder
from symroof.operators import Access, Kind, Operator, Parameter, Role, Storage, Tensor, Work, axes_of
from symroof.operators.elementwise import Norm, add, elementwise, norm
from symroof.operators.linear import linear

ONE, OTHERS, STREAMS = axes_of("b s d"), axes_of("b s n_1 d"), axes_of("b s n d")


@dataclass(frozen=True)
class AltUp:
    """``n_h`` streams, mixed by coefficients that follow from the active one through a router.

    Before a layer all streams are predicted, each as itself plus a weighted sum of all; the layer computes the active one from its
    prediction, and a share of the difference corrects every stream.

    Source: Baykal et al. (2023), Alternating Updates for Efficient Transformers, NeurIPS; Transformers' Gemma3nTextAltUp.
    """

    def axes(self) -> dict[str, Expr]:
        streams = symbols.n_h
        return {"n": streams, "n_1": streams - 1, "n_2": streams, "n_3": streams, "o": symbols.d, "r_l": symbols.r_l}

    def predict(self, record: BlockBuilder, streams: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """The predicted streams, and the weights of the router's norm and matrix, which the correction reads too."""
        normed = norm("altup_norm", Access(streams, ONE), Norm.RMS)
        routed = linear("altup_router", "b s d, d n -> b s n", record(normed), role=Role.ROUTER)
        shares = self._tanh(record, "altup_act", record(routed))
        coefficients = record(linear("altup_predict_proj", "b s n, n n_2 n_3 -> b s n_2 n_3", shares, role=Role.ROUTER))
        out = Access(Tensor("altup_predict", STREAMS, Storage.ACTIVATION, streams.space))
        work = (Work(axes_of("b s n n_2 d"), 2, contraction=True), Work(STREAMS, 1))
        reads = (Access(streams), Access(coefficients))
        predicted = Operator("altup_predict", Kind.MATMUL, streams.space, work, reads, (out,), role=Role.COMBINE)
        return record(predicted), (normed.reads[1].tensor, routed.reads[1].tensor)

    def correct(self, record: BlockBuilder, predicted: Tensor, active: Tensor, shared: tuple[Tensor, Tensor]) -> Tensor:
        """The streams, corrected by what the layer computed."""
        again = norm("altup_correct_norm", active, Norm.RMS)
        normed = record(replace(again, reads=(again.reads[0], Access(shared[0]))))
        routed = record(linear("altup_correct_router", "b s d, d n -> b s n", normed, weight=shared[1], role=Role.ROUTER))
        shares = self._tanh(record, "altup_correct_act", routed)
        coefficients = record(linear("altup_correct_proj", "b s n, n n_2 -> b s n_2", shares, role=Role.ROUTER))
        difference = record(elementwise("altup_innovation", (active, Access(predicted, ONE)), ONE, 1, role=Role.ADD, linear_in=2))
        return record(elementwise("altup_correct", (predicted, difference, coefficients), STREAMS, 2, role=Role.ADD, linear_in=2))

    @staticmethod
    def _tanh(record: BlockBuilder, name: str, x: Tensor) -> Tensor:
        return record(elementwise(name, (x,), x.axes, 1, role=Role.ROUTING))

    @staticmethod
    def added(streams: Tensor, x: Tensor) -> Operator:
        """One tensor added to all streams but the active one."""
        work, out = (Work(OTHERS, 1),), Tensor("per_layer_residual_add", STREAMS, Storage.ACTIVATION, streams.space)
        reads, facts = (Access(streams, OTHERS), Access(x)), {"role": Role.ADD, "linear_in": 2}
        return Operator(out.name, Kind.ELEMENTWISE, streams.space, work, reads, (Access(out, OTHERS),), **facts)

    @staticmethod
    def spread(record: BlockBuilder, x: Tensor, streams: Tensor) -> None:
        """The streams at the start: the embedding, and projections of it scaled to its magnitude."""
        others = record(linear("altup_proj", "b s d, n_1 d o -> b s n_1 o", x))
        magnitude = AltUp._magnitude(record, "altup_magnitude", Access(x))
        others = record(norm("altup_proj_norm", others, Norm.RMS, weight=False, over=("o",)))
        record(elementwise("streams", (x, others, magnitude), STREAMS, 0, into=streams))

    @staticmethod
    def joined(record: BlockBuilder, streams: Tensor) -> Tensor:
        """One stream at the end: the mean of the active one and projections of the others, scaled to its magnitude."""
        others = linear("altup_unembed_proj", "b s n_1 d, n_1 d o -> b s n_1 o", Tensor("others", OTHERS, streams.storage, streams.space))
        others = record(replace(others, reads=(Access(streams, OTHERS), *others.reads[1:])))
        magnitude = AltUp._magnitude(record, "altup_unembed_magnitude", Access(streams, ONE))
        others = record(norm("altup_unembed_norm", others, Norm.RMS, weight=False, over=("o",)))
        mean = elementwise("altup_mean", (Access(streams, ONE), others, magnitude), ONE, 0, role=Role.COMBINE)
        return record(replace(mean, work=(Work(STREAMS, 1),)))

    @staticmethod
    def _magnitude(record: BlockBuilder, name: str, x: Access) -> Tensor:
        return record(replace(elementwise(name, (x,), axes_of("b s"), 0), work=(Work(ONE, 2),)))


def laurel(record: BlockBuilder, x: Tensor) -> Tensor:
    """A low-rank residual beside attention. Source: Menghani et al. (2024), LAuReL, arXiv:2411.07501; Gemma3nTextLaurelBlock."""
    low = record(linear("laurel_left_proj", "b s d, d r_l -> b s r_l", x))
    wide = record(linear("laurel_right_proj", "b s r_l, r_l d -> b s d", low))
    return record(add("laurel_add", x, record(norm("laurel_norm", wide, Norm.RMS))))


def output_scale(record: BlockBuilder, streams: Tensor) -> Tensor:
    """The active stream times a learned number per component."""
    learned = Tensor("altup_scale", ("d",), Storage.WEIGHT, streams.space, parameter=Parameter.NORM)
    return record(elementwise("altup_scale", (Access(streams, ONE), learned), ONE, 1, role=Role.SCALE, linear_in=1))
