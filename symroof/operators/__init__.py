"""Operators as einsums over named axes: tensors, operators, graphs, and the catalogue."""

from symroof.operators.block import Block
from symroof.operators.ceilings import IDEAL, Ceilings, Energy
from symroof.operators.facts import ATTENTION_ROLES, ATTENTION_STEPS, CONTRACTIONS, BlockRole, Kind, Parameter, Resource, Role, Structure
from symroof.operators.graph import Graph, of_name
from symroof.operators.operator import Direction, Operator, Work
from symroof.operators.tensor import Access, Axes, Level, Space, Storage, Tensor, axes_of
