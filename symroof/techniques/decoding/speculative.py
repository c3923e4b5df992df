"""Speculative decoding: a draft model proposes several tokens, one step of the target model verifies them."""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, Integer, Rational, S, Symbol

from symroof import symbols
from symroof.architectures.architecture import Architecture
from symroof.architectures.model import Model, load_model
from symroof.architectures.prediction import EagleHead, eagle_head, head_graph, mtp_head
from symroof.architectures.step import Step
from symroof.errors import InputError
from symroof.operators import Block, Graph, Structure
from symroof.techniques.decoding.own_heads import DRAFT, renamed, with_head
from symroof.techniques.decoding.rollback import ROLLBACK, with_slots
from symroof.techniques.decoding.verification import EXACT, drafted, expected, require_verifiable, verified
from symroof.techniques.technique import Example, Fact, Given, Number, Technique, number, refuse_graph, word

HEADS = ("mtp", "eagle", "eagle3")
"""Drafts that are heads on the target's hidden states, not models."""


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
    draft : a model of the same vocabulary, by name; or a head on the hidden states of this one: "mtp", the layer that its checkpoint has to
        predict further tokens, "eagle" (1 and 2) or "eagle3" (`symroof.architectures.prediction`). Weights and cache count in memory.
    draft_cost : kappa_d, instead of a draft model: time of a drafted token over the time of a decode step, at least 0; takes no memory.
    rollback : what recurrent layers keep to undo rejected tokens: "snapshots" of the state behind every token, the same in a "buffer"
        from which the accepted one is copied, or the inputs from which the accepted tokens are computed again, "replay"
        (`symroof.techniques.decoding.rollback`).
    nodes, branches : n_t and k_b, for a head that proposes a tree: the tokens that are verified, and those that each of its passes but the
        first works on; alpha is then the probability that the true token is among a node's candidates. Without them, a chain.
    vocabulary, width : v_d and f, rows of the LM head of "eagle3" and the intermediate size of EAGLE's MLP, if not those of the model.

    Raises
    ------
    InputError
        Both draft and cost are given, vocabularies differ, the model has no such head, or the step verifies several tokens already.

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
    draft: str = word("", meaning="the draft model, by name; or mtp, eagle, eagle3")
    draft_cost: Number = number(symbols.kappa_d, zero=True, optional=True)
    rollback: str = word("snapshots", ROLLBACK)
    nodes: Number = number(symbols.n_t, optional=True)
    branches: Number = number(symbols.k_b, optional=True)
    vocabulary: Number = number(symbols.v_d, optional=True)
    width: Number = number(symbols.f, optional=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.draft and self.draft_cost is not None:
            raise self.refused("give draft or draft_cost, not both")
        if not self.draft and self.draft_cost is None:
            object.__setattr__(self, "draft_cost", symbols.kappa_d)
        own = {"nodes": HEADS, "branches": HEADS, "vocabulary": ("eagle3",), "width": ("eagle", "eagle3")}
        for name, drafts in own.items():
            if getattr(self, name) is not None and self.draft not in drafts:
                raise self.refused(f"{name} is for draft={' or draft='.join(drafts)}")
        if (self.nodes is None) != (self.branches is None):
            raise self.refused("a tree has nodes and branches: give both, or none for a chain")
        length, nodes, branches = self.length, self.nodes, self.branches
        if nodes is not None and all(value.is_number for value in (length, nodes, branches)):
            most = branches + (length - 1) * branches**2
            if not length <= nodes <= most:
                raise self.refused(f"nodes {nodes}: a tree of {length} levels with {branches} branches has from {length} to {most} nodes")

    @property
    def required(self) -> frozenset[Fact]:
        return self.requires | ({Fact.WHOLE_BATCH} if self.draft else frozenset())

    @property
    def removed(self) -> frozenset[Fact]:
        return frozenset() if self.draft or self.draft_cost == 0 else self.removes

    def prefills(self, prompt: Step) -> tuple[Step, ...]:
        if self.draft not in HEADS:
            return (load_model(self.draft).step(replace(prompt.options, mla="auto")),) if self.draft else ()
        given = {name: value for name in ("vocabulary", "width") if (value := getattr(self, name)) is not None}
        return (replace(prompt, symbolic=self._pass(prompt, *self._head(prompt), given), unchanged=None),)

    def on_graph(self, graph: Graph) -> Graph:
        if self.draft:
            raise refuse_graph(self)
        return super().on_graph(graph)

    def on_step(self, step: Step) -> Step:
        if not self.draft:
            return super().on_step(step)
        changed = super().on_graph(step.symbolic)
        if self.draft in HEADS:
            return replace(step, symbolic=self._with_head(step, changed))
        drafts, definitions = self._drafting(step)
        return replace(
            step, symbolic=replace(changed, blocks=(*drafts, *changed.blocks), definitions={**changed.definitions, **definitions})
        )

    def rewrite(self, graph: Graph, given: Given) -> Graph:
        require_verifiable(self.name, graph, self.rollback, tree="nodes" in given)
        length = given["length"]
        tokens = expected(given["acceptance"], self.acceptance, length, self.length)
        after = verified(graph, given.get("nodes", length) + 1, tokens, self.rollback, tree="nodes" in given)
        cost = given.get("draft_cost", Integer(0))
        if cost == 0:
            return after
        drafting, definitions = renamed(
            graph, {symbol: meant for symbol, meant in graph.definitions.items() if after.definitions[symbol] != meant}, {}
        )
        own = tuple(replace(drafted(block, DRAFT), count=cost * length * block.count, copies=Integer(0)) for block in drafting.blocks)
        return replace(after, blocks=(*own, *after.blocks), definitions={**after.definitions, **definitions})

    def _drafting(self, step: Step) -> tuple[tuple[Block, ...], dict[Symbol, Expr]]:
        """The blocks of the draft model's steps with numeric dimensions, and the definitions of its window and experts."""
        model = load_model(self.draft)
        self._same_vocabulary(model, step)
        length = self.parameters(step.symbolic)[0]["length"]
        options, later = replace(step.options, mla="auto"), {**model.dimensions, symbols.t: symbols.t + (length - 1) / 2}
        published = step.published.get("weight_bits")
        if options.weight_bits in (None, published) and (published or model.quantization):  # each has the width of its checkpoint
            options, later = replace(options, weight_bits=None), later | {symbols.w: Integer(model.weight_bits)}
        own = model.step(options).symbolic
        graph, definitions = renamed(with_slots(own, length + 1), own.definitions, later)
        blocks = tuple(replace(drafted(block, DRAFT), count=length * block.count, copies=block.resident) for block in graph.blocks)
        return blocks, definitions

    def _head(self, step: Step) -> tuple[Model, Architecture]:
        """The model of a step, and its head."""
        model, earlier, before = step.source, step.techniques, step.unchanged or step
        if len(earlier) > (before.model != step.model):  # one technique may have replaced the model
            raise self.refused(f"draft={self.draft} must come before {earlier[0]} in a chain: its head takes part in what follows")
        if not isinstance(model, Model):
            raise self.refused(f"draft={self.draft} needs a model with a config, not {step.model}")
        rows, most = self.vocabulary, model.architecture.dimensions.get(symbols.v, 0)
        if rows is not None and rows.is_number and rows > most:
            raise self.refused(f"vocabulary {rows}: {model.name} has {most} tokens; expected at most as many")
        try:
            head = (
                mtp_head(model)
                if self.draft == "mtp"
                else eagle_head(model, third=self.draft == "eagle3", own_width=self.width is not None)
            )
        except InputError as error:
            raise self.refused(f"draft={self.draft}: {error}") from None
        return model, head

    def _with_head(self, step: Step, after: Graph) -> Graph:
        (model, head), given = self._head(step), self.parameters(step.symbolic)[0]
        later = replace(head, fused=False) if isinstance(head, EagleHead) else head
        first, again = (self._pass(step, model, which, given) for which in (head, later))
        heads = model.predicting if self.draft == "mtp" else 1
        options = {"own_logits": self.draft == "eagle3", "single": self.length == 1}
        return with_head(after, first, again, given["length"], given.get("branches", S.One), heads, **options)

    def _pass(self, step: Step, model: Model, head: Architecture, given: Given) -> Graph:
        """One pass of a head with the sizes of its own, and numbers where the step has no symbols for the model's."""
        known = {} if symbols.d in step.symbolic.free_symbols else dict(model.dimensions)
        known |= {symbol: given[name] for name, symbol in (("vocabulary", symbols.v_d), ("width", symbols.f)) if name in given}
        return head_graph(model, head, step.options).replaced({symbols.v_d: known.get(symbols.v, symbols.v), **known})

    def _same_vocabulary(self, model: Model, step: Step) -> None:
        sizes = [values.get(symbols.v) for values in (model.dimensions, step.values)]
        if sizes[0] is None:
            raise self.refused(f"draft {self.draft} generates no tokens")
        if sizes[1] is not None and sizes[0] != sizes[1]:
            own, wanted = sizes
            raise self.refused(f"draft {self.draft} has a vocabulary of {own} tokens, {step.model} of {wanted}: they must be equal")

    def statements(self, given: Given) -> tuple[str, ...]:
        heads = {"mtp": "the model's own head for multi-token prediction", "eagle": "an EAGLE head", "eagle3": "an EAGLE-3 head"}
        cost = f"by {heads.get(self.draft, self.draft)}" if self.draft else "each in kappa_d times a decode step; its memory is not counted"
        proposed, verified_tokens = ("a tree of n_t tokens is", "n_t + 1") if "nodes" in given else ("gamma tokens are", "gamma + 1")
        first = "; the head's first pass is on all tokens that were verified" if self.draft in HEADS else ""
        return (
            f"speculative: {proposed} drafted {cost}{first}; one step verifies them with {verified_tokens} tokens of every sequence; "
            "each is accepted with probability alpha, independently, and every sequence of the batch gains the expected number",
            "times are per expected token; rejection sampling is not counted; a sliding window counts as wider by the drafted tokens",
        )
