"""Linear separability: how well a linear classifier reads a task's label off each layer.

Larger weight decay raises it (arXiv 2602.11137, section 4.1 as quoted). Classifier, regularisation
and sample sizes were not found there; this project's choice: logistic regression of scikit-learn
with its default penalty on standardised features, the hidden state at the last token of the prompt,
fitted on training rows and scored on test rows. Tasks without labels are left out.

L + 1 layers: 0 is the embedding, the last is behind the final norm, as transformers gives them.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.func import functional_call

from objectives.data.tasks import Encoded, Task
from objectives.probes.types import ROWS, NotApplicableError, ProbeBatch, ProbeResult, by_layer
from objectives.training.lanes import vmap_lanes

ITERATIONS = 1000
"""Of L-BFGS at most; assumed: on standardised features it has needed fewer than 200."""


States = NDArray[np.float32]


def accuracy(
    train_ND: States, train_labels: list[Any], test_ND: States, test_labels: list[Any]
) -> float:
    """Share of test rows that a logistic regression fitted on the training rows gets right."""
    # Imported here: it takes a second, and only this probe needs it.
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=ITERATIONS))
    with warnings.catch_warnings():
        # Rows that can be distinguished in many ways converge slowly, and score the same.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(train_ND.astype(np.float64), train_labels)
    return float(classifier.score(test_ND.astype(np.float64), test_labels))


def measure_separability(group: ProbeBatch) -> list[ProbeResult]:
    """By task and layer; `last` is the last layer, `mean` the mean of all but the embedding."""
    tasks = [task for task in group.tasks if task.choices is not None]
    if not tasks:
        raise NotApplicableError("no task has labels")
    by_task = {}
    for place in group.with_progress("separability", len(tasks)):
        by_task[tasks[place].name] = _by_layer(group, tasks[place])
    found = []
    for lane in range(len(group.subjects)):
        scores = {name: score_KL[lane] for name, score_KL in by_task.items()}
        metrics = {}
        for name, score_L in scores.items():
            metrics[f"{name}.last"] = score_L[-1]
            metrics[f"{name}.mean"] = float(np.mean(score_L[1:]))
        metrics["last"] = float(np.mean([score_L[-1] for score_L in scores.values()]))
        metrics["mean"] = float(np.mean([score_L[1:] for score_L in scores.values()]))
        curves = {f"{name}_by_layer": by_layer(score_L) for name, score_L in scores.items()}
        found.append(ProbeResult(metrics=metrics, curves=curves))
    return found


def _by_layer(group: ProbeBatch, task: Task) -> list[list[float]]:
    """Test accuracy, NaN where a state is not finite; [K][L + 1]."""
    rows = min(group.recipe.probes.rows, len(task.train.ids))
    train_labels = _labels(task.train)[:rows]
    if len(set(train_labels)) < 2:
        raise NotApplicableError(
            f"the first {rows} training rows of task {task.name} have one label; raise probes.rows"
        )
    test_labels = _labels(task.test)
    train_KNLD = _states(group, task.train, rows)
    test_KNLD = _states(group, task.test, len(test_labels))
    return [
        [
            accuracy(train_ND, train_labels, test_ND, test_labels)
            if np.isfinite(train_ND).all() and np.isfinite(test_ND).all()
            else math.nan
            for train_ND, test_ND in zip(
                train_NLD.swapaxes(0, 1), test_NLD.swapaxes(0, 1), strict=True
            )
        ]
        for train_NLD, test_NLD in zip(train_KNLD, test_KNLD, strict=True)
    ]


def _labels(rows: Encoded) -> list[str]:
    """Each row's completion, as the text of its tokens' numbers; [N]."""
    tokens = np.take_along_axis(rows.ids[:, 1:], rows.positions, axis=1)
    return [
        " ".join(map(str, row[weight > 0]))
        for row, weight in zip(tokens, rows.weights, strict=True)
    ]


def _states(group: ProbeBatch, rows: Encoded, count: int) -> States:
    """Hidden states at the last token of the first `count` prompts; [K, N, L + 1, D]."""
    params, module = group.stacked(), group.module
    found = []
    for start in range(0, count, ROWS):
        picked = np.arange(start, min(start + ROWS, count))
        ids = torch.from_numpy(rows.ids[picked, : rows.width(picked)]).to(group.device)
        last_N = torch.from_numpy(rows.positions[picked, 0]).to(group.device)

        def lane(
            own: dict[str, Tensor],
            frozen: dict[str, Tensor],
            ids_NT: Tensor,
            last_N: Tensor = last_N,
        ) -> tuple[Tensor]:
            inputs = {"input_ids": ids_NT, "output_hidden_states": True}
            output = functional_call(module, own, (), inputs)
            states_NLTD = torch.stack(output.hidden_states, 1)
            return (states_NLTD[torch.arange(len(last_N), device=last_N.device), :, last_N],)

        with torch.no_grad():
            found.append(vmap_lanes(lane, params, None, (ids,))[0])
    states: States = torch.cat(found, 1).float().cpu().numpy()
    return states
