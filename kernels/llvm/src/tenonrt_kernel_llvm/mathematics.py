"""Elementary functions on vectors of floats, as polynomials and exponent arithmetic. NaN and infinities propagate.

Errors are stated in units in the last place (ulp) of float32, against double precision, over the whole range.
"""

from __future__ import annotations

import math

from tenonrt_kernel_llvm.emitter import I32, Function, Value, lanes_of, vector
from tenonrt_kernel_llvm.target import AVX512

_LOG2E = 1.4426950408889634
_MAGIC = 12582912.0  # 1.5 * 2**23: the low bits of a sum with it are the nearest integer
_LN2_HIGH, _LN2_LOW = 0.693359375, -2.12194440e-4  # their sum is ln 2; products with small integers are exact
_EXP = [
    1.9875691500e-4,
    1.3981999507e-3,
    8.3334519073e-3,
    4.1665795894e-2,
    1.6666665459e-1,
    0.5,
]  # (e**r - 1 - r) / r**2
# e**r within 1.1e-7 of itself for |r| <= ln(2) / 2: the least greatest relative error of degree 5 with 1 + r given
_EXP_SHORT = [8.312520571053028e-3, 4.189015552401543e-2, 0.16667114198207855, 0.499992311000824, 1.0, 1.0]
_AS_SET = 4  # rounding as the processor is set to
_LESS_MAGNITUDE = 2  # of two numbers, with the sign of the first
_PARTS = 32  # of an octave, as many as two registers of AVX-512 hold


def polynomial(fn: Function, x: Value, coefficients: list[float]) -> Value:
    """Horner's rule, the highest coefficient first."""
    result = fn.constant(x.type, coefficients[0])
    for coefficient in coefficients[1:]:
        result = fn.fma(result, x, fn.constant(x.type, coefficient))
    return result


def maximum(fn: Function, a: Value, b: Value) -> Value:
    """The greater; NaN when ``a`` is NaN."""
    return fn.select(fn.compare("olt", a, b), b, a)


def minimum(fn: Function, a: Value, b: Value) -> Value:
    """The lesser; NaN when ``a`` is NaN."""
    return fn.select(fn.compare("ogt", a, b), b, a)


def absolute(fn: Function, x: Value) -> Value:
    """The magnitude."""
    return fn.intrinsic("fabs", x.type, [x])


def copy_sign(fn: Function, magnitude: Value, sign: Value) -> Value:
    """The magnitude of one with the sign of the other."""
    return fn.intrinsic("copysign", magnitude.type, [magnitude, sign])


def is_nan(fn: Function, x: Value) -> Value:
    """True where it is no number."""
    return fn.compare("uno", x, x)


def square_root(fn: Function, x: Value) -> Value:
    """Correctly rounded."""
    return fn.intrinsic("sqrt", x.type, [x])


def _round_to_integer(fn: Function, x: Value) -> tuple[Value, Value]:
    """The nearest integer as float and as int32, for |x| < 2**22: adding 1.5 * 2**23 leaves it in the low bits."""
    magic = fn.constant(x.type, _MAGIC)
    shifted = x + magic
    bits = fn.convert("bitcast", shifted, I32)
    return shifted - magic, bits - 0x4B400000


def _power_of_two(fn: Function, n: Value, type: str) -> Value:
    """2**n for integers from -126 to 127."""
    bits = fn.binary("shl", n + 127, fn.constant(n.type, 23))
    return fn.emit(type, f"bitcast {bits.type} {bits.text} to {type}")


def _two_to_the(fn: Function, shifted: Value) -> Value:
    """2**n for the sum of `_MAGIC` and an integer n from -126 to 127."""
    bits = fn.convert("bitcast", shifted, I32)
    power = fn.binary("shl", bits, fn.constant(bits.type, 23)) + 0x3F800000
    return fn.convert("bitcast", power, "float")


def _is_avx512(fn: Function, x: Value) -> bool:
    """Whether x fills a register of AVX-512, whose own instructions can be used."""
    return fn.target == AVX512 and lanes_of(x.type) == AVX512.lanes


def reciprocal(fn: Function, x: Value) -> Value:
    """1 / x within 1 ulp where both are normal numbers: with AVX-512 in a third of a division's time (Newton)."""
    one = fn.constant(x.type, 1.0)
    if not _is_avx512(fn, x):
        return one / x
    near = fn.instruction("x86.avx512.rcp14.ps.512", x.type, [x, fn.zero(x.type), fn.constant("i16", -1)])
    return fn.fma(near, fn.fma(-x, near, one), near)


