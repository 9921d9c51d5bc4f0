"""Exact division of the numbers of elements of symbolic shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from tenonrt.contracts import Dim, Dimension, product

Term = tuple[tuple[Any, ...], int]


def exact_quotient(dividends: Iterable[Dimension], divisors: Iterable[Dimension]) -> Dimension:
    """product(dividends) / product(divisors), which is known to be a whole number.

    Factors common to both cancel; what is left is divided as polynomials where that leaves no remainder, and otherwise
    stays a floor division, right whenever the premise holds. `ValueError` when integers do not divide.
    """
    above, below = Counter(dividends), Counter(divisors)
    dividend, divisor = product((above - below).elements()), product((below - above).elements())
    if isinstance(dividend, int) and isinstance(divisor, int):
        if divisor == 0 or dividend % divisor:
            whole, part = product(above.elements()), product(below.elements())
            raise ValueError(f"{whole} elements cannot be divided by {part}")
        return dividend // divisor
    quotient = _polynomial_quotient(dividend, divisor)
    return dividend // divisor if quotient is None else quotient


def _polynomial_quotient(dividend: Dimension, divisor: Dimension) -> Dimension | None:
    """The polynomial that times ``divisor`` is ``dividend``, where the divisor or the quotient has a single term."""
    first, *others = _terms(divisor)
    parts = [_monomial_quotient(term, first) for term in _terms(dividend)]
    candidates = [part for part in parts if part is not None]
    if not others and len(candidates) == len(parts):
        candidates = [sum(candidates[1:], start=candidates[0])]
    return next((q for q in candidates if q * divisor == dividend), None)


def _monomial_quotient(term: Term, divisor: Term) -> Dimension | None:
    missing = Counter(divisor[0]) - Counter(term[0])
    if missing or term[1] % divisor[1]:
        return None
    atoms = tuple((Counter(term[0]) - Counter(divisor[0])).elements())
    coefficient = term[1] // divisor[1]
    return Dim(((atoms, coefficient),)) if atoms else coefficient


def _terms(dimension: Dimension) -> tuple[Term, ...]:
    return dimension.terms if isinstance(dimension, Dim) else (((), dimension),)
