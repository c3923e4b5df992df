"""Collectives: the data that devices of a step exchange, per device and one way, within a node and between nodes.

Only links are counted: a collective's own memory traffic is taken to be hidden behind them, and the additions of a
reduction are not FLOPs of the step. Links are full duplex: a device receives as much as it sends, at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sympy import Expr, Integer, Min, S, ceiling, log

from symroof.operators.facts import Kind, Role
from symroof.operators.operator import Operator
from symroof.operators.tensor import Access, Level, Storage, Tensor

RING, TREE = "ring", "tree"
ALGORITHMS = (RING, TREE)

LARGEST = Integer(2) ** 20
"""The largest number of devices for which answers over the degree consider trees; each doubling is one piece."""


def steps(devices: Expr, algorithm: str = RING) -> Expr:
    """Steps until every device's data has reached all devices: ``n - 1`` on a ring, ``ceil(log2 n)`` with a tree.

    >>> steps(Integer(8)), steps(Integer(8), TREE)
    (7, 3)
    """
    return devices - 1 if algorithm == RING else ceiling(log(devices, 2))


@dataclass(frozen=True)
class Group:
    """n devices that take part in a collective: i devices per node, in ``n / i`` nodes.

    ============== ==============================================================================
    latency        ``l_0 + r ((i - 1) t_l + (n / i - 1) t_n)`` for r rounds; zero for one device
    one node       ``i = n``: ``l_0 + r (n - 1) t_l``, affine in the number of devices
    ============== ==============================================================================

    A round is a reduce-scatter or an all-gather; an all-reduce has two rounds. With trees a round takes ``ceil(log2 i)`` steps
    within a node and ``ceil(log2 (n / i))`` between nodes.

    Attributes
    ----------
    devices : n.
    inside : i; None if all devices are in one node.
    overhead : l_0, seconds per collective at any number of devices and bytes.
    step, network_step : t_l and t_n, seconds per step within a node and between nodes.
    algorithm : "ring" or "tree".

    >>> from symroof.symbols import l_0, n_p, t_l
    >>> Group(Integer(8), overhead=l_0, step=t_l).latency(rounds=2)
    l_0 + 14*t_l
    >>> Group(Integer(32), Integer(8), overhead=l_0, step=t_l, network_step=Integer(1)).latency(rounds=2)
    l_0 + 14*t_l + 6
    """

    devices: Expr
    inside: Expr | None = None
    overhead: Expr = S.Zero
    step: Expr = S.Zero
    network_step: Expr = S.Zero
    algorithm: str = RING

    @property
    def local(self) -> Expr:
        """The number of devices in one node."""
        return self.devices if self.inside is None else self.inside

    @property
    def started(self) -> Expr:
        """The overhead, zero for a single device: ``l_0 min(1, n - 1)``."""
        return self.overhead * Min(Integer(1), self.devices - 1)

    @property
    def leaves(self) -> Expr:
        """1 if the devices span several nodes, otherwise 0: ``min(1, n - i)``."""
        return S.Zero if self.inside is None else Min(Integer(1), self.devices - self.inside)

    def latency(self, rounds: int) -> Expr:
        """Seconds of latency of *rounds* rounds over all devices, without the transfer of bytes."""
        inside = steps(self.local, self.algorithm) * self.step
        across = steps(self.devices / self.local, self.algorithm) * self.network_step if self.inside is not None else S.Zero
        return self.started + rounds * (inside + across)

    def wires(self, x: Tensor, times: Expr, inside: Expr, across: Expr) -> tuple[Access, ...]:
        """The transfer of a tensor, *times* times: a share *inside* over the link and, with several nodes, *across* over the network."""
        link = (over_link(x, times * inside),)
        return link if self.inside is None else (*link, over_network(x, times * across))


def all_reduce(name: str, part: Access, into: Tensor, group: Group) -> Operator:
    """All-reduce: the sum of the tensors of n devices, on all of them.

    ============ ===========================================================================
    link         ``2 (n - 1) / n`` of the payload, one way
    latency      ``l_0 + 2 (n - 1) t_l`` on a ring, ``l_0 + 2 ceil(log2 n) t_l`` with trees
    with nodes   a reduce-scatter within nodes, an all-reduce of a device's part across, an all-gather within:
                 ``2 (i - 1) / i`` over the link, ``2 (n / i - 1) / (n / i) / i = 2 (n - i) / (n i)`` over the network
    ============ ===========================================================================

    The three phases are pipelined in chunks, so link and network transfer concurrently, as in NCCL. Two trees that each
    carry half of the payload transfer as much on average as a ring. The payload is the access *part*, with its repeats.

    >>> from symroof.operators.tensor import Space, axes_of
    >>> from symroof.symbols import a, b, d, n_p
    >>> x, y = (Tensor(name, axes_of("b d"), Storage.ACTIVATION, Space({"b": b, "d": d})) for name in "xy")
    >>> print(all_reduce("x.all_reduce", Access(x), y, Group(n_p)).byte_count(level=Level.LINK))
    a*b*d*(n_p - 1)/(4*n_p)
    >>> print(all_reduce("x.all_reduce", Access(x), y, Group(Integer(32), Integer(8))).byte_count(level=Level.NETWORK))
    3*a*b*d/128

    Sources: Patarasuk and Yuan (2009), doi:10.1016/j.jpdc.2008.09.002 (ring); Sanders, Speck and Träff (2009),
    doi:10.1016/j.parco.2009.09.001 (two trees); Cho, Finkler, Kung and Hunter (2019), BlueConnect, MLSys (phases by tier).
    """
    inside, across = _shares(group)
    wires = group.wires(part.tensor, part.repeats, 2 * inside, 2 * across)
    return _moved(name, part, into, wires, group, group.latency(rounds=2))


def all_gather(name: str, part: Access, into: Tensor, group: Group) -> Operator:
    """All-gather: the parts of n devices, assembled on all of them; ``(n - 1) / n`` of the whole, one way.

    With several nodes, devices of equal rank in their nodes gather across nodes, ``(n - i) / (n i)`` of the whole, then the
    devices of a node gather within, ``(i - 1) / i``.
    """
    return _moved(name, part, into, group.wires(into, part.repeats, *_shares(group)), group, group.latency(rounds=1))


def reduce_scatter(name: str, part: Access, into: Tensor, group: Group) -> Operator:
    """Reduce-scatter: the sum of the tensors of n devices, one part per device; the bytes of an all-gather, reversed."""
    return _moved(name, part, into, group.wires(part.tensor, part.repeats, *_shares(group)), group, group.latency(rounds=1))


def all_to_all(name: str, rows: Access, into: Tensor, group: Group) -> Operator:
    """All-to-all: every device keeps its own part of its rows and sends each of the others its part.

    ============ ==============================================================
    link         ``(i - 1) / n`` of the rows
    network      ``(n - i) / n`` of the rows
    latency      ``l_x + (n - 1) t_x``, plus ``t_n`` once if the devices span several nodes
    ============ ==============================================================

    Transfers to different peers do not wait for each other.
    """
    n, i = group.devices, group.local
    late = group.started + (n - 1) * group.step + group.leaves * group.network_step
    return _moved(name, rows, into, group.wires(into, rows.repeats, (i - 1) / n, (n - i) / n), group, late)


def send(name: str, x: Tensor, times: Expr = S.One, group: Group | None = None, slots: Expr = S.One) -> Operator:
    """Send a tensor to the next of n devices and receive as much from the previous one; all wait for the slowest.

    If the devices span several nodes, the last device of a node sends over the network. Latency is ``l_x + t_x``, plus ``t_n`` there.

    Parameters
    ----------
    slots : how often its latency counts.
    """
    between = Group(Integer(2)) if group is None else group
    wires, late = neighbour(x, times, between), between.overhead + between.step + between.leaves * between.network_step
    own = (Access(x, repeats=Integer(0)),)
    return Operator(name, Kind.COLLECTIVE, x.space, (), own, wires, latency=slots * late, role=Role.COMMUNICATION)


def neighbour(x: Tensor, times: Expr, group: Group) -> tuple[Access, ...]:
    """The transfer of a tensor to the next device, *times* times: over the link, and from a node's last device over the network."""
    link = (over_link(x, times),)
    return link if group.inside is None else (*link, over_network(x, times * group.leaves))


def over_link(x: Tensor, times: Expr) -> Access:
    """A tensor in transfer over the link: its bytes count there and take no memory."""
    return Access(replace(x, name=f"{x.name} over the link", storage=Storage.ACTIVATION, level=Level.LINK), repeats=times)


def over_network(x: Tensor, times: Expr) -> Access:
    """A tensor in transfer to another node."""
    return Access(replace(x, name=f"{x.name} over the network", storage=Storage.ACTIVATION, level=Level.NETWORK), repeats=times)


def _shares(group: Group) -> tuple[Expr, Expr]:
    """The shares of the payload that one round moves over the link and over the network."""
    n, i = group.devices, group.local
    return (i - 1) / i, (n - i) / (n * i)


def _moved(name: str, x: Access, into: Tensor, wires: tuple[Access, ...], group: Group, latency: Expr) -> Operator:
    reads, writes = (Access(tensor, repeats=Integer(0)) for tensor in (x.tensor, into))
    return Operator(
        name,
        Kind.COLLECTIVE,
        x.tensor.space,
        (),
        (reads,),
        (writes, *wires),
        latency=latency,
        peers=group.local - 1,
        role=Role.COMMUNICATION,
        linear_in=1,
    )
