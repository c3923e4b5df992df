"""From the step to the service: lines, load, pools, money."""

from __future__ import annotations

from dataclasses import dataclass

from symroof.deployment.core import Core


@dataclass(frozen=True, repr=False, eq=False)
class Service(Core):
    """Questions about a service made of such steps."""
