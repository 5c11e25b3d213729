"""How single values are written, in the terminal, in hover text and in the report.

Everything returned here is plain text: whoever puts it into markup escapes it.
"""

from __future__ import annotations

import math
import sys
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the command line's parser formats text too, and is to load in no time
    from hpo.core.goals import Limit
    from hpo.core.objective import Value
    from hpo.core.trial import Trial

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
    # More digits of the value than anybody reads, or a power of ten that is no float.
    if places + exponent > MOST_PLACES or exponent < sys.float_info.min_10_exp:
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


def duration(seconds: float) -> str:
    """Such as 1h02m, 3m20s, 7s."""
    whole = round(seconds)
    if whole >= 3600:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 60}m{whole % 60:02d}s" if whole >= 60 else f"{whole}s"


GB = 1e9


def size(count: float) -> str:
    """Bytes with a unit."""
    for unit, factor in (("GB", GB), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{number(count / factor, 3)} {unit}"
    return f"{int(count)} B"


KEPT = "\n\t"


UNSEEN = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
"""Unicode's general categories of what controls a terminal, changes the direction or the lines of a
text, or is not seen at all."""


def escape_controls(text: str) -> str:
    """The text with all that controls how it is shown spelled out; line ends and tabs stay."""
    if text.isascii() and text.replace("\n", "").replace("\t", "").isprintable():
        return text
    return "".join(_spelled(each) if _controls(each) else each for each in text)


def _controls(character: str) -> bool:
    return character not in KEPT and unicodedata.category(character) in UNSEEN


def _spelled(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


MOST_LISTED = 8  # Points or pairs that a sentence names.


def setting(value: Value) -> str:
    """A parameter's value."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return number(value) if isinstance(value, float) else str(value)


def title(trial: Trial) -> str:
    """A trial's number, its name if it is a baseline or grid point, and its labels."""
    name = f" {trial.name}" if trial.name is not None else ""
    return f"#{trial.number}{name}{tag(trial)}"


def tag(trial: Trial) -> str:
    """A trial's labels in brackets, with a space before."""
    return f" ({', '.join(trial.labels)})" if trial.labels else ""


def bounds(limit: Limit) -> str:
    """A limit as an inequality."""
    low = f"{number(limit.low)} ≤ " if limit.low > -math.inf else ""
    high = f" ≤ {number(limit.high)}" if limit.high < math.inf else ""
    return f"{low}{limit.metric}{high}" if low or high else f"{limit.metric} is measured"


def listed(parts: Sequence[str], between: str = ", ") -> str:
    """Some, and how many more."""
    shown = between.join(parts[:MOST_LISTED])
    return shown + (f" and {len(parts) - MOST_LISTED} more" if len(parts) > MOST_LISTED else "")
