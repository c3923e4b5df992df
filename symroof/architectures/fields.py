"""Type-checked access to a config's fields, which keeps track of unread fields."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from math import inf
from typing import Any, TypeVar

from symroof.errors import Checker, ConfigError, SymroofError, nearest, quote

LARGEST = 10**12
"""Upper bound on every dimension; a larger size is an error."""

MOST_LAYERS = 10_000
"""Upper bound on the number of layers."""

LONGEST_NAME = 60
"""Longer lists of field names are shortened."""

ABSENT_FEATURES = {"is_encoder_decoder": False, "add_cross_attention": False, "cross_attention_hidden_size": None}
"""Fields of many configs that would change the structure if set otherwise."""

IGNORED = (
    *("model_type", "architectures", "auto_map", "torch_dtype", "dtype", "transformers_version", "tokenizer_class", "use_cache"),
    *("is_decoder", "bos_token_id", "eos_token_id", "pad_token_id", "unk_token_id", "sep_token_id", "decoder_start_token_id"),
    *("image_token_id", "bos_token", "eos_token", "pad_token", "image_token_index", "boi_token_index", "eoi_token_index"),
    *("tokenizer_name", "model_max_length", "initializer_range", "initializer_factor", "init_std", "gradient_checkpointing"),
    *("max_length", "min_length", "pretraining_tp", "attention_dropout", "hidden_dropout", "embd_pdrop", "attn_pdrop", "resid_pdrop"),
    *("residual_dropout", "embedding_dropout", "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attn_dropout"),
    *("resid_dropout", "ffn_dropout", "classifier_dropout", "rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon"),
    *("norm_eps", "norm_epsilon", "rms_norm_epsilon", "rope_theta", "rope_scaling", "rope_parameters", "rope_local_base_freq"),
    *("rope_interleave", "rope_interleaved", "rope_ratio", "rotary_emb_base", "rotary_base", "original_max_position_embeddings"),
    *("default_theta", "rope_type", "output_attentions", "output_hidden_states", "return_dict", "torchscript", "use_bfloat16"),
    *("pruned_heads", "output_router_logits", "id2label", "label2id", "num_labels", "problem_type", "finetuning_task"),
    *("task_specific_params", "prefix", "chunk_size_feed_forward", "temperature", "top_k", "top_p", "typical_p", "do_sample"),
    *("num_beams", "num_beam_groups", "diversity_penalty", "early_stopping", "repetition_penalty", "length_penalty"),
    *("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "bad_words_ids", "begin_suppress_tokens", "forced_bos_token_id"),
    *("forced_eos_token_id", "suppress_tokens", "exponential_decay_length_penalty", "remove_invalid_values", "num_return_sequences"),
    *("output_scores", "return_dict_in_generate", "tf_legacy_loss", "tie_encoder_decoder", "cache_implementation", "attn_implementation"),
    *("bias_dropout_fusion", "masked_softmax_fusion", "slow_but_exact", "offset_alibi", "seq_length", "n_ctx", "summary_activation"),
    *("summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj", "router_aux_loss_coef"),
    *("router_jitter_noise", "router_z_loss_coef", "input_jitter_noise", "aux_loss_alpha", "seq_aux", "norm_topk_prob", "scoring_func"),
    *("topk_method", "n_group", "topk_group", "routed_scaling_factor", "ep_size"),
)
"""Fields of every family's configs that do not affect FLOPs and bytes."""

LAYER_LISTS = ("layers_block_type", "layer_types", "hybrid_override_pattern")
"""Fields with one entry per layer. Transformers 5 saves such a list without the number of layers."""

SHOWN = 8
NUMBERS = (int, float)
Default = TypeVar("Default")
_REQUIRED: Any = object()


def listing(names: Sequence[str]) -> str:
    """The names, or the first of very many.

    >>> listing(["a", "b"])
    'a, b'
    >>> listing(["n"] * 100)
    'n, n, n, n, n, n, n, n, ... (100 in all)'
    """
    return ", ".join(names) if len(names) <= 2 * SHOWN else f"{', '.join(names[:SHOWN])}, ... ({len(names)} in all)"


