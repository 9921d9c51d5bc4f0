"""Symbolic dimensions: integers, named symbols with a range, and the arithmetic that shape inference needs.

A dimension is a plain ``int`` or a `Dim`. A `Dim` is kept as a polynomial in canonical form, so that two expressions
that are equal by the ring laws compare equal: ``(n + 1) * 2 == 2 * n + 2``. Polynomials divide exactly where they can.
Division, remainder, maximum and minimum that cannot be simplified stay as opaque atoms of that polynomial. A `Dim` that
becomes constant turns into an ``int``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from operator import index
from typing import Literal

import msgspec

Operator = Literal["//", "%", "max", "min"]


class Symbol(msgspec.Struct, frozen=True, tag="symbol", omit_defaults=True):
    """A named non-negative integer known only when a network runs; ``upper`` None means unbounded.

    typical: the value that kernels are timed at; None is the largest.
    """

    name: str
    lower: int = 0
    upper: int | None = None
    typical: int | None = None

    def renamed(self, name: str) -> Dimension:
        """The same range under another name."""
        return symbol(name, self.lower, self.upper, self.typical)

    @property
    def tuned_at(self) -> int:
        """The value that kernels are timed at; the least, but not 0, where there is no largest."""
        largest = self.upper if self.upper is not None else max(1, self.lower)
        return largest if self.typical is None else self.typical


class Apply(msgspec.Struct, frozen=True, tag="apply"):
    """An operation that the polynomial form cannot absorb."""

    operator: Operator
    left: int | Dim
    right: int | Dim


Atom = Symbol | Apply
Monomial = tuple[Atom, ...]
Term = tuple[Monomial, int]


class Dim(msgspec.Struct, frozen=True):
    """A polynomial over atoms: ``((monomial, coefficient), ...)`` sorted; the empty monomial is the constant term."""

    terms: tuple[tuple[Monomial, int], ...]

    def __add__(self, other: Dimension) -> Dimension:
        return _collect([*self.terms, *_terms(other)])

    __radd__ = __add__

    def __neg__(self) -> Dimension:
        return self * -1

    def __sub__(self, other: Dimension) -> Dimension:
        return self + -1 * other

    def __rsub__(self, other: Dimension) -> Dimension:
        return -1 * self + other

    def __mul__(self, other: Dimension) -> Dimension:
        return _collect((a + b, p * q) for a, p in self.terms for b, q in _terms(other))

    __rmul__ = __mul__

    def __floordiv__(self, other: Dimension) -> Dimension:
        return _divide(self, other)

    def __rfloordiv__(self, other: Dimension) -> Dimension:
        return _divide(other, self)

    def __mod__(self, other: Dimension) -> Dimension:
        return _remainder(self, other)

    def __rmod__(self, other: Dimension) -> Dimension:
        return _remainder(other, self)

    def __lt__(self, other: Dimension) -> bool:
        return not self >= other

    def __gt__(self, other: Dimension) -> bool:
        return not self <= other

    def __ge__(self, other: Dimension) -> bool:
        lower, upper = bounds(self - other)
        if lower is not None and lower >= 0:
            return True
        if upper is not None and upper < 0:
            return False
        raise UndecidedError(f"cannot tell whether {self} >= {other}: the symbols' ranges allow both")

    def __le__(self, other: Dimension) -> bool:
        lower, upper = bounds(self - other)
        if upper is not None and upper <= 0:
            return True
        if lower is not None and lower > 0:
            return False
        raise UndecidedError(f"cannot tell whether {self} <= {other}: the symbols' ranges allow both")

    def __str__(self) -> str:
        return " + ".join(_term_text(m, c) for m, c in self.terms).replace("+ -", "- ")


Dimension = int | Dim


class UndecidedError(ValueError):
    """A comparison of symbolic dimensions has no answer for all values in their ranges."""


def symbol(name: str, lower: int = 0, upper: int | None = None, typical: int | None = None) -> Dimension:
    """Make a symbolic dimension; one whose range holds a single value is that ``int``.

    typical: the value that kernels are timed at, the largest where it is None.
    """
    if upper is not None and upper < lower:
        raise ValueError(f"symbol {name!r} has an empty range {lower}..{upper}")
    if typical is not None and (typical < lower or (upper is not None and typical > upper)):
        raise ValueError(f"symbol {name!r} is to be tuned at {typical}, outside of {lower}..{upper}")
    return lower if upper == lower else _atom(Symbol(name, lower, upper, typical))


# A model's arithmetic on symbolic shapes can square a sum or nest a quotient at every node, which doubles its cost.
# Real networks stay below a tenth of these limits.
MAX_TERMS, MAX_ATOMS, MAX_DEPTH, MAX_COEFFICIENT = 512, 2048, 64, 2**128


class DimensionLimitError(ValueError):
    """A symbolic dimension grew too long to reason about."""

    def __init__(self) -> None:
        super().__init__(
            f"a symbolic dimension has more than {MAX_TERMS} terms or {MAX_ATOMS} symbols, nests deeper "
            f"than {MAX_DEPTH} or has coefficients past 2**128; give some of the symbols a fixed size"
        )


UNKNOWN = "?"


def unknown(upper: Dimension | None = None, lower: int = 0) -> Dimension:
    """A dimension that is known only after a layer ran; the graph gives each occurrence a name of its own.

    Use it as it is: until it has its name, two of them in one expression would be taken for the same size.
    """
    limit = bounds(upper)[1] if upper is not None else None
    return symbol(UNKNOWN, lower, limit)


def maximum(left: Dimension, right: Dimension) -> Dimension:
    """The larger of two dimensions; symbolic only when their ranges overlap."""
    return _select("max", left, right)


def minimum(left: Dimension, right: Dimension) -> Dimension:
    """The smaller of two dimensions; symbolic only when their ranges overlap."""
    return _select("min", left, right)


def product(dimensions: Iterable[Dimension]) -> Dimension:
    """The product of dimensions; 1 for none."""
    result: Dimension = 1
    for dimension in dimensions:
        result = result * dimension
    return result


def symbols(dimension: Dimension) -> Iterator[Symbol]:
    """Every symbol in a dimension, repeats included."""
    if isinstance(dimension, Dim):
        for monomial, _ in dimension.terms:
            for atom in monomial:
                if isinstance(atom, Symbol):
                    yield atom
                else:
                    yield from symbols(atom.left)
                    yield from symbols(atom.right)


def substitute(dimension: Dimension, values: Mapping[str, Dimension]) -> Dimension:
    """Replace symbols by name; those not in ``values`` stay."""
    if not isinstance(dimension, Dim):
        return dimension
    total: Dimension = 0
    for monomial, coefficient in dimension.terms:
        total = total + product([coefficient, *(_substitute_atom(atom, values) for atom in monomial)])
    return total


def evaluate(dimension: Dimension, values: Mapping[str, int]) -> int:
    """The value of a dimension; `KeyError` names a symbol without one."""
    result = substitute(dimension, values)
    if isinstance(result, Dim):
        raise KeyError(next(symbols(result)).name)
    return result


def bounds(dimension: Dimension) -> tuple[int | None, int | None]:
    """The least and the greatest value over the symbols' ranges (interval arithmetic); None is unbounded."""
    if isinstance(dimension, int):
        return dimension, dimension
    total: tuple[int | None, int | None] = (0, 0)
    for monomial, coefficient in dimension.terms:
        interval: tuple[int | None, int | None] = (1, 1)
        for atom in monomial:
            interval = _times(interval, _atom_bounds(atom))
        interval = _scale(interval, coefficient)
        total = (_plus(total[0], interval[0]), _plus(total[1], interval[1]))
    return total


