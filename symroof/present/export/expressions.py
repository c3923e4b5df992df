"""The lines of a program as another language writes them: sums, products, quotients, calls and names, and nothing else."""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping, Sequence

Call = Callable[[Sequence[str]], str]

LEVEL = {ast.Add: 1, ast.Sub: 1, ast.Mult: 2, ast.Div: 2}
SIGN = {ast.Add: " + ", ast.Sub: " - ", ast.Mult: "*", ast.Div: "/"}


def translated(text: str, names: Mapping[str, str], calls: Mapping[str, Call] | None = None) -> str:
    """A line with other names, and its calls written by *calls*, others as they are; in the order of operations that it has.

    >>> translated("_0*(b + w)/(BW) + maximum(b, _0)", {"b": "batch"}, {"maximum": "; ".join})
    '_0*(batch + w)/BW + batch; _0'
    """
    return _printed(ast.parse(text, mode="eval").body, names, calls or {})


def _printed(node: ast.expr, names: Mapping[str, str], calls: Mapping[str, Call]) -> str:
    if isinstance(node, ast.Name):
        return names.get(node.id, node.id)
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return repr(node.value)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
        arguments = [_printed(argument, names, calls) for argument in node.args]
        write = calls.get(node.func.id)
        return write(arguments) if write else f"{node.func.id}({', '.join(arguments)})"
    if isinstance(node, ast.BinOp) and type(node.op) in SIGN:
        level = LEVEL[type(node.op)]
        left, right = (_printed(side, names, calls) for side in (node.left, node.right))
        if isinstance(node.left, ast.BinOp) and LEVEL[type(node.left.op)] < level:
            left = f"({left})"
        if isinstance(node.right, ast.BinOp):
            right = f"({right})"
        return f"{left}{SIGN[type(node.op)]}{right}"
    raise AssertionError(f"a program has no {type(node).__name__}")
