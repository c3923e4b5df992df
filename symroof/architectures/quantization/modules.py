"""Names of modules, as checkpoints list them, and the operators that they mean."""

from __future__ import annotations

import functools
import itertools
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from fractions import Fraction

ATTENTIONS = ("self_attn", "attention", "attn", "self_attention", "mixer")
MLPS = ("mlp", "feed_forward", "ffn", "moe", "block_sparse_moe", "mixer")
RECURRENT = ("linear_attn", "mamba", "mixer")
QKV = ("qkv_proj", "query_key_value", "c_attn", "qkv", "Wqkv", "W_pack")
GATE_UP = ("gate_up_proj", "gate_up", "dense_h_to_4h")
MATRICES = {
    "gate_proj": ("gate_proj", "w1", "proj_up_gate", *GATE_UP),
    "up_proj": ("up_proj", "w3", "proj_up", "fc1", "c_fc", "fc_in", *GATE_UP),
    "down_proj": ("down_proj", "w2", "proj_down", "fc2", "c_proj", "fc_out", "dense_4h_to_h"),
}
COMMON = frozenset((*QKV, *GATE_UP))
SHARED = ("shared_expert", "shared_experts", "share_expert")
ROUTER, SHARED_ROUTER = "router", "shared_router"
HEAD, TABLE = "lm_head", "embedding"
BESIDE = "beside_"
"""Experts beside a dense MLP in the same layer, which are no part of it."""


def _paths(*parts: Iterable[str]) -> tuple[str, ...]:
    return tuple(map(".".join, itertools.product(*parts)))


WAYS = (("down", "a"), ("up", "b"))
"""The two projections of a low-rank one, and what checkpoints call them."""

