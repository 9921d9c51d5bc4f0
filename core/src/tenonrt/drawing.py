"""The ability of executables that draw random numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np


@runtime_checkable
class Draws(Protocol):
    """Ability: draws random numbers, from the generator of the context that it is bound for.

    Then a context's seed decides them, and an impure layer's `LayerType.reference` gets the same from its ``run``.
    """

    def draw_from(self, generator: Callable[[], np.random.Generator]) -> None:
        """Called once, after binding; ask for the generator when drawing: to make one takes longer than to bind."""