class Fields(Checker):
    """The fields of one config.json, read by name and type.

    >>> fields = Fields({"hidden_size": 4096, "rope_theta": 1e4, "mystery": 1}, "config.json")
    >>> fields.size("hidden_size")
    4096
    >>> fields.unread(("rope_theta",))
    ['mystery']
    >>> fields.size("num_hidden_layers")
    Traceback (most recent call last):
        ...
    symroof.errors.ConfigError: 'config.json': num_hidden_layers is missing; expected a whole number from 1 to 1e12
    """

    def __init__(self, content: Mapping[str, Any], origin: str, inside: str = "") -> None:
        super().__init__(quote(origin), ConfigError)
        no_window = type(content.get("sliding_window")) is int and content["sliding_window"] == 0  # how Transformers 5 saves it
        self._content = {**content, "sliding_window": None} if no_window else content
        self._asked: set[str] = set()
        self._objects: dict[str, Fields] = {}
        self._inside = inside
        self.origin = origin

    def error(self, message: str) -> SymroofError:
        return super().error(self._inside + message)

    def __contains__(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._content.get(name) is not None

    def _get(self, name: str, default: Any, expected: str) -> Any:
        self._asked.add(name)
        value = self._content.get(name)
        if value is not None:
            return value
        if default is _REQUIRED:
            state = "null" if name in self._content else "missing"
            raise self.error(f"{name} is {state}; expected {expected}")
        return default

    def _checked(self, name: str, default: Any, expected: str, holds: Callable[[Any], bool]) -> Any:
        """The field, which must be as expected, or the default."""
        value = self._get(name, default, expected)
        self.require(value is default or holds(value), name, value, expected)
        return value

    def size(self, name: str, default: Default = _REQUIRED, low: int = 1, high: int = LARGEST, *, null: Any = _REQUIRED) -> int | Default:
        """A whole number; the default if absent, and if null unless *null* is given."""
        expected = f"a whole number from {low} to {'1e12' if high == LARGEST else high}"
        default = null if null is not _REQUIRED and name in self._content else default
        return self._checked(name, default, expected, lambda value: type(value) is int and low <= value <= high)

    def per_layer(self, name: str, count: int, default: int = _REQUIRED, *, same: bool = False) -> list[int]:
        """A whole number for all layers, or a list of one for each of *count*, the *same* in all if asked for."""

        def fits(value: Any) -> bool:
            sizes = value if isinstance(value, list) and len(value) == count else [value]
            return all(type(size) is int and 1 <= size <= LARGEST for size in sizes) and not (same and len(set(sizes)) > 1)

        which = f", the same in all {count} layers" if same else f", or a list of {count}, one per layer"
        value = self._checked(name, default, f"a whole number from 1 to 1e12{which}", fits)
        return value if isinstance(value, list) else [value] * count

    def layers(self, name: str) -> int:
        """A number of layers; if absent, the length of the list of layers."""
        lists = (self._content.get(other) for other in LAYER_LISTS)
        listed = next((len(value) for value in lists if isinstance(value, list | str) and 1 <= len(value) <= MOST_LAYERS), None)
        return self.size(name, _REQUIRED if listed is None else listed, high=MOST_LAYERS)

    def named(self, *names: str) -> str:
        """The name that the config uses, of several; by default the first.

        Raises
        ------
        ConfigError
            Two spellings are present and disagree.
        """
        there = [name for name in names if name in self]
        for other in there[1:]:
            if self._content[other] != self._content[there[0]]:
                stated = " and ".join(f"{name} is {quote(self._content[name])}" for name in (there[0], other))
                raise self.error(f"{stated}, but they mean the same")
        self._asked.update(there)
        return there[0] if there else names[0]

    def share(self, name: str, default: str) -> Fraction:
        """A share above 0 and at most 1, exactly as written."""
        value = self._checked(name, default, "a number above 0, at most 1", lambda value: type(value) in NUMBERS and 0 < value <= 1)
        return Fraction(str(value))

    def multiple(self, name: str, default: int | Fraction, of: int) -> int:
        """*of* times a number that may be a fraction (an expansion), rounded down."""
        value = self._checked(name, default, "a number above 0, at most 1000", lambda value: type(value) in NUMBERS and 0 < value <= 1000)
        product = int(Fraction(str(value)) * of)
        if product < 1:
            raise self.error(f"{name} is {quote(value)}; it leaves nothing of {of}")
        return product

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        return self._checked(name, default, "true or false", lambda value: isinstance(value, bool))

    def measured(self, name: str, absent: bool) -> bool:
        """Whether there is a number above 0 (a cap, a multiplier); null means no."""
        if name not in self._content:
            return absent
        value = self._checked(name, None, "a number above 0, or null", lambda value: type(value) in NUMBERS and 0 < value < inf)
        return value is not None

    def choice(self, name: str, known: Mapping[str, Default], default: str | None = None) -> Default:
        """The meaning of one of the known words."""
        expected = f"one of {', '.join(known)}"
        value = self._get(name, _REQUIRED if default is None else default, expected)
        if not isinstance(value, str) or value not in known:
            hint = nearest(value, known) if isinstance(value, str) else expected
            raise self.error(f"{name} is {quote(value)}; {hint if 'known' in hint or 'mean' in hint else 'expected ' + hint}")
        return known[value]

    def words(self, name: str, known: Mapping[str, str], count: int, more: int = 0) -> list[str] | None:
        """The meanings of one known word per layer; None if the field is absent or null. *more* words behind those are passed over."""
        expected = f"a list of {count} words, one per layer, of {', '.join(known)}"
        value = self._get(name, None, expected)
        if value is None:
            return None
        if isinstance(value, list) and len(value) == count + more:
            value = value[:count]
        if not isinstance(value, list) or len(value) != count:
            stated = f"a list of {len(value)}" if isinstance(value, list) else quote(value)
            raise self.error(f"{name} is {stated}; expected {expected}")
        for word in value:
            if not isinstance(word, str) or word not in known:
                raise self.error(f"{name} holds {quote(word)}; {nearest(str(word), known)}")
        return [known[word] for word in value]

    def indices(self, name: str, count: int) -> frozenset[int] | None:
        """Indices of layers from 0; None if the field is absent or null."""

        def inside(value: Any) -> bool:
            return isinstance(value, list) and all(type(number) is int and 0 <= number < count for number in value)

        value = self._checked(name, None, f"a list of layers from 0 to {count - 1}", inside)
        return None if value is None else frozenset(value)

    def switches(self, name: str, count: int) -> list[bool] | None:
        """A 0 or 1 per layer; None if the field is absent, null or empty."""
        expected = f"a list of {count} numbers, 0 or 1, one for each of num_hidden_layers"
        value = self._get(name, None, expected)
        if value is None or value == []:
            return None
        listed = isinstance(value, list) and len(value) == count
        self.require(listed and all(type(on) in (int, bool) and on in (0, 1) for on in value), name, value, expected)
        return [bool(on) for on in value]

    def shares(self, name: str, count: int, more: int = 0, *, zero: bool = False) -> list[Fraction] | None:
        """A share per layer, above 0 or with *zero* 0, at most 1; None if the field is absent or null. *more* of them are passed over."""

        def fits(value: Any) -> bool:
            numbers = isinstance(value, list) and len(value) in (count, count + more) and all(type(x) in NUMBERS for x in value)
            return numbers and all(0 < x <= 1 or (zero and x == 0) for x in value)

        value = self._checked(name, None, f"a list of {count} numbers {'from 0 to' if zero else 'above 0, at most'} 1, one per layer", fits)
        return None if value is None else [Fraction(str(share)) for share in value[:count]]

    def overridden(self, name: str, layers: Sequence[int], understood: Sequence[str]) -> Fields | None:
        """Fields that layers have of their own, as Transformers 5 saves them: the same for all *layers*, none for others; None if absent.

        Raises
        ------
        ConfigError
            They differ among the layers, other layers have some, or some are not those *understood*.
        """
        expected = "an object of fields for each of some layers, the same for all of a kind"
        value = self._checked(name, None, expected, lambda value: isinstance(value, dict))
        if value is None:
            return None
        numbers = {key.lstrip("0") or "0" for key in value}  # written with leading zeros, as many digits as the largest
        alike = all(isinstance(inner, dict) for inner in value.values()) and len({repr(inner) for inner in value.values()}) <= 1
        self.require(alike and numbers in ({*map(str, layers)}, set()) and len(value) == len(numbers), name, value, expected)
        own = next(iter(value.values()), {})
        if unknown := [key for key in own if key not in understood]:
            raise self.error(f"{name} has {quote(unknown[0])}; only {listing(understood)} of a layer's own are understood")
        return Fields(own, self.origin, f"{self._inside}{name}.")

    def says(self, name: str, word: str) -> bool:
        """Whether the field is this word, for example "auto"; any other value is allowed."""
        if self._content.get(name) != word:
            return False
        self._asked.add(name)
        return True

    def text(self, name: str) -> str | None:
        """Any text; None if the field is absent or null."""
        return self._checked(name, None, "text", lambda value: isinstance(value, str))

    def sides(self, name: str, default: int) -> tuple[int, int]:
        """Height and width: one whole number for both, or a list of two."""
        value = self._content.get(name)
        if not isinstance(value, list):
            side = self.size(name, default)
            return side, side
        self._asked.add(name)
        two = len(value) == 2 and all(type(side) is int and 1 <= side <= LARGEST for side in value)
        self.require(two, name, value, "a whole number from 1 to 1e12, or two of them")
        return value[0], value[1]

    def pattern(self, name: str, known: Mapping[str, str]) -> list[str] | None:
        """The meanings of a pattern with one known character per layer; None if the field is absent or null."""

        def is_pattern(value: Any) -> bool:
            return isinstance(value, str) and 1 <= len(value) <= MOST_LAYERS and set(value) <= set(known)

        value = self._checked(name, None, f"characters of {', '.join(known)}, one per layer", is_pattern)
        return None if value is None else [known[letter] for letter in value]

    def peek(self, name: str) -> Any:
        """The raw field, without marking it as read."""
        return self._content.get(name)

    def listed(self, name: str) -> list[Any] | None:
        """Any list; None if the field is absent or null."""
        return self._checked(name, None, "a list", lambda value: isinstance(value, list))

    def nested(
        self, name: str, defaults: Mapping[str, Any] | None = None, *, instead: Mapping[str, Any] | None = None, apart: bool = False
    ) -> Fields:
        """The fields of an object inside the config; *defaults* replace absent fields and flags that are null, *instead* any.

        What is not read of it is not read of the config, unless it is read *apart*.

        Raises
        ------
        ConfigError
            The object is missing, or is not an object.
        """
        value = self._checked(name, _REQUIRED, "an object of fields", lambda value: isinstance(value, dict))
        known = defaults or {}
        stated = {key: one for key, one in value.items() if one is not None or not isinstance(known.get(key), bool)}
        inner = Fields({**known, **stated, **(instead or {})}, self.origin, f"{self._inside}{name}.")
        if not apart:
            first = self._objects.setdefault(name, inner)
            inner._asked, inner._objects = first._asked, first._objects
        return inner

    def completed(self, defaults: Mapping[str, Any]) -> Fields:
        """The same fields, with *defaults* for absent ones."""
        return Fields({**defaults, **self._content}, self.origin, self._inside) if defaults else self

    def fixed(self, name: str, only: Any, why: str) -> None:
        """Check a field that may be absent, and otherwise must have the only supported value."""
        value = self._get(name, only, repr(only))
        if value != only or isinstance(value, bool) != isinstance(only, bool):
            raise self.error(f"{name} is {quote(value)}; only {only!r} is understood ({why})")

    def divides(self, larger: str, whole: int, smaller: str, part: int) -> int:
        """*whole* / *part*, which must be an integer."""
        if whole % part:
            raise self.error(f"{larger} {whole} is not divisible by {smaller} {part}")
        return whole // part

    def plain(self) -> None:
        """Refuse configs that are not plain decoders: cross-attention, an encoder."""
        for name, only in ABSENT_FEATURES.items():
            self.fixed(name, only, "no cross-attention")

    def unread(self, ignored_fields: Iterable[str]) -> list[str]:
        """Fields that were not read and are not known to be irrelevant to the structure, in objects that were read too."""
        ignored = set(ignored_fields)
        own = (
            self._inside + (name if name.isprintable() and len(name) <= LONGEST_NAME else quote(name))
            for name, value in self._content.items()
            if name not in self._asked | ignored and not name.startswith("_") and value is not None
        )
        return sorted((*own, *(field for name, inner in self._objects.items() if name not in ignored for field in inner.unread(ignored))))