def exp(fn: Function, x: Value) -> Value:
    """Within 2 ulp; subnormal results are 0, and exp(-inf) = 0, exp(inf) = inf (Cephes' polynomial)."""
    low, high = fn.constant(x.type, -87.33654), fn.constant(x.type, 88.72283)
    inside = minimum(fn, maximum(fn, x, low), high)
    n, integer = _round_to_integer(fn, inside * _LOG2E)
    r = fn.fma(n, fn.constant(x.type, -_LN2_HIGH), inside)
    r = fn.fma(n, fn.constant(x.type, -_LN2_LOW), r)
    p = polynomial(fn, r, _EXP)
    result = fn.fma(p, r * r, r) + 1.0
    half = fn.binary("ashr", integer, fn.constant(integer.type, 1))  # 2**128 takes two factors
    result = result * _power_of_two(fn, half, x.type) * _power_of_two(fn, integer - half, x.type)
    result = fn.select(fn.compare("ogt", x, high), fn.constant(x.type, math.inf), result)
    return fn.select(fn.compare("olt", x, low), fn.zero(x.type), result)


def _exp_factors(fn: Function, x: Value, factor: float, nan: bool = True) -> tuple[Value, Value]:
    """Two numbers whose product is exp(factor * x), where extremes do not matter: within exp(+-87).

    The product is within 2 ulp for arguments between -10 and 10 and 4 beyond: ln 2 is nearly a float32, so that one
    product reduces the argument. That is half the work of `exp`, and adding to it takes no more than a multiply-add. A
    factor that is no power of two costs as much accuracy as multiplying by it would. nan: whether NaN must propagate.
    """
    inside = _inside(fn, x, 87.0 / abs(factor), nan)
    if _is_avx512(fn, x):
        return _exp_by_table(fn, inside, factor)
    magic = fn.constant(x.type, _MAGIC)
    if not fn.target.fma:
        inside, factor = inside * factor, 1.0
    shifted = fn.fma(inside, fn.constant(x.type, factor * _LOG2E), magic)
    n = shifted - magic
    reduced = fn.fma(n, fn.constant(x.type, -math.log(2) / factor), inside)  # by factor, as the coefficients know
    r = reduced if fn.target.fma else inside - n * _LN2_HIGH - n * _LN2_LOW
    coefficients = [c * factor ** (5 - k) for k, c in enumerate(_EXP_SHORT)]
    return polynomial(fn, r, coefficients), _two_to_the(fn, shifted)


def _inside(fn: Function, x: Value, limit: float, nan: bool) -> Value:
    """The nearest number between -limit and limit. nan False: NaN becomes one of them."""
    bound = fn.constant(x.type, limit)
    if nan or not _is_avx512(fn, x):
        return minimum(fn, maximum(fn, x, fn.constant(x.type, -limit)), bound)
    operands = [x, bound, fn.constant(I32, _LESS_MAGNITUDE), fn.zero(x.type), fn.constant("i16", -1)]
    return fn.instruction("x86.avx512.mask.range.ps.512", x.type, [*operands, fn.constant(I32, _AS_SET)])


def _exp_by_table(fn: Function, x: Value, factor: float) -> tuple[Value, Value]:
    """`_exp_factors` for |factor * x| <= 87: 2**n from the exponent's arithmetic, the 32nds of it from two registers.

    What is left is so small that two terms are within 5.4e-8 of it, in place of five.
    """
    step, magic = math.log(2) / _PARTS, fn.constant(x.type, _MAGIC / _PARTS)
    shifted = fn.fma(x, fn.constant(x.type, factor * _LOG2E), magic)
    n = shifted - magic  # in whole 32nds, whose number is in the low bits of the sum
    r = fn.fma(n, fn.constant(x.type, -math.log(2) / factor), x)
    powers = [2.0 ** (part / _PARTS) for part in range(_PARTS)]
    low, high = (fn.lane_constants("float", powers[start : start + 16]) for start in (0, 16))
    index = fn.convert("bitcast", shifted, I32)
    part = fn.instruction("x86.avx512.vpermi2var.ps.512", x.type, [low, index, high])
    # e**r = 1 + r + r*r/2 + r**3/6, the last term as the best linear function of r for |r| <= step / 2
    rest = polynomial(fn, r, [0.5 * factor * factor, (1 + step * step / 32) * factor, 1.0])
    operands = [part, n, fn.zero(x.type), fn.constant("i16", -1), fn.constant(I32, _AS_SET)]
    return rest, fn.instruction("x86.avx512.mask.scalef.ps.512", x.type, operands)