PATHS: dict[str, tuple[str, ...]] = {
    **{name: (*_paths(ATTENTIONS, (name, *QKV)), f"mlstm_layer.{name[0]}") for name in ("k_proj", "v_proj")},
    "q_proj": (*_paths(ATTENTIONS, ("q_proj", "q_b_proj", *QKV)), "mlstm_layer.q"),
    "q_gate_proj": _paths(ATTENTIONS, ("q_proj", "q_gate_proj", "g_proj", *QKV)),
    "q_rotary_proj": _paths(ATTENTIONS, ("q_proj", "q_b_proj")),
    "out_proj": _paths(ATTENTIONS, ("o_proj", "out_proj", "dense", "c_proj")),
    "q_down_proj": _paths(ATTENTIONS, ("q_a_proj",)),
    **{name: _paths(ATTENTIONS, ("kv_a_proj_with_mqa",)) for name in ("kv_down_proj", "k_rotary_proj")},
    **{name: _paths(ATTENTIONS, ("kv_b_proj",)) for name in ("k_up_proj", "v_up_proj")},
    **{name: _paths(MLPS, words) for name, words in MATRICES.items()},
    **{f"expert_{name}": _paths(MLPS, ("experts",), words) + _paths(("experts",), words) for name, words in MATRICES.items()},
    **{
        f"shared_{name}": (
            *_paths(MLPS, SHARED, words),
            *_paths(SHARED, words),
            f"shared_mlp.{'out' if name == 'down_proj' else 'in'}put_linear",
        )
        for name, words in MATRICES.items()
    },
    **{f"{BESIDE}expert_{name}": _paths(("experts",), words) + _paths(("moe",), ("experts",), words) for name, words in MATRICES.items()},
    "attn_gate_proj": _paths(ATTENTIONS, ("g_proj",)),
    "qkv_proj": _paths(ATTENTIONS, ("q_proj", "k_proj", "v_proj", *QKV)),
    "kda_out_proj": _paths(ATTENTIONS, ("o_proj",)),
    **{f"decay_{way}_proj": _paths(ATTENTIONS, (f"f_{letter}_proj", f"forget_gate.f_{letter}_proj")) for way, letter in WAYS},
    **{f"attn_gate_{way}_proj": _paths(ATTENTIONS, (f"g_{letter}_proj",)) for way, letter in WAYS},
    "strength_proj": _paths(ATTENTIONS, ("b_proj",)),
    "linear_attn": _paths(ATTENTIONS, ("linear_attn",)),
    "linear_mlp": _paths(MLPS, ("linear_mlp",)),
    **{f"altup_{which}router": ("altup.modality_router",) for which in ("", "correct_")},
    **{f"altup_{which}_proj": (f"altup.{which}ion_coefs",) for which in ("predict", "correct")},
    **{f"altup_{which}proj": (f"altup_{which}projections",) for which in ("", "unembed_")},
    **{f"laurel_{side}_proj": (f"laurel.linear_{side}",) for side in ("left", "right")},
    "per_layer_gate": ("per_layer_input_gate",),
    "per_layer_proj": ("per_layer_projection",),
    "index_q_proj": _paths(ATTENTIONS, ("indexer.wq_b", "indexer.q_b_proj", "indexer.q_proj", "index_q_proj")),
    "index_k_proj": _paths(ATTENTIONS, ("indexer.wk", "indexer.k_proj", "index_k_proj")),
    "index_weights_proj": _paths(ATTENTIONS, ("indexer.weights_proj", "indexers_proj")),
    "kv_proj": _paths(ATTENTIONS, ("kv_proj",)),
    "out_down_proj": _paths(ATTENTIONS, ("o_a_proj",)),
    "compress_kv_proj": _paths(ATTENTIONS, ("compressor.kv_proj",)),
    "compress_gate_proj": _paths(ATTENTIONS, ("compressor.gate_proj",)),
    "index_compress_kv_proj": _paths(ATTENTIONS, ("compressor.indexer.kv_proj",)),
    "index_compress_gate_proj": _paths(ATTENTIONS, ("compressor.indexer.gate_proj",)),
    "latent_down_proj": _paths(MLPS, ("fc1_latent_proj",)),
    "latent_up_proj": _paths(MLPS, ("fc2_latent_proj",)),
    "head_gate_proj": _paths(ATTENTIONS, ("g_proj",)),
    "in_proj": _paths(RECURRENT, ("in_proj", "in_proj_qkvz", "in_proj_qkv", "in_proj_z")),
    "gates_proj": _paths(RECURRENT, ("in_proj_ba", "in_proj_b", "in_proj_a")),
    **{name: _paths(RECURRENT, (name,)) for name in ("x_proj", "dt_proj")},
    "mixer_out_proj": (*_paths(RECURRENT, ("out_proj",)), "attention.output", "attention.dense", "mlstm_layer.out_proj"),
    "decay_proj": _paths(ATTENTIONS, ("f_proj", "forget_gate.f_proj")),
    **{f"{name}_proj": (f"attention.{name}",) for name in ("key", "value", "receptance")},
    **{f"mlp_{name}_proj": (f"feed_forward.{name}",) for name in ("key", "value", "receptance")},
    **{f"{name}_gate_proj": (f"mlstm_layer.{name[0]}gate_preact",) for name in ("input", "forget", "output")},
    **{f"head_{name}_proj": (f"mamba.{name}_proj_weight",) for name in ("x", "dt")},
    "shared_proj": ("linear",),
    **{f"{name}_adapter_{way}": (f"self_attn.linear_{name}_adapter_list",) for name in "qkv" for way in ("down", "up")},
    **dict.fromkeys(("mlp_adapter_down", "gate_adapter_up", "up_adapter_up"), ("feed_forward.gate_up_proj_adapter_list",)),
    ROUTER: (*_paths(MLPS, ("gate", "router", "gate.wg")), "router"),
    SHARED_ROUTER: _paths(MLPS, ("shared_expert_gate",)),
    HEAD: ("lm_head", "output", "embed_out"),
    TABLE: ("embed_tokens", "wte", "tok_embeddings", "embed_in", "word_embeddings"),
}
"""The paths of an operator's weights inside a layer, and of the two ends, in the checkpoints of all families; a recurrent layer's output
projection is ``mixer_out_proj`` here, a gate that is projected along with the queries is part of ``q_proj``."""

ENDS = frozenset((*PATHS[HEAD], *PATHS[TABLE]))

NO_OPERATOR = re.compile(r".*norm\d?|ln_\w+|embed.*|wpe|conv1d|rotary_emb|sinks|A_log|dt_bias|D|e_score_correction_bias|bias")
"""Modules whose weights have 16 bits anyway."""

ELSEWHERE = re.compile(r"vis(?:ual|ion)|multi_?modal|modality|mm_|image|audio|merger|\bmtp|eh_proj|shared_head|draft|connector")
"""Parts of a checkpoint that are not part of a decoder's step."""

PREDICTING = re.compile(r"(?:model\.|language_model\.)*mtp(?:\.layers\.\d+)?[.*]*")
"""All layers that predict further tokens."""

INDEX = r"\d+|\d+\*|\*|\.[*+]|\\d[*+]?|\[0-9\][*+]?|\[\^\.\][*+]|\d*\[[\d-]+\]|\((?:\?:)?[\d|]+\)"
LAYER = re.compile(rf"(?:^|[.*\\])(?:layers?|blocks?|h)\\?\.(?P<index>{INDEX})(?:\\?\.(?P<tail>.+))?$")
NUMBERED = re.compile(r"^(?:\.\*)?\\\.(?P<index>\d+)\\\.(?P<tail>.+)$")
"""The number of a layer in a pattern, after the word for layers, or alone as GPTQModel's own configs have it."""

