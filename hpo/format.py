"""How single values are written: numbers, errors, shares, counts."""

from __future__ import annotations

import math

LEAST_EXPONENT = 7
"""Powers of ten from which a value with its error is written with one."""
MOST_PLACES = 8


def number(value: float | None, digits: int = 4) -> str:
    """A number with this many significant digits; `n/a` where there is none."""
    if value is None or math.isnan(value):
        return "n/a"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if float(value).is_integer() and abs(value) < 10**6:
        return str(int(value))
    text = f"{value:.{digits}g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return f"{mantissa}e{int(exponent)}"
    return text


def with_sem(value: float, error: float, signed: bool = False) -> str:
    """`value ± error`: two significant digits of the error, and the value to the same place."""
    sign = "+" if signed and value > 0 else ""
    if not math.isfinite(value):
        return sign + number(value)
    if not 0 < error < math.inf:
        return sign + (
            f"{value:#.{3 if signed else 4}g}" if 1e-4 <= abs(value) < 1e4 else number(value)
        ).rstrip(".")
    exponent = math.floor(math.log10(max(abs(value), error)))
    places = _places(error)
    if places + exponent > MOST_PLACES:  # more digits of the value than anybody reads
        return f"{sign}{number(value, MOST_PLACES)} ± {number(error, 2)}"
    if exponent >= LEAST_EXPONENT or places > MOST_PLACES:
        unit, places = 10.0**exponent, places + exponent
        one, other = (_rounded(each / unit, places) for each in (value, error))
        return f"{sign}({one} ± {other})e{exponent}"
    return f"{sign}{_rounded(value, places)} ± {_rounded(error, places)}"


def _places(error: float) -> int:
    """Decimal places of its second significant digit, once it is rounded to two; below 0 before
    the point."""
    return 1 - int(f"{error:.1e}".split("e")[1])


def _rounded(value: float, places: int) -> str:
    return f"{round(value, places):.{max(0, places)}f}"


def percent(share: float) -> str:
    """A probability; never a round 0 or 100 that is not one."""
    if math.isnan(share):
        return "n/a"
    if 0 < share < 0.01:
        return "< 1 %"
    return "> 99 %" if 0.99 < share < 1 else f"{100 * share:.0f} %"


def amount(count: float) -> str:
    """A large count with three digits, such as 9.52M tokens."""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if float(f"{count:.3g}") >= size:
            return f"{float(f'{count / size:.3g}'):g}{unit}"
    return number(count, 3)


def plural(count: float, one: str, several: str | None = None) -> str:
    """A count with its noun: 1 trial, 2 trials."""
    return f"{count:,} {one if count == 1 else several or one + 's'}"
