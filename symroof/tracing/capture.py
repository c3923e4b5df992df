"""A module through `torch.export` with symbolic sizes: the only place that imports torch."""

from __future__ import annotations

import importlib
import inspect
import logging
import re
import traceback
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr
from io import StringIO
from typing import Any

from sympy import Expr, Integer

from symroof import symbols
from symroof.errors import InputError, nearest, quote
from symroof.tracing import counts
from symroof.tracing.exported import Exported
from symroof.tracing.torch_graph import TorchGraph, users

_EXTENT = re.compile(r"(?:(\d+) ?\* ?)?([A-Za-z]\w*)(?: ?([+-]) ?(\d+))?")
_EQUAL = re.compile(r"Eq\(\w+, (\d+)\)")
_SIZES = "torch.fx.experimental.symbolic_shapes"
"""The logger that says which sizes torch fixes."""


def torch_module() -> Any:
    """Torch, imported on this request alone.

    Raises
    ------
    InputError
        It is not installed.
    """
    try:
        torch = importlib.import_module("torch")
        importlib.import_module("torch.export")
    except ImportError:
        raise InputError("tracing a module needs torch: pip install 'symroof[torch]'") from None
    return torch


def extent(text: str, decode: bool) -> Expr:
    """The size that an axis is given: the name of a symbol, a multiple of it, a number more or less; ``seq_len`` of decode is the context.

    >>> extent("8*batch", False), extent("seq_len - 1", True)
    (8*b, t - 1)
    >>> extent("batch**2", False)
    Traceback (most recent call last):
        ...
    symroof.errors.InputError: axis 'batch**2': expected a name such as batch, 8*batch or seq_len - 1

    Raises
    ------
    InputError
        It is none of these, or no symbol has this name.
    """
    read = _EXTENT.fullmatch(text.strip()) if isinstance(text, str) else None
    if read is None:
        raise InputError(f"axis {quote(text)}: expected a name such as batch, 8*batch or seq_len - 1")
    factor, name, sign, more = read.groups()
    symbol = symbols.lookup(name).symbol
    symbol = symbols.t if decode and symbol == symbols.s else symbol
    return Integer(factor or 1) * symbol + Integer(f"{sign or ''}{more or 0}")


def capture(
    module: Any, args: Sequence[Any], kwargs: Mapping[str, Any], axes: Mapping[str, Mapping[int, str]], cache: Sequence[str], decode: bool
) -> Exported:
    """The exported module, with sizes as formulas in the symbols of the named axes.

    Raises
    ------
    InputError
        The axes do not fit the arguments, or the module cannot be traced: the line that fixes a size or depends on data is named.
    """
    torch = torch_module()
    wrapper = _wrapped(torch, module)
    called = (tuple(args), dict(kwargs))
    named = _by_name(module, *called)
    wanted: dict[int, dict[int, Expr]] = {}
    cached: set[int] = set()
    for name, given in axes.items():
        if name not in named:
            raise InputError(f"axes: {quote(name)} is not an argument that the module is called with: {nearest(name, named)}")
        for leaf in _tensors(torch, named[name]):
            wanted[id(leaf)] = {number: extent(text, decode) for number, text in given.items()}
            _check_example(name, leaf, wanted[id(leaf)])
    for name in cache:
        cached |= {id(leaf) for leaf in _tensors(torch, named.get(name, ()))}
    shapes = torch.export.ShapesCollection()
    leaves = torch.utils._pytree.tree_leaves(called)
    for leaf in leaves:
        if id(leaf) in wanted:
            shapes[leaf] = dict.fromkeys(wanted[id(leaf)], torch.export.Dim.DYNAMIC)
    with _explained(torch), torch.no_grad(), _evaluated(module):
        program = torch.export.export(
            wrapper,
            called,
            dynamic_shapes=shapes.dynamic_shapes(wrapper, called) if wanted else None,
            strict=False,
            prefer_deferred_runtime_asserts_over_guards=True,
        )
        program = _decomposed(torch, program)
    sizes, caches = [wanted.get(id(leaf), {}) for leaf in leaves], [id(leaf) in cached for leaf in leaves]
    return TorchGraph(torch, program, module, sizes, caches).exported()


