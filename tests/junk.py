"""What people and programs give where something else is wanted, for property-based tests."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

BOUNDED = settings(
    derandomize=True, max_examples=80, deadline=None, database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)  # fmt: skip
"""The same examples in every run, without a limit of time for one."""


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.integers(),
    st.sampled_from([10**30, -(10**400), 2**53, 2**53 + 1, 2**63]),
    st.floats(),
    st.sampled_from([math.nan, math.inf, -math.inf, 0.0, -0.0, 1.0, 1e308, 5e-324]),
    st.text(max_size=8),
    st.sampled_from(
        ["", " ", "1", "1e-3", "nan", "cosine", "a\nb", "\x1b[2J", "\ud83d", "a" * 400]
    ),
    st.sampled_from(
        [np.int64(3), np.float32(0.5), np.bool_(True), np.str_("gp"), np.float64(math.nan)]
    ),
    st.sampled_from([Path("a"), b"bytes", 1j, object(), int, print, ..., {1, 2}, range(3)]),
)


JUNK: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(st.one_of(st.text(max_size=4), st.integers(0, 3)), inner, max_size=3),
    ),
    max_leaves=5,
)


def check_sentence(error: ValueError) -> None:
    """Fail unless an error is one line of our own."""
    text = str(error)
    assert type(error) is ValueError, repr(error)
    assert text.strip(), repr(error)
    assert "\n" not in text, text
    assert len(text) < 3000, text
    assert not any(word in text for word in ("pydantic", "Traceback")), text
