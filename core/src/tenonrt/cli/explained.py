"""Why a step is what it is: the alternatives that were priced, nearest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tenonrt.cli.quantities import seconds

if TYPE_CHECKING:
    from tenonrt.plan.program import AlternativeReport, BuildReport, ChoiceReport


def find_choices(report: BuildReport, name: str) -> list[ChoiceReport]:
    """The choices of this name, those that contain this layer or node of the model, or whose name contains it.

    `TenonError` when there are none.
    """
    from tenonrt.errors import TenonError

    sources = {step.name: step.sources for step in report.steps}
    layers = {region.name: region.layers for region in report.regions}
    rules = (
        lambda c: c.region == name,
        lambda c: name in layers.get(c.region, ()) or name in sources.get(c.region, ()),
        lambda c: name.lower() in c.region.lower(),
    )
    for rule in rules:
        if found := [choice for choice in report.choices if rule(choice)]:
            return found
    if not report.choices:
        raise TenonError("the plan holds no alternatives: it was built without timing, or by an earlier version")
    raise TenonError(
        f"no step, layer or node of the model is called {name!r}; `tenonrt inspect PLAN --brief` lists them"
    )


def print_choices(choices: Sequence[ChoiceReport]) -> None:
    """A table for each choice."""
    from rich.text import Text

    from tenonrt.cli.console import output
    from tenonrt.cli.tables import table

    for choice in choices:
        title = f"{choice.region}\n{solver(choice.solver)}, {seconds(choice.seconds)}"
        made = table(title, "instead", "by", "time", "kernels", "reformats", "in all",
                     right=("time", "kernels", "reformats", "in all"), fold=("instead", "by"))  # fmt: skip
        for other in choice.alternatives:
            same = other.region == choice.region
            made.add_row(
                Text("the same region" if same else other.region), Text(solver(other.solver)), seconds(other.seconds),
                signed(other.kernels), signed(other.reformats), signed(other.difference),
            )  # fmt: skip
        output().print(made)
        output().print(Text(verdict(choice)))
        if choice.more:
            output().print(Text(f"{choice.more} alternatives further away are not kept", "dim"))
        output().print()


def verdict(choice: ChoiceReport) -> str:
    """Why it won, in a sentence."""
    if not choice.alternatives:
        return "Nothing else that is installed and allowed computes these layers."
    nearest = choice.alternatives[0]
    return f"It won over the nearest alternative, {solver(nearest.solver)}, {reason(nearest)}."


def reason(other: AlternativeReport) -> str:
    """What an alternative would cost."""
    whole, kernels, reformats = (abs(s) for s in (other.difference, other.kernels, other.reformats))
    if other.difference < 0:
        return f"although the first times had that {seconds(whole)} faster: times in place or as a whole decided"
    if whole < 5e-10:
        return "which costs the same: recorded choices and lower ids come first"
    if other.kernels < 0:
        return f"whose kernels are {seconds(kernels)} faster: its reformats cost {seconds(reformats)} more"
    if other.reformats < 0:
        return f"which saves {seconds(reformats)} of reformats: its kernels are {seconds(kernels)} slower"
    if reformats < 5e-10:
        return f"by {seconds(whole)} of kernels"
    return f"by {seconds(whole)}: {seconds(kernels)} of kernels and {seconds(reformats)} of reformats"


def signed(value: float) -> str:
    """With its sign, zero as such."""
    if abs(value) < 5e-10:
        return "0"
    return ("+" if value > 0 else "−") + seconds(abs(value))


def solver(name: str) -> str:
    """A kernel and its tactic as tables call them."""
    from tenonrt.cli.tables import solver_name

    kernel, _, tactic = name.partition("#")
    return solver_name(kernel, tactic or "default")
