"""What a finite sample of test rows adds to the error of a score, and scores row by row.

With y_sr the score of row r after fine-tuning with seed s (S seeds, N rows), seeds and rows are
crossed random effects, and the variance of the mean over both is

    V = V_seeds + V_rows - V_rest
    V_seeds = var_s(mean_r y_sr) / S,   V_rows = var_r(mean_s y_sr) / N,   V_rest = m / (S N)

with m the mean square of y_sr - mean_r - mean_s + mean at (S - 1)(N - 1) degrees of freedom: what
both of the first two hold is counted once (Cameron, Gelbach and Miller 2011, "Robust inference with
multiway clustering"). V_seeds is the square of `<name>_sem`; V_rows - V_rest is that of
`<name>_rows_sem`. Tasks are independent samples: of a mean over K tasks the variances add up over
K^2. The spread between pretraining seeds is in neither; trials at other seeds show it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


MOST_GROUPS = 128
"""Values that are kept of a task's rows: variances from so many means are known to 13 %."""


def rows_error(by_task: Sequence[Array]) -> float:
    """`<name>_rows_sem` of a mean over tasks; an array S seeds x N rows for each.

    NaN where a task has one row.
    """
    return math.sqrt(math.fsum(_rows_variance(y_SN) for y_SN in by_task)) / len(by_task)


def _rows_variance(y_SN: Array) -> float:
    num_seeds, num_rows = y_SN.shape
    if num_rows < 2:
        return math.nan
    rows: float = float(np.var(y_SN.mean(0), ddof=1)) / num_rows
    if num_seeds < 2:
        return rows
    rest_SN = y_SN - y_SN.mean(0) - y_SN.mean(1, keepdims=True) + y_SN.mean()
    rest = float((rest_SN**2).sum()) / ((num_seeds - 1) * (num_rows - 1) * num_seeds * num_rows)
    return float(max(rows - rest, 0.0))


def grouped(y_N: Array) -> list[float]:
    """The rows' values, or means over MOST_GROUPS groups of consecutive ones, to 6 digits."""
    parts = np.array_split(y_N, min(len(y_N), MOST_GROUPS)) if len(y_N) else []
    return [float(f"{part.mean():.6g}") for part in parts]


def from_text(rows: Sequence[str]) -> Array:
    """S x N of rows written as "1" and "0"."""
    return np.array([[float(each) for each in one] for one in rows])
