"""Parts of a trial's flat result."""

from __future__ import annotations

from objectives.results import seconds_saved


def test_seconds_that_differ_by_rounding_alone_are_no_seconds_saved() -> None:
    thirds, whole = sum([0.1] * 3), 0.3
    assert thirds != whole
    assert seconds_saved(whole - thirds, 0.0) == 0.0
    assert seconds_saved(2.5, whole - thirds) == 2.5 + (whole - thirds)
