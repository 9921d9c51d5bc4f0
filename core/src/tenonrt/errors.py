"""Every error TenonRT raises on purpose. Messages name what was found, where, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class TenonError(Exception):
    """Base of all errors raised on purpose."""


class GraphError(TenonError):
    """A network is not well formed, or a layer was given what it cannot take; names the layer."""


class ParseError(TenonError):
    """A model file cannot be read; names the file and the byte, node or field."""


class UnsupportedError(ParseError):
    """A model uses operators that no installed plugin provides; lists all of them with the remedy.

    provided: where the parser says so, how many nodes use each of the other operators, by the names of their mappings;
    a name that begins with ":" is of a function of the model or of the format, made of other operators.
    """

    def __init__(self, message: str, operators: Sequence[str] = (), provided: Mapping[str, int] | None = None) -> None:
        super().__init__(message)
        self.operators = tuple(operators)
        self.provided = dict(provided or {})


class PluginError(TenonError):
    """A plugin is absent, incompatible, blocked, failed to import or broke its contract; names its distribution."""


class BuildError(TenonError):
    """No engine can be built as configured; says which layer lacks what."""


class CancelledError(TenonError):
    """A build was cancelled by its progress callback; nothing was written."""


class PlanError(TenonError):
    """A plan cannot be used; the subclasses say why."""


class NotAPlanError(PlanError):
    """The file is not a plan."""


class PlanVersionError(PlanError):
    """The plan was written by a newer format."""


class PlanDeviceError(PlanError):
    """The plan is for another kind of device."""


class PlanPluginError(PlanError):
    """The plan needs distributions that are not installed or not usable; lists all of them."""


class PlanCorruptError(PlanError):
    """Bytes of the plan are missing or changed; names the section."""


class ExecutionError(TenonError):
    """A step failed or an input was refused while running; names the step or the input."""
