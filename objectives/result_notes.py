"""What a reader of a trial's result should know, in sentences, and the labels of its base."""

from __future__ import annotations

from objectives.data.token_dataset import TokenDataset
from objectives.pretraining.job import PretrainJob
from objectives.trial import Trial


def labels(trial: Trial) -> list[str]:
    """What sets the base apart from one that was trained as its schedule says."""
    return [] if trial.job.merge is None else ["merged"]


def notes(trial: Trial) -> list[str]:
    """What a reader of the result should know."""
    own = list(trial.notes) if trial.outcomes else []
    return [*own, *_base_notes(trial), *_task_notes(trial), *_control_notes(trial)]


def _base_notes(trial: Trial) -> list[str]:
    job, merge = trial.job, trial.job.merge
    found = []
    unmeasured = len(job.eval_steps()) - len(trial.model.validation_of(job))
    if unmeasured:
        found.append(
            f"the validation curve lacks {unmeasured} points: the base was pretrained before, with "
            "other pretrain.evals or pretrain.curve_tokens"
        )
    if merge is not None:
        found.append(
            f"merged, not trained: the base is the mean of {len(merge.steps)} checkpoints of "
            f"the run without this decay, steps {merge.steps[0]} to {merge.steps[-1]}, "
            "which only approximates the decay"
        )
    return [*found, *text_notes(job, trial.corpus)]


def text_notes(job: PretrainJob, corpus: TokenDataset) -> list[str]:
    """What a reader should know of the text of a run: how often it is seen, and its own notes."""
    goes_on = job.second is None or job.goes_on(corpus)
    phases = [("run", corpus, job.steps if goes_on else job.first_steps)]
    if job.second is not None and not goes_on:
        phases.append(("second phase", job.second, job.steps - job.first_steps))
    pre, found = job.recipe.pretrain, list[str]()
    for name, text, steps in phases:
        epochs = text.epochs(steps * pre.batch_size * pre.seq_len, pre.seq_len)
        if epochs > 1:
            found.append(f"the {name} sees its training text {epochs:.1f} times")
        found += text.notes
    return found


def _task_notes(trial: Trial) -> list[str]:
    found: list[str] = []
    for task, outcome in zip(trial.tasks, trial.outcomes, strict=True):
        found += task.notes
        if task.left_out:
            found.append(f"task {task.name}: {task.left_out} rows were too long and left out")
        if outcome.at_edge and len(outcome.tried) > 1:
            found.append(
                f"task {task.name}: the best learning rate {outcome.lr:g} is still at the edge "
                "of the grid; raise finetune.max_extensions"
            )
    return found


def _control_notes(trial: Trial) -> list[str]:
    control = trial.control
    if control is None or control.failure is None:
        return []
    return [f"what pretraining is worth is not known: from the initial weights, {control.failure}"]
