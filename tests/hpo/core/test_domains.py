"""Domains: what they contain, where their values are, and how they are written."""

from __future__ import annotations

import numpy as np
import pytest

from hpo.core.domains import Choice, Domain, Float, Int
from hpo.storage.settings import json_roundtrip

DOMAINS = [
    Float(low=0.0, high=2.0), Float(low=1e-3, high=1e-1, log=True), Float(low=1.0, high=1.0),
    Int(low=-2, high=5), Int(low=1, high=1000, log=True), Int(low=3, high=3),
    Choice(options=("a", None, 2, 2.5, False)), Choice(options=("only",)),
]  # fmt: skip


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_domain_is_read_as_it_was_written(domain: Domain) -> None:
    assert Domain.from_dict(json_roundtrip(domain.to_dict())) == domain


@pytest.mark.parametrize("domain", DOMAINS)
def test_values_are_at_their_shares_and_rounded_shares_stay(domain: Domain) -> None:
    for value in domain.ends:
        assert domain.contains(value)
        if not domain.is_real:
            assert domain.at(domain.share_of(value)) == value
    share_N = np.random.default_rng(0).random(50)
    rounded_N = domain.rounded(share_N)
    for share, rounded in zip(share_N.tolist(), rounded_N.tolist(), strict=True):
        assert domain.contains(domain.at(share))
        if not domain.is_real:
            assert domain.at(rounded) == domain.at(share)
            assert rounded == domain.share_of(domain.at(share))
    np.testing.assert_array_equal(domain.rounded(rounded_N), rounded_N)


@pytest.mark.parametrize(
    ("domain", "value", "contains", "fits"),
    [
        (Float(0.0, 1.0), 1, True, True),
        (Float(0.0, 1.0), 1.5, False, True),
        (Float(0.0, 1.0), float("nan"), False, False),
        (Float(0.0, 1.0), True, False, False),
        (Float(0.0, 1.0), None, False, True),
        (Float(0.0, 1.0), "0.5", False, False),
        (Int(0, 3), 2, True, True),
        (Int(0, 3), 2.0, False, True),
        (Int(0, 3), 2.5, False, False),
        (Int(0, 3), False, False, False),
        (Choice(options=("a", "b")), "a", True, True),
        (Choice(options=("a", "b")), 3, False, True),
    ],
)
def test_a_value_is_in_a_domain_or_of_its_kind(
    domain: Domain, value: object, contains: bool, fits: bool
) -> None:
    assert domain.contains(value) is contains  # type: ignore[arg-type]
    assert domain.fits(value) is fits  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wide", "narrow", "covers"),
    [
        (Float(0.0, 2.0), Float(0.5, 2.0), True),
        (Float(0.5, 2.0), Float(0.0, 2.0), False),
        (Float(0.5, 2.0), Float(0.5, 2.0, log=True), False),
        (Float(0.0, 9.0), Int(1, 2), False),
        (Int(0, 9), Int(1, 2), True),
        (Choice(options=(1, 2, 3)), Choice(options=(3, 1)), True),
        (Choice(options=(1, 2)), Choice(options=(1, 3)), False),
    ],
)
def test_a_domain_covers_one_within_it(wide: Domain, narrow: Domain, covers: bool) -> None:
    assert wide.covers(narrow) is covers


def test_an_end_that_no_float_can_hold_is_refused_in_a_sentence() -> None:
    with pytest.raises(ValueError, match=r"high of Float must be at most 2\^53 in size"):
        Float(low=1.0, high=10**400)
