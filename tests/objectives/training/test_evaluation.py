"""Scores against what they represent: real generation, likelihood string by string."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from objectives.config.training import Lora
from objectives.data import tasks
from objectives.data.token_dataset import TokenDataset
from objectives.finetuning import lora
from objectives.models import causal_lm
from objectives.training import batch, evaluation, lanes
from tests.objectives import toy

CONFIG = toy.CONFIGS["llama"]


SEEDS = range(3)


def scored() -> evaluation.Lanes:
    program = lanes.LaneModel(causal_lm.build_module(CONFIG, "cpu"))
    return evaluation.Lanes(program, batch.stack([toy.initial(CONFIG, seed) for seed in SEEDS]))


def plain(seed: int) -> nn.Module:
    return toy.plain(CONFIG, toy.initial(CONFIG, seed))


def greedy(module: nn.Module, prompt: list[int], count: int) -> list[int]:
    """The next tokens by transformers' own generation."""
    out = module.generate(  # type: ignore[operator]
        torch.tensor([prompt]),
        attention_mask=torch.ones(1, len(prompt), dtype=torch.int64),
        max_new_tokens=count,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    found: list[int] = out[0, len(prompt) :].tolist()
    return found


def encoded(pairs: list[tuple[list[int], list[int]]]) -> tasks.Encoded:
    """Rows of prompt and counted tokens, as `tasks` would make them."""
    longest = max(len(p) + len(c) for p, c in pairs)
    width, counted = -(-(longest - 1) // 16) * 16, max(len(c) for _, c in pairs)
    ids = np.zeros((len(pairs), width + 1), np.int64)
    positions = np.zeros((len(pairs), counted), np.int64)
    weights = np.zeros((len(pairs), counted), np.float32)
    for row, (prompt, completion) in enumerate(pairs):
        ids[row, : len(prompt) + len(completion)] = prompt + completion
        positions[row, : len(completion)] = np.arange(len(completion)) + len(prompt) - 1
        weights[row, : len(completion)] = 1
    return tasks.Encoded(ids, positions, weights)


def task(test: tasks.Encoded, choices: tasks.Encoded | None, answers: list[int]) -> tasks.Task:
    return tasks.Task(
        name="t",
        metric="exact_match" if choices is None else "accuracy",
        train=test,
        validation=test,
        test=test,
        choices=choices,
        answers=np.array(answers, np.int64),
        chance=0.0,
        left_out=0,
        key="k",
    )


def nats(module: nn.Module, prompt: list[int], completion: list[int]) -> Tensor:
    """Of one string given another, token by token."""
    ids = torch.tensor([prompt + completion])
    logits = module(input_ids=ids).logits[0, len(prompt) - 1 : -1]
    return F.cross_entropy(logits, torch.tensor(completion), reduction="sum")


def test_exact_match_equals_greedy_generation() -> None:
    modules = [plain(seed) for seed in SEEDS]
    pairs = []
    for row in range(40):
        prompt = toy.ids(3 + row % 9, seed=row).tolist()
        answer = greedy(modules[row % len(modules)], prompt, 1 + row % 5)
        if row % 4 == 3:
            answer[row % len(answer)] = (answer[row % len(answer)] + 1) % toy.VOCAB
        pairs.append((prompt, answer))
    rows = encoded(pairs)
    expected = np.array([[greedy(module, p, len(c)) == c for p, c in pairs] for module in modules])
    assert 0.1 < expected.mean() < 0.6
    assert (evaluation._scores(scored(), rows)[1] == expected).all()
    found = evaluation.task_scores(scored(), task(rows, None, []))
    assert found.score_K == pytest.approx(expected.mean(1))
    assert (found.right_KN == expected).all()  # row by row, in the task's order


def test_the_chosen_label_is_the_most_likely_string() -> None:
    labels = [[5], [7], [9], [11, 12], [5, 6]]
    prompts = [toy.ids(4 + row % 7, seed=row).tolist() for row in range(20)]
    answers = [row % len(labels) for row in range(20)]
    choices = encoded([(prompt, label) for prompt in prompts for label in labels])
    test = encoded([(prompt, labels[answers[row]]) for row, prompt in enumerate(prompts)])
    found = evaluation.task_scores(scored(), task(test, choices, answers))
    score_K, loss_K = found.score_K, found.loss_K
    assert found.right_KN.mean(1) == pytest.approx(score_K)
    for seed in SEEDS:
        module = plain(seed)
        with torch.no_grad():
            table = torch.stack(
                [
                    torch.stack([nats(module, prompt, label) for label in labels])
                    for prompt in prompts
                ]
            )
        right = (table.argmin(1) == torch.tensor(answers)).float().mean()
        own = table[torch.arange(20), torch.tensor(answers)].sum() / test.weights.sum()
        assert score_K[seed] == pytest.approx(float(right))
        assert loss_K[seed] == pytest.approx(float(own), rel=1e-5)
    assert score_K.max() > 0


def test_completion_loss_is_the_mean_over_completion_tokens() -> None:
    pairs = [(toy.ids(2 + n % 20, seed=n).tolist(), toy.ids(1 + n % 6, seed=99 + n).tolist())
             for n in range(40)]  # fmt: skip
    found = evaluation.completion_loss(scored(), encoded(pairs))
    for seed in SEEDS:
        with torch.no_grad():
            total = sum(float(nats(plain(seed), *pair)) for pair in pairs)
        assert found[seed] == pytest.approx(total / sum(len(c) for _, c in pairs), rel=1e-5)


@pytest.mark.parametrize("count", [1, 32, 33, 70])
def test_mean_loss_is_plain_cross_entropy(count: int) -> None:
    rows = toy.ids(count, 11)
    found = evaluation.mean_loss(scored(), rows.numpy())
    for seed in SEEDS:
        with torch.no_grad():
            logits = plain(seed)(input_ids=rows[:, :-1]).logits
        expected = F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())
        assert found[seed] == pytest.approx(float(expected), rel=1e-6)


def test_a_score_does_not_depend_on_the_lanes_beside_it() -> None:
    rows = toy.ids(40, 11).numpy()
    together = evaluation.mean_loss(scored(), rows)
    program = lanes.LaneModel(causal_lm.build_module(CONFIG, "cpu"))
    for seed in SEEDS:
        alone = evaluation.Lanes(program, batch.stack([toy.initial(CONFIG, seed)]))
        assert evaluation.mean_loss(alone, rows)[0] == together[seed]


def test_adapters_on_bases_are_scored_in_the_order_base_by_base() -> None:
    adapted = lora.Adapted(CONFIG, Lora(rank=2), "cpu")
    bases = [toy.initial(CONFIG, seed) for seed in range(2)]
    arms = [
        {name: torch.randn_like(p) * 0.1 for name, p in adapted.initial(seed).items()}
        for seed in range(3)
    ]
    program = toy.adapted_program(CONFIG, adapted)
    rows = toy.ids(5, 11).numpy()
    together = evaluation.Lanes(
        program, batch.stack([*arms, *arms]), adapted.frozen(batch.stack(bases))
    )
    found = evaluation.mean_loss(together, rows)
    for base in range(2):
        for arm in range(3):
            alone = evaluation.Lanes(
                program, batch.stack([arms[arm]]), adapted.frozen(batch.stack([bases[base]]))
            )
            expected = evaluation.mean_loss(alone, rows)[0]
            assert found[3 * base + arm] == pytest.approx(expected, rel=1e-6)


def test_generation_of_real_text_is_decided_by_one_pass(toy_corpus: TokenDataset) -> None:
    pairs = [("the cat", " sat"), ("a dog", " ran to"), ("my", " hat")]
    rows = tasks._encode(pairs, toy_corpus.tokenizer)
    hits = evaluation._scores(scored(), rows)[1]
    end = toy_corpus.tokenizer.eos_token_id
    for seed in SEEDS:
        for row, (prompt, completion) in enumerate(pairs):
            before = toy_corpus.tokenizer(prompt)["input_ids"]
            after = [*toy_corpus.tokenizer(completion)["input_ids"], end]
            assert hits[seed, row] == (greedy(plain(seed), before, len(after)) == after)


@given(st.integers(0, 10_000), st.integers(3, 60))
def test_a_loss_by_row_has_the_loss_as_mean_and_the_error_of_leaving_rows_out(
    seed: int, count: int
) -> None:
    """The jackknife's error of a ratio of sums; rows of many tokens count for more."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 9, count)
    rows = encoded([([1], [2] * int(size)) for size in sizes])
    nats_KN = rng.gamma(2.0, 0.5, (2, count)) * sizes
    loss_K = nats_KN.sum(1) / sizes.sum()
    by_row = evaluation._by_row(nats_KN, loss_K, rows)
    np.testing.assert_allclose(by_row.mean(1), loss_K)
    without = (nats_KN.sum(1, keepdims=True) - nats_KN) / (sizes.sum() - sizes)
    jackknife = np.sqrt((count - 1) * without.var(axis=1))
    stated = np.sqrt(by_row.var(axis=1, ddof=1) / count)
    np.testing.assert_allclose(stated, jackknife, rtol=6 / count)
