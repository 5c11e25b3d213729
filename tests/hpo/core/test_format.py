"""How single values are written."""

from __future__ import annotations

import math

import pytest

from hpo.core.format import amount, number, percent, plural, with_sem


@pytest.mark.parametrize(
    ("count", "expected"),
    [(1, "1 lane"), (2, "2 lanes"), (0, "0 lanes"), (1200, "1,200 lanes")],
)
def test_one_of_something_is_no_plural(count: int, expected: str) -> None:
    assert plural(count, "lane") == expected
    assert plural(count, "entry", "entries").endswith(" entry" if count == 1 else " entries")


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "0"), (12, "12"), (999.6, "1k"), (6016, "6.02k"), (40960, "41k"), (9.52e6, "9.52M"),
     (999_999_999, "1B"), (2e10, "20B"), (1.5e13, "15T")],
)  # fmt: skip
def test_a_large_count_has_three_digits_and_a_unit(count: float, expected: str) -> None:
    assert amount(count) == expected


@pytest.mark.parametrize("value", [0.0, 1.0, -3.3e-6, 123.456, 99_999.0, 1234567.0, 4.2e11])
@pytest.mark.parametrize("error", [1e-12, 3.3e-7, 0.0999, 0.1, 1.0, 96.0, 12345.0, 9.96e9])
def test_a_standard_error_has_two_digits(value: float, error: float) -> None:
    text = with_sem(value, error)
    shown, _, power = text.removeprefix("(").partition(")e")
    rounded, found = (float(part) * 10.0 ** int(power or 0) for part in shown.split(" ± "))
    assert found == pytest.approx(error, rel=0.051)
    assert rounded == pytest.approx(value, abs=0.051 * error, rel=1e-7)
    digits = shown.split(" ± ")[1].partition("e")[0].replace(".", "").strip("0")
    assert len(digits) <= 2


def test_numbers_and_shares_that_are_none() -> None:
    assert number(None) == percent(math.nan) == "n/a"
    assert percent(0.004) == "< 1 %"


def test_the_smallest_numbers_are_written() -> None:
    assert with_sem(5e-324, 5e-324) == "4.9406565e-324 ± 4.9e-324"
    assert with_sem(0.0, 1e-310) == "0 ± 1e-310"
