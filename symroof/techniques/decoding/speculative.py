"""Speculative decoding: a draft model proposes several tokens, one step of the target model verifies them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sympy import Expr, Integer, Rational, Symbol

from symroof import symbols
from symroof.architectures.model import Model, load_model
from symroof.architectures.step import Step
from symroof.operators import Block, Graph, Structure
from symroof.symbols import substitute
from symroof.techniques.decoding.rollback import ROLLBACK, with_slots
from symroof.techniques.decoding.verification import EXACT, drafted, expected, require_verifiable, verified
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, refuse_graph, word

DRAFT = "draft."


@dataclass(frozen=True)
class Speculative(Technique):
    """gamma tokens are drafted and then verified by one step of the target with gamma + 1 query tokens per sequence.

    ================= ==============================================================================
    tokens per step   ``1 + alpha + ... + alpha^gamma = (1 - alpha^(gamma+1)) / (1 - alpha)``
    verification      the step with ``s = gamma + 1``, ``t + gamma`` positions, ``gamma + 1`` rows of logits
    draft             gamma steps of the draft model at ``t + (gamma-1)/2`` positions on average, or
                      ``kappa_d gamma`` times the target's own step
    ================= ==============================================================================

    Weights and cache are read once for gamma + 1 tokens, so intensity rises by up to gamma + 1; FLOPs per token rise by
    ``(gamma + 1 + kappa_d gamma) / tokens``. With T(gamma) the time of such a step, it is faster per token if the tokens
    per step exceed ``T(gamma) / T(0)``: when memory-bound at batch 1, by Leviathan's ``tokens / (kappa_d gamma + 1)``;
    when compute-bound, never. For a dense model some length is faster exactly if ``alpha > T(1)/T(0) - 1``
    (`symroof.questions.speculation`). Valid for independent acceptance; rejection sampling is not counted.

    Parameters
    ----------
    acceptance : alpha, from 0 (one token per step) to 1 (gamma + 1 tokens).
    length : gamma, an integer.
    draft : a model of the same vocabulary, by name; its weights and cache count in memory.
    draft_cost : kappa_d, instead of a draft model: time of a drafted token over the time of a decode step, at least 0; takes no memory.
    rollback : what recurrent layers keep to undo rejected tokens: "snapshots" of the state behind every token, the same in a "buffer"
        from which the accepted one is copied, or the inputs from which the accepted tokens are computed again, "replay"
        (`symroof.techniques.decoding.rollback`).

    Raises
    ------
    InputError
        Both draft and cost are given, vocabularies differ, or the step verifies several tokens already.

    >>> import symroof
    >>> step = symroof.load_model("llama-2-7b").decode(symbolic=True)
    >>> step.apply(Speculative(length=2, draft_cost=0)).symbolic.tokens
    alpha**2 + alpha + 1

    Source: Leviathan et al. (2023), arXiv:2211.17192, equation 1 and theorem 3.8.
    """

    name = "speculative"
    summary = "a draft model proposes tokens, one step of the target verifies them"
    survey = "4.2"
    source = "arXiv:2211.17192"
    structure = frozenset({Structure.TOKENS})
    phases = ("decode",)
    exact = EXACT
    requires = frozenset({Fact.WHOLE_STEP, Fact.ONE_CONTEXT, Fact.WHOLE_CACHE})
    removes = frozenset({Fact.OWN_STEP})
    example = Example(
        part="total",
        over="batch",
        settings={"acceptance": Rational(4, 5), "length": 4, "draft_cost": Rational(1, 20)},
        inputs={"seq_len": 64},
    )

    acceptance: Number = number(symbols.alpha, zero=True)
    length: Number = number(symbols.gamma)
    draft: str = word("", meaning="the draft model, by name")
    draft_cost: Number = number(symbols.kappa_d, zero=True, optional=True)
    rollback: str = word("snapshots", ROLLBACK)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draft and self.draft_cost is not None:
            raise self.refused("give draft or draft_cost, not both")
        if not self.draft and self.draft_cost is None:
            object.__setattr__(self, "draft_cost", symbols.kappa_d)

    @property
    def removed(self) -> frozenset[Fact]:
        return frozenset() if self.draft or self.draft_cost == 0 else self.removes

    def prefills(self, prompt: Step) -> tuple[Step, ...]:
        return (load_model(self.draft).step(replace(prompt.options, mla="auto")),) if self.draft else ()

    def on_graph(self, graph: Graph) -> Graph:
        if self.draft:
            raise refuse_graph(self)
        return super().on_graph(graph)

    def on_step(self, step: Step) -> Step:
        if not self.draft:
            return super().on_step(step)
        drafts, definitions = self._drafting(step)
        changed = super().on_graph(step.symbolic)
        return replace(
            step, symbolic=replace(changed, blocks=(*drafts, *changed.blocks), definitions={**changed.definitions, **definitions})
        )

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        require_verifiable(self.name, graph, self.rollback)
        length = given["length"]
        tokens = expected(given["acceptance"], self.acceptance, length, self.length)
        after = verified(graph, length + 1, tokens, self.rollback)
        cost = given.get("draft_cost", Integer(0))
        if cost == 0:
            return after
        drafting, definitions = _renamed(
            graph, {symbol: meant for symbol, meant in graph.definitions.items() if after.definitions[symbol] != meant}, {}
        )
        own = tuple(replace(drafted(block, DRAFT), count=cost * length * block.count, copies=Integer(0)) for block in drafting.blocks)
        return replace(after, blocks=(*own, *after.blocks), definitions={**after.definitions, **definitions})

    def _drafting(self, step: Step) -> tuple[tuple[Block, ...], dict[Symbol, Expr]]:
        """The blocks of the draft model's steps with numeric dimensions, and the definitions of its window and experts."""
        model = load_model(self.draft)
        self._same_vocabulary(model, step)
        length = self.parameters(step.symbolic)[0]["length"]
        own = model.step(replace(step.options, mla="auto")).symbolic
        later = {**model.dimensions, symbols.t: symbols.t + (length - 1) / 2}
        graph, definitions = _renamed(with_slots(own, length + 1), own.definitions, later)
        blocks = tuple(replace(drafted(block, DRAFT), count=length * block.count, copies=block.resident) for block in graph.blocks)
        return blocks, definitions

    def _same_vocabulary(self, model: Model, step: Step) -> None:
        sizes = [values.get(symbols.v) for values in (model.dimensions, step.values)]
        if sizes[0] is None:
            raise self.refused(f"draft {self.draft} generates no tokens")
        if sizes[1] is not None and sizes[0] != sizes[1]:
            own, wanted = sizes
            raise self.refused(f"draft {self.draft} has a vocabulary of {own} tokens, {step.model} of {wanted}: they must be equal")

    def statements(self, given: Given) -> tuple[str, ...]:
        cost = f"by {self.draft}" if self.draft else "each in kappa_d times a decode step; the draft's memory is not counted"
        return (
            f"speculative: gamma tokens are drafted {cost}; one step verifies them with gamma + 1 tokens of every sequence; "
            "each is accepted with probability alpha, independently, and every sequence of the batch gains the expected number",
            "times are per expected token; rejection sampling is not counted; a sliding window counts as wider by the drafted tokens",
        )


OF_DRAFT = {symbols.X: symbols.X_d, symbols.t_w: symbols.t_d}


def _renamed(graph: Graph, definitions: Mapping[Symbol, Expr], values: Mapping[Symbol, Expr]) -> tuple[Graph, dict[Symbol, Expr]]:
    """The draft's graph with renamed symbols where the target defines the same symbol differently, and their definitions."""
    own = {symbol: substitute(meant, values) for symbol, meant in definitions.items()}
    named = {OF_DRAFT[symbol]: meant for symbol, meant in own.items() if symbol in OF_DRAFT}
    inside = {symbol: OF_DRAFT.get(symbol, meant) for symbol, meant in own.items()}
    return replace(graph, definitions={}).map(tensor=replace).bind({**values, **inside}), named
