"""Every causal language model type of transformers: trained as transformers would, or refused."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedConfig
from transformers.utils import logging

from objectives.config.recipe import Model, Recipe
from objectives.config.training import Finetune, Pretrain, Schedule
from objectives.finetuning import model_check
from objectives.models import causal_lm
from objectives.training import batch, loop, optimizers
from objectives.training.batch import TokenBatch
from objectives.training.lanes import LaneModel
from tests.objectives import tiny_configs

T, STEPS, LR, DECAY = 12, 3, 1e-3, 0.1


EPS = 1e-5
"""Not so small that AdamW takes whole steps along gradients that are rounding errors alone."""


REASONS = {
    "has no part in its loss": (
        "afmoe bart blenderbot blenderbot-small ernie4_5_moe hrm_text laguna marian mbart "
        "pegasus phi4_multimodal plbart whisper "
    ),
    "its forward pass fails": (
        "axk2 bloom blt camembert cohere_compass_text data2vec-text dbrx deepseek_v32 "
        "dots3_note dots3_note_text emu3 gemma3n gemma3n_text glm_moe_dsa hy_v4 jetmoe "
        "longcat_flash mllama mpt musicgen musicgen_melody phimoe prophetnet recurrent_gemma "
        "reformer roberta roberta-prelayernorm xlm xlm-roberta xlm-roberta-xl xmod "
    ),
    "differ from transformers' own": (
        "big_bird codegen gpt_neox_japanese megatron-bert mvp rembert roformer trocr xglm "
    ),
    "only plain causal": ("bigbird_pegasus doge gemma2 vaultgemma "),
    "a later token changes": ("cpmant xlnet "),
    "cannot run as lanes": (
        "deepseek_v4 flint gpt_oss granite_swa granitemoe_swa inkling2_text inkling_text "
        "mimo_v2_flash "
    ),
    "attention of its own": ("falcon git gpt_neo gptj "),
}
"""Part of the sentence that refuses a type -> the types."""


REFUSED = {name: reason for reason, names in REASONS.items() for name in names.split()}


NOT_TINY = ("gemma4_assistant",)
"""Types whose own default config transformers refuses."""


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Models' own advice about slow paths and the like."""
    shown = logging.get_verbosity()
    logging.set_verbosity_error()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    logging.set_verbosity(shown)
    torch.set_default_dtype(torch.float32)


def recipe_of(folder: Path) -> Recipe:
    return Recipe(
        model=Model(preset=None, config=str(folder)),
        pretrain=Pretrain(seq_len=T, steps=STEPS, schedule=Schedule()),
        finetune=Finetune(max_length=T, method="full"),
    )


def rows(step: int) -> Tensor:
    """Random tokens; not 0, whose embedding transformers does not train where it is padding."""
    draw = torch.Generator().manual_seed(step)
    return torch.randint(1, tiny_configs.VOCAB, (2, T + 1), generator=draw)


def plain_losses(config: PreTrainedConfig, params: dict[str, Tensor]) -> list[float]:
    """Of each step of an ordinary torch loop over transformers' own model; its first logits too."""
    module: nn.Module = AutoModelForCausalLM.from_config(
        copy.deepcopy(config), attn_implementation="eager", dtype=torch.get_default_dtype()
    )
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(params[name])
    module.train()
    optimizer = torch.optim.AdamW(module.parameters(), lr=LR, weight_decay=DECAY, eps=EPS)
    found = []
    for step in range(STEPS + 1):
        ids = rows(step)
        logits = module(input_ids=ids[:, :-1]).logits
        loss = nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())
        found.append(float(loss))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return found


def lane_losses(config: PreTrainedConfig, params: list[dict[str, Tensor]]) -> Tensor:
    """The same of lanes; [K, S]."""
    module = causal_lm.build_module(config, "cpu")
    shapes = {name: p.shape for name, p in module.named_parameters()}
    state = loop.State.fresh(shapes, batch.join_rows(params, shapes))
    count = len(params)
    plan = loop.Plan(
        lr_SK=torch.full((STEPS + 1, count), LR),
        decay_SK=torch.full((STEPS + 1, count), DECAY),
        constants=optimizers.constants(count, "cpu", beta1=0.9, beta2=0.999, eps=EPS),
    )
    found: list[Tensor] = []
    loop.train(
        LaneModel(module),
        state,
        plan,
        lambda step: TokenBatch(rows(step)),
        until=STEPS + 1,
        after_step=lambda step, loss_K: found.append(loss_K),
    )
    return torch.stack(found, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in tiny_configs.TYPES if name not in NOT_TINY])
def test_every_type_trains_as_in_transformers_or_is_refused_in_one_sentence(
    name: str, tmp_path: Path
) -> None:
    tiny_configs.tiny_config(name).save_pretrained(tmp_path)
    refusal = None
    try:
        model_check.check_model(recipe_of(tmp_path), tiny_configs.VOCAB)
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        assert REFUSED.get(name, "no refusal is expected") in refusal
        assert refusal.startswith("model")
        assert refusal.count("\n") == 0
        assert len(refusal) < 400 + len(str(tmp_path))
        return
    assert name not in REFUSED
    config = causal_lm.build_config(Model(preset=None, config=str(tmp_path)), tiny_configs.VOCAB)
    if not any("expert" in name for name in causal_lm.initial_parameters(Model(), config, 0)):
        torch.set_default_dtype(torch.float64)  # grouped products of experts have none
    params = [causal_lm.initial_parameters(Model(), config, seed) for seed in range(2)]
    found = lane_losses(config, params)
    expected = plain_losses(config, params[1])
    assert found[1].tolist() == pytest.approx(expected, abs=2e-4)


def test_the_types_that_are_refused_are_types_of_transformers() -> None:
    assert set(REFUSED) | set(NOT_TINY) <= set(tiny_configs.TYPES)
    assert len(set(tiny_configs.TYPES) - set(REFUSED) - set(NOT_TINY)) > len(REFUSED)