ANY_INDEX = ("*", r"\d", "[0-9]", ".*", ".+", r"\d+", r"\d*", "[0-9]+", "[0-9]*", "[^.]+", "[^.]*", r"[^\.]+")
EXPERT = re.compile(rf"experts\\?\.(?P<index>{INDEX})(?=\\?\.|$)")
GROUP = re.compile(r"\((?:\?:)?([^()]*)\)(\??)")
REGULAR = re.compile(r"\\|\(|\||\$|\^|\.[*+]")
MOST_WAYS, MOST_GLOBS, MOST_DIGITS, MOST_CHARACTERS, MOST_TESTS = 64, 100, 6, 300, 50_000
"""The most alternatives of a pattern, patterns with wildcards, digits of a number, characters of a pattern of numbers, and numbers that
are compared with one; what is beyond is not understood."""


@dataclass(frozen=True)
class Places:
    """Where a name points: operators, in which layers (all if None), of which expert (all if None)."""

    operators: frozenset[str]
    layers: frozenset[int] | None = None
    expert: int | None = None


@dataclass
class Reach:
    """The part of an operator's weights that some names cover: in all layers, in some, and of single experts."""

    everywhere: bool = False
    layers: set[int] = field(default_factory=set)
    experts: dict[int | None, set[int]] = field(default_factory=dict)

    def add(self, places: Places) -> None:
        """Cover more."""
        if places.expert is not None:
            for layer in places.layers if places.layers is not None else (None,):
                self.experts.setdefault(layer, set()).add(places.expert)
        elif places.layers is None:
            self.everywhere = True
        else:
            self.layers |= places.layers

    def union(self, other: Reach) -> Reach:
        """What either covers."""
        experts = {layer: self.experts.get(layer, set()) | other.experts.get(layer, set()) for layer in {*self.experts, *other.experts}}
        return Reach(self.everywhere or other.everywhere, self.layers | other.layers, experts)

    def share(self, layers: frozenset[int], experts: int) -> Fraction:
        """The share of an operator's weights in these layers.

        >>> reach = Reach(layers={0, 1, 7})
        >>> reach.share(frozenset(range(4)), 1)
        Fraction(1, 2)
        """
        if self.everywhere:
            return Fraction(1)
        whole = layers & self.layers
        partly = sum(
            min(len(chosen), experts) * (len(layers - whole) if layer is None else 1)
            for layer, chosen in self.experts.items()
            if layer is None or layer in layers - whole
        )
        return min(Fraction(len(whole), len(layers)) + Fraction(partly, experts * len(layers)), Fraction(1))


class UnclearError(Exception):
    """A pattern that is not of the simple kind."""


class Modules:
    r"""Resolves the names of modules for a model of *layers* layers.

    >>> modules = Modules(32)
    >>> sorted(modules.places(r"re:.*mlp\.(gate|up)_proj.*")[0].operators)
    ['gate_proj', 'up_proj']
    >>> modules.places("model.layers.3.mlp.experts.7.w2")
    [Places(operators=frozenset({'expert_down_proj'}), layers=frozenset({3}), expert=7)]
    >>> sorted(modules.places("model.layers.3*")[0].layers)
    [3, 30, 31]
    >>> modules.places("model.norm"), modules.places("lm_heed")
    ([], None)
    """

    def __init__(self, layers: int) -> None:
        self._count = layers
        self._numbers: dict[str, frozenset[int]] = {}
        self._globs: set[tuple[str, bool, bool]] = set()

    def places(self, name: str, *, exactly: bool = False) -> list[Places] | None:
        """Where a name points; nowhere if that is no part of a decoder's step; None if it is not understood.

        *exactly*: a name without a pattern is that of a matrix itself, not of a module that contains it.
        """
        if ELSEWHERE.search(name):
            return []
        plain = name.removeprefix("re:")
        regular = plain != name or REGULAR.search(plain) is not None
        loose, plain = regular and not plain.endswith("$"), plain.removeprefix("^").removesuffix("$")
        place = LAYER.search(plain) or NUMBERED.match(plain)
        tail, expert = (place["tail"] or "*") if place else plain, None
        if routed := EXPERT.search(tail):
            expert = int(routed["index"]) if routed["index"].isdecimal() and len(routed["index"]) < MOST_DIGITS else None
            tail = tail[: routed.start() + len("experts")] + tail[routed.end() :]
        try:
            index = place["index"] if place else ""
            starting = not regular and index[-1:] == "*" and index[:-1].isdecimal()
            layers = self._layers(rf"{index[:-1]}\d*" if starting else index) if place else None
            globs = _globs(tail) if regular else [tail]
            operators = frozenset[str]().union(*(self._operators(glob, loose=loose, anchored=place is not None) for glob in globs))
            contains = exactly and not regular and operators and tail not in _matrices() and tail.rpartition(".")[2] not in ENDS
        except UnclearError:
            return None
        if contains or (layers is not None and not layers):
            return []
        if operators:
            return [Places(operators, layers, expert)]
        return [] if NO_OPERATOR.fullmatch(re.split(r"[.*\\]+", tail.strip(".*\\"))[-1]) else None

    def _operators(self, glob: str, *, loose: bool, anchored: bool) -> frozenset[str]:
        if not loose and not re.search(r"[*?\[]", glob):
            ends = glob.rpartition(".")[2]
            return (_heads() if anchored else {}).get(glob) or _runs().get(glob) or (_runs()[ends] if ends in ENDS else frozenset())
        self._globs.add((glob, loose, anchored))
        if len(self._globs) > MOST_GLOBS:
            raise UnclearError
        return _matching(glob, loose, anchored)

    def _layers(self, index: str) -> frozenset[int] | None:
        """The layers that a number or a pattern of numbers means; None for all."""
        if index in ANY_INDEX:
            return None
        if index.isdecimal():
            return frozenset({int(index)} if len(index) < MOST_DIGITS and int(index) < self._count else ())
        if index not in self._numbers:
            if len(index) > MOST_CHARACTERS or (len(self._numbers) + 1) * self._count > MOST_TESTS:
                raise UnclearError
            try:
                test = re.compile(index)
            except re.error:
                raise UnclearError from None
            self._numbers[index] = frozenset(number for number in range(self._count) if test.fullmatch(str(number)))
        return self._numbers[index]


