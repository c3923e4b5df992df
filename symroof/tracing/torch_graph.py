"""An exported program of torch as `Exported`: sizes in the symbols of named axes, operators with arguments, modules and lines."""

from __future__ import annotations

import re
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from sympy import Expr, Integer, Max, Min, Symbol, ceiling, floor

from symroof.errors import InputError
from symroof.tracing.exported import Exported, Input, Node, Ref, Source, Value

_FRAME = re.compile(r'File "([^"]+)", line (\d+)')


class TorchGraph:
    """Reads an exported program."""

    def __init__(self, torch: Any, program: Any, module: Any, wanted: Sequence[Mapping[int, Expr]], cached: Sequence[bool]) -> None:
        self.torch, self.program, self.wanted, self.cached = torch, program, wanted, cached
        counts: dict[Any, int] = {}
        for parameter in module.parameters():
            if parameter.dtype.is_floating_point:
                counts[parameter.dtype] = counts.get(parameter.dtype, 0) + parameter.numel()
        self.own = max(counts, key=counts.__getitem__) if counts else torch.get_default_dtype()
        self.sizes: dict[Symbol, Expr] = {}
        self.whole: dict[Any, Symbol] = {}
        self.refs: dict[str, Ref] = {}

    def exported(self) -> Exported:
        """The inputs and operators."""
        sources = {"PARAMETER": Source.PARAMETER, "BUFFER": Source.BUFFER, "CONSTANT_TENSOR": Source.BUFFER}
        kinds = {spec.arg.name: sources.get(spec.kind.name, Source.INPUT) for spec in self.program.graph_signature.input_specs}
        targets = {spec.arg.name: spec.target for spec in self.program.graph_signature.input_specs}
        given = [node for node in self.program.graph.nodes if node.op == "placeholder"]
        users = [node for node in given if kinds[node.name] is Source.INPUT]
        for node, sizes in zip(users, self.wanted, strict=True):
            self._named(node, sizes)
        cached = {node.name for node, cached in zip(users, self.cached, strict=True) if cached}
        inputs: list[Input] = []
        nodes: list[Node] = []
        for node in given:
            value = node.meta.get("val")
            if isinstance(value, self.torch.Tensor):
                source = Source.CACHE if node.name in cached else kinds[node.name]
                inputs.append(Input((targets[node.name] or node.name).removeprefix("module."), source, self._value(value, node)))
                self.refs[node.name] = Ref(inputs[-1].name)
        for node in self.program.graph.nodes:
            if node.op == "call_function":
                nodes += self._node(node)
            elif node.op not in ("placeholder", "output"):
                raise InputError(f"not traced: {line_of(node)}: control flow of torch ({node.op} {node.target}) has no count")
        return Exported(tuple(inputs), tuple(nodes), self._ranges())

    def _ranges(self) -> dict[Symbol, tuple[int, int | None]]:
        """The bounds that the module's branches put on the symbols, beyond that torch takes every dynamic size to be at least 2."""
        bounds: dict[Symbol, list[tuple[int, int, int | None]]] = {}
        for size, limits in self.program.range_constraints.items():
            formula = self.sizes.get(size)
            if formula is not None and len(formula.free_symbols) == 1:
                (symbol,) = cast("set[Symbol]", formula.free_symbols)
                more, factor = formula.subs(symbol, 0), formula.diff(symbol)
                high = int(floor((int(limits.upper) - more) / factor)) if limits.upper.is_Integer else None
                lows = (int(ceiling((least - more) / factor)) for least in (2, int(limits.lower)))
                bounds.setdefault(symbol, []).append((*lows, high))  # pyright: ignore[reportArgumentType]
        ranges: dict[Symbol, tuple[int, int | None]] = {}
        for symbol, several in bounds.items():
            low = max(one[1] for one in several)
            highs = [one[2] for one in several if one[2] is not None]
            ranges[symbol] = low if low > max(one[0] for one in several) else 1, min(highs, default=None)
        return {symbol: limits for symbol, limits in ranges.items() if limits != (1, None)}

    def _named(self, node: Any, sizes: Mapping[int, Expr]) -> None:
        """Give the symbols of torch in an input's sizes the formulas that its axes are given."""
        for number, size in sizes.items():
            own = self._expression(node.meta["val"].shape[number])
            found = sorted(cast("set[Symbol]", own.free_symbols), key=str)
            if len(found) != 1 or own.diff(found[0]) != 1:
                raise InputError(f"axes: {node.name} has size {own} along {size}, which the module fixes")
            (symbol,) = found
            for variable in cast("set[Symbol]", size.free_symbols):
                self.whole.setdefault(variable, Symbol(str(variable), integer=True, positive=True))
            formula = size - (own - symbol)
            if self.sizes.setdefault(symbol, formula) != formula:
                raise InputError(f"axes: the module needs {self.sizes[symbol]} and {formula} to be one size")

    @staticmethod
    def _expression(size: Any) -> Expr:
        return Integer(size) if isinstance(size, int) else size.node.expr

    def _size(self, size: Any, node: Any) -> Expr:
        """A size as a formula in whole numbers: floors of what is whole disappear."""
        if isinstance(size, int):
            return Integer(size)
        integers = {torchs: formula.xreplace(self.whole) for torchs, formula in self.sizes.items()}
        formula = self._expression(size)
        for kind, by in (("FloorDiv", lambda a, b: floor(a / b)), ("CleanDiv", lambda a, b: a / b), ("Max", Max), ("Min", Min)):
            formula = formula.replace(lambda part, kind=kind: type(part).__name__ == kind, lambda part, by=by: by(*part.args))
        formula = cast(Expr, formula.xreplace(integers)).expand()
        unknown = formula.free_symbols - {*self.whole.values()}
        if unknown:
            raise InputError(f"not traced: {line_of(node)}: the size {size} depends on data, or on an axis without a name")
        if not formula.is_polynomial(*formula.free_symbols):
            raise InputError(
                f"not traced: {line_of(node)}: the size {formula} is no polynomial; name the axis as a multiple, such as 8*batch"
            )
        return cast(Expr, formula.xreplace({mine: variable for variable, mine in self.whole.items()}))

    def _value(self, tensor: Any, node: Any) -> Value:
        shape = tuple(self._size(size, node) for size in tensor.shape)
        bits = None if tensor.dtype == self.own else 8 * tensor.dtype.itemsize
        return Value(shape, tensor.dtype.is_floating_point, bits)

    def _node(self, node: Any) -> list[Node]:
        """An operator on tensors; none for what only computes sizes or checks them."""
        value, target = node.meta.get("val"), node.target
        if getattr(target, "__name__", "") == "getitem" and node.args[0].name in self.refs:
            self.refs[node.name] = Ref(node.args[0].name, node.args[1])
            return []
        results = value if isinstance(value, list | tuple) else (value,)
        if not results or not all(isinstance(result, self.torch.Tensor) for result in results):
            return []
        self.refs[node.name] = Ref(node.name)
        stores = {_store(argument.meta.get("val")) for argument in node.all_input_nodes} - {None}
        writes = any(returned.alias_info and returned.alias_info.is_write for returned in target._schema.returns)
        return [
            Node(
                node.name,
                target._opname,
                self._arguments(node.args),
                tuple(self._value(result, node) for result in results),
                {name: self._arguments((argument,))[0] for name, argument in node.kwargs.items()},
                shares=not writes and all(_store(result) in stores for result in results),
                pointwise=self.torch.Tag.pointwise in target.tags,
                module=_module(node),
                line=line_of(node),
            )
        ]

    def _arguments(self, arguments: Any) -> tuple[Any, ...]:
        def read(argument: Any) -> Any:
            if isinstance(argument, list | tuple):
                return tuple(map(read, argument))
            if hasattr(argument, "all_input_nodes"):
                return self.refs.get(argument.name)
            return argument if isinstance(argument, int | float | str | bool) else None

        return tuple(map(read, arguments))


def users(filename: str) -> bool:
    """Whether a frame is of the module's own code: not torch's, the standard library's or this package's."""
    path = str(Path(filename))
    inside = (str(Path(sys.modules["torch"].__file__ or "").parent), sysconfig.get_path("stdlib"), str(Path(__file__).parent))
    library = path.startswith(inside) and "site-packages" not in path.removeprefix(inside[1])
    return not (path.startswith((inside[0], inside[2], "<")) or library)


def _store(value: Any) -> int | None:
    return value.untyped_storage()._cdata if hasattr(value, "untyped_storage") else None


def _module(node: Any) -> str:
    stack = [path for path, _ in (node.meta.get("nn_module_stack") or {}).values()]
    return (stack[-1] if stack else "").removeprefix("module").removeprefix(".")


def line_of(node: Any) -> str:
    """The line of the module's own code that runs a node, as ``file.py:12``."""
    frames = _FRAME.findall(node.meta.get("stack_trace") or "")
    own = [f"{name}:{number}" for name, number in frames if users(name)]
    return own[-1] if own else "the module"