def exp_up_to_zero(fn: Function, x: Value) -> Value:
    """exp(x) for x <= 0 or NaN, within 2 ulp; what would be subnormal is 0. One factor less than in general."""
    low = fn.constant(x.type, -87.33654)
    inside = maximum(fn, x, low)
    magic = fn.constant(x.type, _MAGIC)
    shifted = fn.fma(inside, fn.constant(x.type, _LOG2E), magic)
    n = shifted - magic
    r = fn.fma(n, fn.constant(x.type, -_LN2_HIGH), inside)
    r = fn.fma(n, fn.constant(x.type, -_LN2_LOW), r)
    p = polynomial(fn, r, _EXP)
    result = fn.fma(p, r * r, r) + 1.0
    scaled = result * _two_to_the(fn, shifted)
    return fn.select(fn.compare("olt", x, low), fn.zero(x.type), scaled)


def sigmoid(fn: Function, x: Value) -> Value:
    """1 / (1 + exp(-x)), within 4 ulp between -10 and 10 and 7 beyond, or 2e-38 where it is smaller."""
    return reciprocal(fn, _one_and_exp(fn, x, -1.0))


def product_with_sigmoid(fn: Function, x: Value, factor: float) -> Value:
    """x / (1 + exp(-factor * x)), as exact as `sigmoid`."""
    return x * reciprocal(fn, _one_and_exp(fn, x, -factor, nan=False))


def _one_and_exp(fn: Function, x: Value, factor: float, nan: bool = True) -> Value:
    return fn.fma(*_exp_factors(fn, x, factor, nan), fn.constant(x.type, 1.0))


def tanh(fn: Function, x: Value) -> Value:
    """Within 4 ulp: an odd polynomial below 0.625, else 1 - 2 / (exp(2|x|) + 1) (Cephes)."""
    size = absolute(fn, x)
    s = x * x
    p = polynomial(fn, s, [-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1])
    small = copy_sign(fn, fn.fma(p * s, x, x), x)
    one = fn.constant(x.type, 1.0)
    large = fn.fma(fn.constant(x.type, -2.0), reciprocal(fn, _one_and_exp(fn, size, 2.0)), one)
    return fn.select(fn.compare("olt", size, 0.625), small, copy_sign(fn, large, x))


def erf(fn: Function, x: Value) -> Value:
    """Within 7 ulp: an odd rational function on -4 to 4, beyond which erf is 1 in float32 (Eigen's coefficients)."""
    inside = minimum(fn, maximum(fn, x, fn.constant(x.type, -4.0)), fn.constant(x.type, 4.0))
    s = inside * inside
    p = polynomial(fn, s, [
        -2.72614225801306e-10, 2.77068142495902e-8, -2.10102402082508e-6, -5.69250639462346e-5, -7.34990630326855e-4,
        -2.95459980854025e-3, -1.60960333262415e-2,
    ])  # fmt: skip
    q = polynomial(fn, s, [
        -1.45660718464996e-5, -2.13374055278905e-4, -1.68282697438203e-3, -7.37332916720468e-3, -1.42647390514189e-2,
    ])  # fmt: skip
    return inside * p * reciprocal(fn, q)


def log(fn: Function, x: Value) -> Value:
    """Within 3 ulp; log(0) = -inf, NaN below 0 (Cephes' polynomial)."""
    type, ints = x.type, vector(lanes_of(x.type), I32)
    subnormal = fn.compare("olt", x, 1.17549435e-38)
    scaled = fn.select(subnormal, x * 8388608.0, x)
    bits = fn.convert("bitcast", scaled, I32)
    exponent = fn.binary("ashr", bits, fn.constant(ints, 23)) - 126
    mantissa_bits = fn.binary(
        "or", fn.binary("and", bits, fn.constant(ints, 0x007FFFFF)), fn.constant(ints, 0x3F000000)
    )
    m = fn.emit(type, f"bitcast {ints} {mantissa_bits.text} to {type}")
    small = fn.compare("olt", m, math.sqrt(0.5))
    e = fn.convert("sitofp", exponent, "float") - fn.select(subnormal, fn.constant(type, 23.0), fn.zero(type))
    e = e - fn.select(small, fn.constant(type, 1.0), fn.zero(type))
    r = m + fn.select(small, m, fn.zero(type)) - 1.0
    p = polynomial(fn, r, [
        7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1,
        2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1,
    ])  # fmt: skip
    z = r * r
    y = p * r * z
    y = fn.fma(e, fn.constant(type, _LN2_LOW), y)
    y = fn.fma(z, fn.constant(type, -0.5), y)
    result = fn.fma(e, fn.constant(type, _LN2_HIGH), r + y)
    result = fn.select(fn.compare("oeq", x, math.inf), x, result)
    result = fn.select(fn.compare("oeq", x, 0.0), fn.constant(type, -math.inf), result)
    return fn.select(fn.compare("ult", x, 0.0), fn.constant(type, math.nan), result)
