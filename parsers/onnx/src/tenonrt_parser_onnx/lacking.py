"""What a model needs and the installation lacks, collected so that one error tells all of it."""

from __future__ import annotations

from dataclasses import dataclass, field

from tenonrt.contracts import UnsupportedError

Operator = tuple[str, str]  # domain, type


@dataclass
class Use:
    """An operator that cannot be translated: its opset, the nodes that use it, and what was said about it."""

    version: int | None
    nodes: dict[str, None] = field(default_factory=dict)
    reasons: dict[str, None] = field(default_factory=dict)


@dataclass
class Lacking:
    """Operators that nothing maps (those without reasons) and operators whose plugins are missing or not usable.

    provided: how many nodes of the model use each of the others, by "format:domain:type"; format "" is a function.
    """

    uses: dict[Operator, Use] = field(default_factory=dict)
    provided: dict[str, int] = field(default_factory=dict)

    def provide(self, format: str, operator: Operator) -> None:
        """A node whose operator is mapped, or made of others."""
        key = ":".join((format, *operator))
        self.provided[key] = self.provided.get(key, 0) + 1

    def add(self, operator: Operator, version: int | None, node: str, reason: str | None = None) -> None:
        use = self.uses.setdefault(operator, Use(version))
        use.nodes[node] = None
        if reason is not None:
            use.reasons[reason] = None

    def error(self) -> UnsupportedError:
        """One message about all operators, with where each is used and what to do."""
        uses = sorted(self.uses.items())
        lines = [f"no installed plugin provides {len(uses)} of the model's operators:"]
        for (domain, kind), use in uses:
            nodes = list(use.nodes)
            used = ", ".join(nodes[:5]) + (f" and {len(nodes) - 5} more" if len(nodes) > 5 else "")
            lines.append(f"  {domain or 'ai.onnx'}:{kind} (opset {use.version or 'not imported'}): {used}")
            lines.extend(f"    {reason}" for reason in use.reasons)
        unmapped = [f"'onnx:{domain}:{kind}'" for (domain, kind), use in uses if not use.reasons]
        if unmapped:
            lines.append(
                "Install the distribution that maps them, or write one: a function (builder, node, inputs) -> tensors, "
                f"registered in the entry point group 'tenonrt.mappings' as {', '.join(unmapped)}."
            )
        provided = {key: count for key, count in self.provided.items() if tuple(key.split(":")[1:]) not in self.uses}
        return UnsupportedError("\n".join(lines), [f"{domain}:{kind}" for (domain, kind), _ in uses], provided)
