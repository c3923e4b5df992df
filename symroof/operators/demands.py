"""Demands: what an operator asks of the resources of a machine."""

from __future__ import annotations

from enum import StrEnum


class Resource(StrEnum):
    """Something a machine provides at a rate; an operator is bound by the one that keeps it longest.

    FLOPs of contractions are demand on COMPUTE, the matrix units; all other FLOPs on VECTOR. A machine that states no vector
    peak does both on its matrix units.
    """

    COMPUTE = "compute"
    VECTOR = "vector"
    EXPONENTIAL = "exponential"
    MEMORY = "memory"
    HOST = "host"
    LINK = "link"
    CHIP = "chip"
    CACHE = "cache"
