"""What a report says of the passes: apart from them, for whoever runs a plan has no use for the passes."""

from __future__ import annotations

import msgspec


class PatchRecord(msgspec.Struct, frozen=True):
    """One applied patch, for the report."""

    author: str
    layer: str
    reason: str


class LadderStep(msgspec.Struct, frozen=True):
    """How many layers there are after a step of the build."""

    step: str
    layers: int