def _decomposed(torch: Any, program: Any) -> Any:
    """The program with operators that have no count in terms of others, where PyTorch can say so."""

    def counted(target: Any) -> bool:
        name = getattr(target, "_opname", "")
        return name.rstrip("_") in counts.COUNTED or name in counts.COUNTED or torch.Tag.pointwise in target.tags

    def floating(node: Any) -> bool:
        values = torch.utils._pytree.tree_leaves([one.meta.get("val") for one in (node, *node.all_input_nodes)])
        return any(isinstance(value, torch.Tensor) and value.dtype.is_floating_point for value in values)

    called = [node for node in program.graph.nodes if node.op == "call_function" and hasattr(node.target, "_opname")]
    if all(counted(node.target) or node.target._opname.startswith(("_assert", "sym_")) or not floating(node) for node in called):
        return program
    table = torch.export.default_decompositions()
    for target in [target for target in table if counted(target)]:
        del table[target]
    return program.run_decompositions(table)


def _wrapped(torch: Any, module: Any) -> Any:
    if not isinstance(module, torch.nn.Module):
        raise InputError(f"{quote(module)}: expected a torch.nn.Module")

    class Called(torch.nn.Module):
        """The module behind one pair of arguments, so that dynamic sizes are named alike for every signature."""

        def __init__(self) -> None:
            super().__init__()
            self.module = module

        def forward(self, args: Any, kwargs: Any) -> Any:
            return self.module(*args, **kwargs)

    training = module.training
    wrapper = Called()
    wrapper.training = training
    return wrapper


def _by_name(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """The arguments by the names that ``forward`` has for them."""
    signature = inspect.signature(module.forward)
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise InputError(f"{type(module).__name__}.forward: {error}") from None
    named = dict(bound.arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            named |= named.pop(name, {})
    return named


def _tensors(torch: Any, value: Any) -> list[Any]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _check_example(name: str, leaf: Any, sizes: Mapping[int, Expr]) -> None:
    for number, size in sizes.items():
        if not isinstance(number, int) or not -leaf.dim() <= number < leaf.dim():
            raise InputError(f"axes: {name} has {leaf.dim()} dimensions, from 0 on; {quote(number)} is none of them")
        if leaf.shape[number] < 2:
            raise InputError(f"axes: {name} has size {leaf.shape[number]} along {size}; torch.export takes that as fixed: give at least 2")


@contextmanager
def _evaluated(module: Any) -> Iterator[None]:
    """Every part of the module in evaluation, and afterwards as it was."""
    training = [part for part in module.modules() if part.training]
    module.eval()
    try:
        yield
    finally:
        for part in training:
            part.training = True


class _Fixed(logging.Filter):
    """Where a dynamic size was first fixed to a number, and to which."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.size = "", ""

    def filter(self, record: logging.LogRecord) -> bool:
        fixed = next((match for text in map(str, record.args or ()) if (match := _EQUAL.fullmatch(text))), None)
        if not self.line and fixed is not None and record.levelno == logging.INFO:
            frames = [frame for frame in traceback.extract_stack() if users(frame.filename)]
            if frames:
                self.line, self.size = f"{frames[-1].filename}:{frames[-1].lineno}", fixed[1]
        return record.levelno >= logging.ERROR


@contextmanager
def _explained(torch: Any) -> Iterator[None]:
    """Quiet, and errors of torch.export as one line that names the line of the module."""
    fixed, sizes, above = _Fixed(), logging.getLogger(_SIZES), logging.getLogger("torch")
    before = sizes.level, above.level
    sizes.addFilter(fixed)
    sizes.setLevel(logging.INFO)
    above.setLevel(logging.CRITICAL)
    try:
        with redirect_stderr(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Exception as error:
        raise InputError(f"not traced: {_reason(torch, error, fixed)}") from None
    finally:
        sizes.removeFilter(fixed)
        sizes.setLevel(before[0])
        above.setLevel(before[1])


def _reason(torch: Any, error: Exception, fixed: _Fixed) -> str:
    """Why a module cannot be traced, and where."""
    text = " ".join(str(error).split())
    by_data = torch.fx.experimental.symbolic_shapes.GuardOnDataDependentSymNode
    if fixed.line and not isinstance(error, by_data) and re.search(r"a constant \(|static shape of", text):
        return f"{fixed.line}: a named axis has the fixed size {fixed.size} here, as in a Python loop over it"
    inside = [frame for frame in traceback.extract_tb(error.__traceback__) if users(frame.filename) and frame.name != "<module>"]
    where = f"{inside[-1].filename}:{inside[-1].lineno}: " if inside else ""
    if isinstance(error, by_data):
        return f"{where}a branch or a shape depends on data, which a trace does not have"
    return f"{where}{type(error).__name__}: {text if len(text) <= LONGEST else text[:LONGEST] + '...'}"


LONGEST = 300
"""The most characters of a message of torch."""
