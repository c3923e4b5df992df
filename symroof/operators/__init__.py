"""Operators as einsums over named axes: tensors, operators, graphs, and the catalogue."""

from symroof.operators.block import Block
from symroof.operators.facts import ATTENTION_ROLES, ATTENTION_STEPS, CONTRACTIONS, BlockRole, Kind, Parameter, Role
from symroof.operators.graph import Graph
from symroof.operators.operator import Direction, Operator, Work
from symroof.operators.tensor import Access, Axes, Level, Space, Storage, Tensor