def _terms(dimension: Dimension) -> tuple[Term, ...]:
    return dimension.terms if isinstance(dimension, Dim) else (((), _integer(dimension)),)


def _integer(value: int) -> int:
    try:
        return index(value)
    except TypeError:
        raise TypeError(f"dimensions are integers, and one is combined with {value!r}") from None


def _collect(terms: Iterable[tuple[Monomial, int]]) -> Dimension:
    total: dict[Monomial, int] = {}
    for factors, coefficient in terms:
        monomial = tuple(sorted(factors, key=repr))
        total[monomial] = total.get(monomial, 0) + coefficient
        if len(total) > MAX_TERMS or len(monomial) > MAX_ATOMS:
            raise DimensionLimitError
    kept = {m: c for m, c in total.items() if c}
    if not any(kept):
        return kept.get((), 0)
    return _limited(Dim(tuple(sorted(kept.items(), key=repr))))


def _atom(atom: Atom) -> Dim:
    return _limited(Dim((((atom,), 1),)))


def _limited(dimension: Dim) -> Dim:
    """The dimension itself, when it is of a size to reason about."""
    if any(abs(coefficient) > MAX_COEFFICIENT for _, coefficient in dimension.terms):
        raise DimensionLimitError
    atoms, depth = _extent(dimension)
    if atoms > MAX_ATOMS or depth > MAX_DEPTH:
        raise DimensionLimitError
    return dimension


