"""The quickstart can say how sure its front is."""

from __future__ import annotations

from dataclasses import replace

from hpo.core.history import Begin, History
from hpo.core.trial import Answer, Ask, Trial
from hpo.front.reevaluation import next_replicate
from hpo.search.strategy import Searcher
from studies.quickstart import STUDY


def test_a_fifth_of_its_trials_repeat_others_at_further_seeds() -> None:
    searcher, ledger = Searcher(STUDY, next_replicate), History()
    for wave in range(2):
        begun = []
        for index in range(STUDY.wave):
            decided = searcher.decide(ledger)
            assert isinstance(decided, Begin)
            ask = Ask(wave, index, decided.fidelity, ledger.num_answers)
            begun.append(
                Trial(
                    number=decided.number, params=decided.params, seed=decided.seed, asks=(ask,),
                    replicate_of=decided.replicate_of,
                    point=None if decided.planned is None else "planned",
                )
            )  # fmt: skip
            ledger.put(begun[-1])
        for entry in begun:
            loss = 3.0 - 0.1 * entry.number
            metrics = {"base_loss": 4.0 + 0.1 * entry.number, "finetuned_loss_nats": loss}
            answer = Answer(1.0, ledger.num_answers, metrics, {"tokens": 1e6})
            ledger.put(replace(entry, answers=(answer,), state="complete"))
    repeated = [entry for entry in ledger.trials if entry.kind == "replicate"]
    assert len(ledger.trials) == STUDY.trials
    assert len(repeated) == 2
    assert all(entry.seed != STUDY.seed for entry in repeated)
