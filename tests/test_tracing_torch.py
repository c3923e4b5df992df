"""Traced modules of PyTorch and Transformers: contraction FLOPs and parameters as the families have them, and modules that no family knows.

Skipped without torch (and, where it is needed, transformers): pip install -e '.[torch,test]' transformers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from sympy import Integer

import symroof
from symroof.errors import InputError
from symroof.operators import Kind, Role
from symroof.symbols import b, s, t, t_w

torch: Any = pytest.importorskip("torch")
nn, META = torch.nn, torch.device("meta")
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
A100 = "a100-sxm-80gb"
WIDTHS = {"weight_bits": 16, "activation_bits": 16, "kv_bits": 16}
TOKENS = {0: "batch", 1: "seq_len"}

SMALL = {"vocab_size": 160, "max_position_embeddings": 512, "hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 96}
GROUPED = {**SMALL, "num_key_value_heads": 2}
WINDOW = 300
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {**GROUPED, "num_hidden_layers": 3},
    "qwen3": {**GROUPED, "num_hidden_layers": 2, "head_dim": 24},
    "gemma2": {**GROUPED, "num_hidden_layers": 4, "head_dim": 24, "sliding_window": WINDOW},
    "gpt2": {"vocab_size": 160, "n_positions": 512, "n_embd": 64, "n_layer": 3, "n_head": 4},
    "mixtral": {**GROUPED, "num_hidden_layers": 2, "num_local_experts": 6, "num_experts_per_tok": 2},
    "qwen3_moe": {
        **GROUPED,
        "num_hidden_layers": 2,
        "head_dim": 24,
        "moe_intermediate_size": 40,
        "num_experts": 6,
        "num_experts_per_tok": 3,
    },
    "deepseek_v3": {
        **SMALL,
        "num_key_value_heads": 4,
        "num_hidden_layers": 3,
        "moe_intermediate_size": 40,
        "n_routed_experts": 8,
        "num_experts_per_tok": 3,
        "n_shared_experts": 1,
        "first_k_dense_replace": 1,
        "q_lora_rank": 24,
        "kv_lora_rank": 20,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 12,
        "v_head_dim": 16,
        "n_group": 2,
        "topk_group": 1,
    },
    "gpt_oss": {
        **GROUPED,
        "num_hidden_layers": 4,
        "head_dim": 24,
        "num_local_experts": 6,
        "num_experts_per_tok": 2,
        "sliding_window": WINDOW,
    },
}
CACHED = {
    "llama": (2, 16, 16),
    "qwen3": (2, 24, 24),
    "gpt2": (4, 16, 16),
    "mixtral": (2, 16, 16),
    "deepseek_v3": (1, 20, 8),
    "gemma2": (2, 24, 24),
    "qwen3_moe": (2, 24, 24),
    "gpt_oss": (2, 24, 24),
}
"""Heads of the cache, and components of what it keeps as keys and as values."""


def pretrained(kind: str, attention: str = "eager") -> tuple[Any, Any]:
    transformers = pytest.importorskip("transformers")
    config = transformers.CONFIG_MAPPING[kind](**CONFIGS[kind])
    with META:
        module = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    module.config._experts_implementation = "batched_mm"
    return config, module


def family(kind: str, config: Any, folder: Path) -> symroof.Model:
    path = folder / "config.json"
    path.write_text(json.dumps({**config.to_dict(), "model_type": kind}, default=str))
    return symroof.load_model(path)


def read_prompt(module: Any, **options: Any) -> symroof.Step:
    ids = torch.zeros(3, 17, dtype=torch.long, device=META)
    called = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
    return symroof.trace(module, kwargs=called, axes={"input_ids": TOKENS, "attention_mask": TOKENS}, **options)


@pytest.mark.parametrize("kind", CONFIGS)
def test_prefill_equals_the_family(kind: str, tmp_path: Path) -> None:
    config, module = pretrained(kind)
    step = read_prompt(module)
    model = family(kind, config, tmp_path)
    known = model.prefill(causal=False, lm_head="all")
    assert (step.symbolic.contraction_flop_count - known.graph.contraction_flop_count).expand() == 0
    assert step.symbolic.parameter_count() == model.parameters == sum(parameter.numel() for parameter in module.parameters())
    layers = [block.count for block in step.symbolic.blocks if block.count != 1]
    assert sum(layers) >= model.layers - 1
    assert len(layers) == 1


@pytest.mark.parametrize("kind", CACHED)
def test_decode_equals_the_family(kind: str, tmp_path: Path) -> None:
    config, module = pretrained(kind)
    transformers = pytest.importorskip("transformers")
    from transformers.integrations.executorch import register_dynamic_cache_export_support

    register_dynamic_cache_export_support()
    cache, (heads, keys, values) = transformers.DynamicCache(config=config), CACHED[kind]
    for layer in range(config.num_hidden_layers):
        cache.update(torch.zeros(3, heads, 21, keys, device=META), torch.zeros(3, heads, 21, values, device=META), layer)
    ids, mask = torch.zeros(3, 1, dtype=torch.long, device=META), torch.ones(3, 22, dtype=torch.long, device=META)
    axes = {"input_ids": {0: "batch"}, "attention_mask": TOKENS, "past_key_values": {0: "batch", 2: "seq_len - 1"}}
    called = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache}
    step = symroof.trace(module, kwargs=called, axes=axes, phase="decode")
    model = family(kind, config, tmp_path)
    known = model.decode(lm_head="all", mla="decompressed")
    within = known.graph.contraction_flop_count.subs(t_w, t)  # the trace is of a cache within the window, and says so
    assert (step.symbolic.contraction_flop_count - within).expand() == 0
    assert step.symbolic.parameter_count() == model.parameters
    assert (step.symbolic.kv_memory() - known.graph.kv_memory().subs(t_w, t)).expand() == 0
    assert any("traced for seq_len" in note for note in step.notes) == (kind in ("gemma2", "gpt_oss"))


def test_fused_attention_of_torch_is_the_family_with_flash_attention(tmp_path: Path) -> None:
    config, module = pretrained("llama", "sdpa")
    ids = torch.zeros(3, 17, dtype=torch.long, device=META)
    step = symroof.trace(
        module, kwargs={"input_ids": ids, "use_cache": False, "position_ids": ids}, axes={"input_ids": TOKENS, "position_ids": TOKENS}
    )
    kinds = [operator.kind for operator, _ in step.symbolic]
    assert kinds.count(Kind.FUSED_ATTENTION) == 1
    model = family("llama", config, tmp_path)
    causal = any(operator.space.causal for operator, _ in step.symbolic)
    known = model.prefill(causal=causal, lm_head="all", flash_attention=True)
    assert (step.symbolic.contraction_flop_count - known.graph.contraction_flop_count).expand() == 0


def test_experts_in_groups_have_the_same_flops_and_read_all_matrices(tmp_path: Path) -> None:
    config, module = pretrained("mixtral")
    module.config._experts_implementation = "grouped_mm"
    step = read_prompt(module)
    known = family("mixtral", config, tmp_path).prefill(causal=False, lm_head="all")
    assert (step.symbolic.contraction_flop_count - known.graph.contraction_flop_count).expand() == 0
    up = next(
        operator
        for operator, _ in step.symbolic
        if operator.name.startswith("mlp.experts.") and operator.flop_count.has(b) and operator.kind is Kind.MATMUL
    )
    assert up.byte_count(symroof.Storage.WEIGHT) == 6 * 2 * 96 * 64 * symroof.symbols.w / 8


# --- modules that no family knows ------------------------------------------------------------------------------------
class Tied(nn.Module):
    """An attention whose keys are its values."""

    def __init__(self, hidden: int = 1024, heads: int = 16) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.kv, self.out = (nn.Linear(hidden, hidden, bias=False) for _ in range(3))

    def forward(self, x: Any) -> Any:
        rows = (*x.shape[:2], self.heads, -1)
        q, kv = (one(x).view(rows).transpose(1, 2) for one in (self.q, self.kv))
        return self.out((torch.softmax(q @ kv.mT, dim=-1) @ kv).transpose(1, 2).flatten(2))


class UNetBlock(nn.Module):
    """Down, across and up again, with a skip connection."""

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.entry = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.down = nn.Conv2d(2 * width, 4 * width, 3, stride=2, padding=1)
        self.blocks = nn.ModuleList(nn.Conv2d(4 * width, 4 * width, 3, padding=1) for _ in range(3))
        self.up = nn.ConvTranspose2d(4 * width, 2 * width, 2, stride=2)
        self.out = nn.Conv2d(4 * width, width, 1)

    def forward(self, x: Any) -> Any:
        y = nn.functional.silu(self.entry(self.norm(x)))
        z = torch.relu(self.down(y))
        for block in self.blocks:
            z = torch.relu(block(z))
        return self.out(torch.cat([self.up(z), y], dim=1))


def scanned(model: Any, operator: str, over: str, values: Sequence[int], **inputs: int) -> int | None:
    """The first of these values at which the operator is compute-bound, tried one by one."""
    for value in values:
        if symroof.analyze(model.prefill(**inputs, **{over: value}, **WIDTHS), A100)[operator].bound == "compute":
            return value
    return None


def test_an_own_attention_and_its_crossovers() -> None:
    with META:
        step = symroof.trace(Tied(), (torch.empty(3, 17, 1024),), axes={"x": TOKENS})
    graph = step.symbolic
    assert (graph.contraction_flop_count - (3 * 2 * b * s * 1024**2 + 2 * 2 * b * s**2 * 1024)).expand() == 0
    assert [operator.role for operator, _ in graph][2:5] == [Role.SCORES, Role.SOFTMAX, Role.WEIGHTED_SUM]
    model = step.source
    for batch in (1, 3):
        found = symroof.crossover(model.prefill(batch=batch, **WIDTHS), "q", over="seq_len", hardware=A100)
        around = int(found.value) if found.value is not None else 0
        assert found.first_integer == scanned(model, "q", "seq_len", range(max(1, around - 5), around + 5), batch=batch)
    assert symroof.crossover(model.prefill(batch=1, **WIDTHS), "matmul", over="seq_len", hardware=A100).verdict == "always-memory"
    assert scanned(model, "matmul", "seq_len", (1, 10, 1000, 10**5, 10**7), batch=1) is None


def test_a_block_of_a_u_net_and_its_crossovers() -> None:
    side = symroof.symbols.declare("H_i", "half_side", "half the height and width of an image", domain="integer")
    with META:
        module, image = UNetBlock(), torch.empty(2, 64, 32, 32)
    step = symroof.trace(module, (image,), axes={"x": {0: "batch", 2: "2*half_side", 3: "2*half_side"}}, sizes={"half_side": 4})
    pixels = b * side**2
    convolved = 2 * (4 * 64 * 128 * 9 + 128 * 256 * 9 + 3 * 256 * 256 * 9 + 256 * 128 * 4 + 4 * 256 * 64) * pixels
    assert (step.symbolic.contraction_flop_count - convolved).expand() == 0
    assert step.symbolic.parameter_count() == sum(parameter.numel() for parameter in module.parameters())
    assert [block.count for block in step.symbolic.blocks if block.kind] == [3]
    model = step.source
    for operator in ("down", "up"):
        found = symroof.crossover(model.prefill(**WIDTHS), operator, over="batch", hardware=A100)
        assert found.first_integer == scanned(model, operator, "batch", range(1, 120)), operator
    alone = symroof.trace(module, (image,), axes={"x": {0: "batch", 2: "2*half_side", 3: "2*half_side"}}, batch=1, **WIDTHS)
    found = symroof.crossover(alone, "down", over="half_side", hardware=A100)
    bounds = {size: alone.symbolic.bind({**alone.values, side: Integer(size)})["down"] for size in range(1, 60)}
    ridge = symroof.load_hardware(A100)
    machine = symroof.analyze(model.prefill(batch=1, **WIDTHS), ridge)["down"]
    least = next(size for size, one in bounds.items() if one.flop_count * machine.bandwidth_expr > one.byte_count() * machine.peak_expr)
    assert found.first_integer == least


def test_an_encoder_of_torch() -> None:
    with META:
        module = nn.TransformerEncoder(nn.TransformerEncoderLayer(64, 4, 128, batch_first=True), 3)
    step = symroof.trace(module, (torch.empty(3, 17, 64, device=META),), axes={"src": TOKENS})
    assert [(block.name, block.count) for block in step.symbolic.blocks] == [("layers.0", 3)]
    assert (step.symbolic.contraction_flop_count - 3 * (2 * b * s * (4 * 64**2 + 2 * 64 * 128) + 4 * b * s**2 * 64)).expand() == 0
    assert step.symbolic.parameter_count() == sum(parameter.numel() for parameter in module.parameters())


def test_flops_are_those_of_the_counter_of_torch() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    with META:
        modules: Mapping[Any, Any] = {
            Tied(64, 4): (torch.empty(2, 24, 64), {"x": TOKENS}),
            UNetBlock(16): (torch.empty(2, 16, 8, 8), {"x": {0: "batch"}}),
        }
    for module, (x, axes) in modules.items():
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            module(x)
        counted = symroof.trace(module, (x,), axes=axes).symbolic.contraction_flop_count.subs({b: 2, s: 24})
        assert counted == counter.get_total_flops()


# --- refused, with the line ------------------------------------------------------------------------------------------
class Loop(nn.Module):
    def forward(self, x: Any) -> Any:
        state = x[:, 0]
        for place in range(x.shape[1]):  # the loop
            state = torch.tanh(state + x[:, place])
        return state


class Branch(nn.Module):
    def forward(self, x: Any) -> Any:
        total = x.sum().item()
        if total > 3:  # the branch
            return x
        return 2 * x


class Table(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.zeros(17, 8))

    def forward(self, x: Any) -> Any:
        return x + self.places  # the table


@pytest.mark.parametrize(
    ("kind", "mark", "why"),
    [
        (Loop, "# the loop", "a named axis has the fixed size 17 here, as in a Python loop over it"),
        (Branch, "# the branch", "a branch or a shape depends on data"),
        (Table, "# the table", "a named axis has the fixed size 17 here"),
    ],
)
def test_what_cannot_be_traced_is_refused_with_its_line(kind: Any, mark: str, why: str, capfd: pytest.CaptureFixture[str]) -> None:
    source = Path(__file__).read_text().splitlines()
    line = next(number for number, text in enumerate(source, 1) if text.endswith(mark))
    with META:
        module = kind()
    with pytest.raises(InputError) as raised:
        symroof.trace(module, (torch.empty(3, 17, 8, device=META),), axes={"x": TOKENS})
    assert f"{__file__}:{line}: {why}" in str(raised.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("axes", "why"),
    [
        ({"y": TOKENS}, "axes: 'y' is not an argument that the module is called with: known: x"),
        ({"x": {0: "bacth"}}, "'bacth' is not a symbol of the library: did you mean batch?"),
        ({"x": {0: "batch", 5: "seq_len"}}, "axes: x has 3 dimensions, from 0 on; 5 is none of them"),
        ({"x": {0: "batch", 2: "seq_len"}}, "has the fixed size 64 here"),
    ],
)
def test_axes_that_do_not_fit_are_refused(axes: dict[str, Any], why: str) -> None:
    with META:
        module, x = Tied(64, 4), torch.empty(3, 17, 64)
    with pytest.raises(InputError) as raised:
        symroof.trace(module, (x,), axes=axes)
    assert why in str(raised.value)
    with pytest.raises(InputError, match=r"x has size 1 along b; torch.export takes that as fixed: give at least 2"):
        symroof.trace(module, (x[:1],), axes={"x": TOKENS})


def test_the_module_is_as_it_was(tmp_path: Path) -> None:
    with META:
        module = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5))
    module[0].eval()
    symroof.trace(module, (torch.empty(3, 8, device=META),), axes={"input": {0: "batch"}})
    assert (module.training, module[0].training, module[1].training) == (True, False, True)


def test_another_floating_type_has_its_own_width() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = nn.Linear(8, 8, bias=False)

        def forward(self, x: Any) -> Any:
            return torch.softmax(self.proj(x).float(), dim=-1)

    with META:
        module = Mixed().bfloat16()
    step = symroof.trace(module, (torch.empty(3, 8, device=META, dtype=torch.bfloat16),), axes={"x": {0: "batch"}})
    assert (step.symbolic["softmax"].byte_count() - 2 * 8 * b * 32 / 8).expand() == 0


def test_torch_is_never_imported_unless_asked_for() -> None:
    import subprocess

    code = (
        "import sys, symroof; symroof.load_model('llama-2-7b').decode(batch=1, seq_len=8); symroof.trace; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_page_says_what_its_code_prints() -> None:
    page = (Path(__file__).parent.parent / "docs" / "trace.md").read_text().splitlines()
    start = page.index("    import symroof, torch")
    block = []
    for line in page[start:]:
        if line and not line.startswith("    "):
            break
        block.append(line[4:])
    known: dict[str, Any] = {"__name__": "page"}
    told = [line.split("  # ") for line in block if "  # " in line]
    exec("\n".join(line for line in block if "  # " not in line), known)
    assert len(told) == 4
    for code, result in told:
        value = eval(code.strip().removeprefix("print"), known)
        assert result.strip() in (str(value), repr(value)), code