def _globs(text: str) -> list[str]:
    r"""A regular expression of the simple kind that configs have, as patterns with wildcards.

    >>> _globs(r".*mlp\.(gate|up)_proj.*")
    ['*mlp.gate_proj*', '*mlp.up_proj*']

    Raises
    ------
    UnclearError
        It is of another kind.
    """
    ways = [text]
    while group := GROUP.search(ways[0]):
        words = [*group[1].split("|"), *([""] if group[2] else [])]
        ways = [way.replace(group[0], word, 1) for way in ways for word in words]
        if len(ways) > MOST_WAYS:
            raise UnclearError
    globs = []
    for way in itertools.chain.from_iterable(way.split("|") for way in ways):
        glob = re.sub(r"\\d[*+]?|\[0-9\][*+]", "[0-9]*", re.sub(r"\.[*+]", "*", way)).replace("\\", "")
        if not re.fullmatch(r"[\w.*?\[\]-]*", glob, re.ASCII):
            raise UnclearError
        globs.append(re.sub(r"\*+", "*", glob))
    return globs


@functools.cache
def _matrices() -> frozenset[str]:
    """The whole paths."""
    return frozenset(path for paths in PATHS.values() for path in paths)


@functools.cache
def _heads() -> Mapping[str, frozenset[str]]:
    """By the beginning of a path."""
    return _index(lambda words: (words[:end] for end in range(1, len(words) + 1)))


@functools.cache
def _runs() -> Mapping[str, frozenset[str]]:
    """By any part of a path."""
    return _index(lambda words: (words[start:end] for start in range(len(words)) for end in range(start + 1, len(words) + 1)))


def _index(parts: Callable[[list[str]], Iterable[list[str]]]) -> Mapping[str, frozenset[str]]:
    known: dict[str, set[str]] = {}
    for operator, paths in PATHS.items():
        for path in paths:
            for part in parts(path.split(".")):
                known.setdefault(".".join(part), set()).add(operator)
    return {part: frozenset(operators) for part, operators in known.items()}


@functools.lru_cache(maxsize=1024)
def _matching(glob: str, loose: bool, anchored: bool) -> frozenset[str]:
    """The operators with a path that matches: from the layer on if *anchored*, and up to any end if *loose*.

    Matrices that are one in some families (``gate_up_proj``) are meant by their common name if no single one matches.
    """
    endings = (glob, f"{glob}*") if loose else (glob, f"{glob}.*")
    beginnings = ("",) if anchored else ("", "*.")
    test = re.compile("|".join(translate(beginning + ending) for beginning in beginnings for ending in dict.fromkeys(endings)))
    layer = "" if anchored else "model.layers.0."

    def matching(common: bool) -> frozenset[str]:
        return frozenset(
            operator
            for operator, paths in PATHS.items()
            for path in paths
            if not (anchored and operator in (HEAD, TABLE))
            and (path.rpartition(".")[2] in COMMON) is common
            and test.match(path if operator in (HEAD, TABLE) else layer + path)
        )

    return matching(common=False) or matching(common=True)
