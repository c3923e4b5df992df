"""A step on a device, with every question as a method: `symroof.architectures.step.Step.on` makes it."""

from __future__ import annotations

from dataclasses import dataclass

from symroof.deployment.bounds import Bounds
from symroof.deployment.changes import Changes
from symroof.deployment.mixtures import Mixtures
from symroof.deployment.requests import Requests
from symroof.deployment.resources import Resources
from symroof.deployment.service import Service


@dataclass(frozen=True, repr=False, eq=False)
class Deployment(Bounds, Resources, Mixtures, Changes, Service, Requests):
    """A step on a device under a ceiling set: made once, by `Step.on`; every question is a method.

    The device is loaded and the step analysed once. ``over=`` is a variable's name or its symbol, as text or of `symroof.symbols`;
    ``operator=`` an operator's name or "total"; techniques are objects or texts. A question over a variable for which the step
    has a number ignores that number, and its answer says so among its conventions.

    =============================== ===================================================================================
    the roofline                    `analysis`, ``on["up_proj"]``, `time`, `memory`, `fits`, `table`, `sensitivity`
    where a bound changes           `crossover`, `crossovers`, `regimes`, `prove`, `context_limit`, `sparse_contexts`, `token_budget`
    over two variables              `regime_map`
    a stack of techniques           `ablate`
    what a target takes             `required`, `required_capacity`, `largest`, `hyperbola`, `cache_passes_weights`
    whole generations               `generation`
    what a change brings            `apply`, `payoff`, `compare`, `break_even`, `work_exceeds`
    several devices, or a unit      `best_degree`, `communication_degree`, `strong_scaling`, `weak_scaling`, `best_split`
    drafting                        `best_length`, `least_acceptance`, `pays_at_all`
    requests                        `step_line`, `under_load`, `promises`, `at_full_memory`
    pools of devices                `provision`, `attention_split`, `dead_zone`, `two_dimensional`
    mixtures of experts             `expert_batch`, `exchange_bound`, `ping_pong`, `sparse_against_dense`, `speculation_peak`
    energy                          `energy`, `greenup`, `race_to_halt`
    money, energy, carbon           `token_cost`, `price_of_speed`
    many points                     `sweep`, `best`, `pareto`, `feasible`
    =============================== ===================================================================================

    >>> import symroof
    >>> on = symroof.load_model("llama-2-7b").decode(batch=8, seq_len=2048).on("a100-sxm-80gb")
    >>> on
    <Deployment: llama-2-7b, decode, batch 8, seq_len 2048, on a100-sxm-80gb, ceilings stated>
    >>> on["up_proj"].bound, on.crossover("up_proj", over="batch").first_integer
    ('memory', 162)
    >>> on.payoff("quantize:weights=4,group=128", over="batch").speedup(1) > 2
    True
    """


__all__ = ["Deployment"]
