"""TenonRT: an inference optimizer and runtime in which every part is a plugin.

Nothing is imported until it is used, so ``import tenonrt`` costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tenonrt.api import compile, layer_type, parse
    from tenonrt.builder.builder import Builder
    from tenonrt.builder.config import BuilderConfig
    from tenonrt.calibration.session import Calibration
    from tenonrt.dims import symbol
    from tenonrt.errors import (
        BuildError,
        CancelledError,
        ExecutionError,
        GraphError,
        ParseError,
        PlanError,
        PluginError,
        TenonError,
        UnsupportedError,
    )
    from tenonrt.exporting import convert
    from tenonrt.graph.network import Network
    from tenonrt.plan.program import BuildReport
    from tenonrt.plugins.registry import Registry, current_registry, using
    from tenonrt.plugins.selection import PluginSet
    from tenonrt.runtime.context import ExecutionContext
    from tenonrt.runtime.engine import Engine
    from tenonrt.workers import WorkerDiedError, WorkerProcess, serve

_HOMES = {
    "api": "compile layer_type parse",
    "builder.builder": "Builder",
    "builder.config": "BuilderConfig",
    "calibration.session": "Calibration",
    "dims": "symbol",
    "errors": "BuildError CancelledError ExecutionError GraphError ParseError PlanError PluginError TenonError "
    "UnsupportedError",
    "exporting": "convert",
    "graph.network": "Network",
    "plan.program": "BuildReport",
    "plugins.registry": "Registry current_registry using",
    "plugins.selection": "PluginSet",
    "runtime.context": "ExecutionContext",
    "runtime.engine": "Engine",
    "workers": "WorkerDiedError WorkerProcess serve",
}
_WHERE = {name: module for module, names in _HOMES.items() for name in names.split()}

__all__ = [
    "BuildError", "BuildReport", "Builder", "BuilderConfig", "Calibration", "CancelledError", "Engine",
    "ExecutionContext", "ExecutionError", "GraphError", "Network", "ParseError", "PlanError", "PluginError",
    "PluginSet", "Registry", "TenonError", "UnsupportedError", "WorkerDiedError", "WorkerProcess", "compile", "convert",
    "current_registry", "layer_type", "parse", "serve", "symbol", "using",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'tenonrt' has no attribute {name!r}")
    return getattr(import_module(f"tenonrt.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return __all__