def _extent(dimension: Dimension) -> tuple[int, int]:
    """How many symbols and operations there are, and how deep operations nest."""
    if isinstance(dimension, int):
        return 1, 0
    count = depth = 0
    for monomial, _ in dimension.terms:
        for atom in monomial:
            count += 1
            if isinstance(atom, Apply):
                left, right = _extent(atom.left), _extent(atom.right)
                count, depth = count + left[0] + right[0], max(depth, 1 + left[1], 1 + right[1])
    return count, depth


def _divide(left: Dimension, right: Dimension) -> Dimension:
    """Floor division: exact where polynomials divide; else the divisible terms leave a quotient by an integer.

    floor((4n + m) / 4) = n + floor(m / 4); the rest stays an atom.
    """
    if isinstance(right, Dim):
        quotient = _exact_quotient(left, right)
        return _atom(Apply("//", left, right)) if quotient is None else quotient
    _check_divisor(right)
    whole = [(m, c // right) for m, c in _terms(left) if c % right == 0]
    rest = _collect((m, c) for m, c in _terms(left) if c % right)
    quotient = rest // right if isinstance(rest, int) else _atom(Apply("//", rest, right))
    return _collect(whole) + quotient


def _exact_quotient(left: Dimension, right: Dim) -> Dimension | None:
    """The polynomial that times ``right`` is ``left``, by long division; None when there is none."""
    quotient: Dimension = 0
    rest = left
    divisor = _leading_term(right)
    while rest != 0:
        term = _term_quotient(_leading_term(rest), divisor)
        if term is None:
            return None
        quotient = quotient + term
        rest = rest - term * right
    return quotient


def _leading_term(dimension: Dimension) -> Term:
    """The greatest term by degree, then by alphabet: an order that products keep, so that long division ends."""
    return min(_terms(dimension), key=lambda term: (-len(term[0]), [repr(atom) for atom in term[0]]))


def _term_quotient(left: Term, right: Term) -> Dimension | None:
    above, below = Counter(left[0]), Counter(right[0])
    if below - above or left[1] % right[1]:
        return None
    return _collect([(tuple((above - below).elements()), left[1] // right[1])])


def _remainder(left: Dimension, right: Dimension) -> Dimension:
    if isinstance(left, int) and isinstance(right, int):
        _check_divisor(right)
        return left % right
    if isinstance(right, Dim):
        divides = _exact_quotient(left, right) is not None
    else:
        _check_divisor(right)
        divides = all(c % right == 0 for _, c in _terms(left))
    if divides:
        return 0
    return _atom(Apply("%", left, right))


def _check_divisor(divisor: int) -> None:
    """Bounds assume positive divisors; a symbolic one is checked when its value is known."""
    if _integer(divisor) <= 0:
        raise ZeroDivisionError(f"a dimension is divided by {divisor}")


def _select(operator: Literal["max", "min"], left: Dimension, right: Dimension) -> Dimension:
    if isinstance(left, int) and isinstance(right, int):
        return max(left, right) if operator == "max" else min(left, right)
    low, high = bounds(left - right)
    if low is not None and low >= 0:
        return left if operator == "max" else right
    if high is not None and high <= 0:
        return right if operator == "max" else left
    first, second = sorted((left, right), key=repr)
    return _atom(Apply(operator, first, second))


def _substitute_atom(atom: Atom, values: Mapping[str, Dimension]) -> Dimension:
    if isinstance(atom, Symbol):
        return values[atom.name] if atom.name in values else _atom(atom)
    left, right = substitute(atom.left, values), substitute(atom.right, values)
    if atom.operator == "//":
        return _divide(left, right)
    if atom.operator == "%":
        return _remainder(left, right)
    return _select(atom.operator, left, right)


Bound = int | None


def _plus(a: Bound, b: Bound) -> Bound:
    return None if a is None or b is None else a + b


def _times(a: tuple[Bound, Bound], b: tuple[Bound, Bound]) -> tuple[Bound, Bound]:
    if None in a or None in b:
        nonnegative = a[0] is not None and a[0] >= 0 and b[0] is not None and b[0] >= 0
        return (a[0] * b[0], None) if nonnegative and a[0] is not None and b[0] is not None else (None, None)
    corners = [x * y for x in a for y in b if x is not None and y is not None]
    return min(corners), max(corners)


def _scale(interval: tuple[Bound, Bound], factor: int) -> tuple[Bound, Bound]:
    low, high = (None if bound is None else bound * factor for bound in interval)
    return (low, high) if factor >= 0 else (high, low)


def _atom_bounds(atom: Atom) -> tuple[Bound, Bound]:
    if isinstance(atom, Symbol):
        return atom.lower, atom.upper
    left, right = bounds(atom.left), bounds(atom.right)
    if atom.operator == "//":
        return _quotient_bounds(left, right)
    if atom.operator == "%":
        return 0, None if right[1] is None else right[1] - 1
    if atom.operator == "max":
        low = [b for b in (left[0], right[0]) if b is not None]
        return max(low, default=None), None if None in (left[1], right[1]) else max(left[1] or 0, right[1] or 0)
    high = [b for b in (left[1], right[1]) if b is not None]
    return None if None in (left[0], right[0]) else min(left[0] or 0, right[0] or 0), min(high, default=None)


def _quotient_bounds(left: tuple[Bound, Bound], right: tuple[Bound, Bound]) -> tuple[Bound, Bound]:
    """Bounds of floor(left / right) for a positive divisor; anything else is left open."""
    if right[0] is None or right[0] <= 0:
        return (0, left[1]) if left[0] is not None and left[0] >= 0 else (None, None)
    if left[0] is None:
        return None, None if left[1] is None else max(left[1] // right[0], 0)
    low = left[0] // right[0] if left[0] < 0 else (0 if right[1] is None else left[0] // right[1])
    if left[1] is None:
        return low, None
    if left[1] < 0:  # towards zero as the divisor grows, but never above -1
        return low, -1 if right[1] is None else left[1] // right[1]
    return low, left[1] // right[0]


def _term_text(monomial: Monomial, coefficient: int) -> str:
    factors = [_atom_text(atom) for atom in monomial]
    return "*".join([str(coefficient), *factors] if coefficient != 1 or not factors else factors)


def _atom_text(atom: Atom) -> str:
    if isinstance(atom, Symbol):
        return atom.name
    if atom.operator in ("max", "min"):
        return f"{atom.operator}({atom.left}, {atom.right})"
    return f"(({atom.left}) {atom.operator} {atom.right})"
