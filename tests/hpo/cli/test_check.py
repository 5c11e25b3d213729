"""`hpo check`: the checks of `hpo run`, and what it would cost, with nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpo.cli import main
from hpo.core.domains import Choice
from hpo.search import preflight
from tests.hpo.cli.test_main import complaint, folder, words, write
from tests.hpo.toy_objective import ToyObjective, spec
from tests.toy_size import TOY, small_inputs

__all__ = ["folder"]


ESTIMATES = (
    "class Priced(ToyObjective):\n"
    "    def estimate(self, requests, *, together, timed):\n"
    "        n = len(requests)\n"
    "        return {'tokens': {'pretraining': 1e6 * n, 'finetuning': 10.0 * n},\n"
    "                'stored': {'pretraining': 0.0, 'finetuning': 0.0},\n"
    "                'seconds': 60.0 * n, 'tokens_per_second': 5e4, 'disk_bytes': BYTES * n,\n"
    "                'parameters': 12, 'device': 'abacus', 'notes': [f'{together} at once.']}\n"
)


def check(*options: str) -> int:
    return main.main(["check", "mine.py", *options])


def test_an_objective_without_estimate_tells_what_is_known(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert check() == 0
    printed = words(capsys)
    assert "Checked: toy can be run" in printed
    assert "5 to measure of 5, 2 of them baselines and grid; waves of 3" in printed
    assert "unknown: the objective gives no estimate" in printed
    assert not Path("runs").exists()


def test_an_estimate_is_printed_for_the_trials_that_are_left(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(f"BYTES = 1e3\n{ESTIMATES}STUDY = spec(trials=6, objective=Priced())")
    main.main(["run", "mine.py", "--trials", "2"])
    capsys.readouterr()
    assert check() == 0
    printed = words(capsys)
    assert "toy, continued" in printed
    assert "4 to measure of 6" in printed
    assert "4M tokens" in printed
    assert "about 4m00s (50k tokens/s in a measured step)" in printed
    assert printed.endswith("3 at once.")


def test_programs_get_json(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(f"BYTES = 1e3\n{ESTIMATES}STUDY = spec(trials=6, objective=Priced())")
    assert check("--json", "--name", "other", "--trials", "3") == 0
    data = json.loads(capsys.readouterr().out)
    assert (data["run"], data["state"], data["trials"]) == ("other", "new", 3)
    assert data["estimate"]["tokens"] == {"pretraining": 3e6, "finetuning": 30.0}


def test_a_disk_too_small_is_wrong_usage_unless_the_store_keeps_small(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(f"BYTES = 1e18\n{ESTIMATES}STUDY = spec(trials=6, objective=Priced())")
    assert check() == 2
    assert "new stages take about 6e+09 GB" in complaint(capsys)
    assert check("--store-gb", "0.001") == 0


@pytest.mark.parametrize("text", ["STUDY = 1", "STUDY = spec(trials=5, wave=2)"])
def test_what_run_refuses_is_refused(
    text: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main.main(["run", "mine.py"])
    write(text)
    capsys.readouterr()
    assert main.main(["run", "mine.py"]) == 2
    said = complaint(capsys)
    assert check() == 2
    assert complaint(capsys) == said


def test_of_many_trials_some_are_asked_for_and_the_rest_is_scaled() -> None:
    class Counting(ToyObjective):
        def estimate(self, requests: list[object], **given: object) -> dict[str, object]:
            assert len(requests) == preflight.MOST
            return {"tokens": {"a": 1.0 * len(requests)}, "seconds": None, "parameters": 3}

    study = spec(trials=10 * preflight.MOST, objective=Counting())
    found = preflight.estimate(study, 0)
    assert found is not None
    assert found["tokens"]["a"] == 10 * preflight.MOST
    assert found["parameters"] == 3


def test_searched_trials_are_spread_over_the_space() -> None:
    class Noting(ToyObjective):
        def estimate(self, requests: list[dict[str, object]], **given: object) -> dict[str, object]:
            return {"notes": [each["params"] for each in requests]}

    space = {"pretrain.shape": Choice(options=("cosine", "linear"))}
    found = preflight.estimate(spec(space=space, objective=Noting(), trials=12), 1)
    assert found is not None
    assert found["notes"][0] == {"pretrain.weight_decay": 0.0}
    assert {each["pretrain.shape"] for each in found["notes"][1:]} == {"cosine", "linear"}
    assert len(found["notes"]) == 11


def test_a_study_on_text_is_estimated_by_a_real_step(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = TOY | small_inputs(folder)
    Path("lm.py").write_text(
        "from hpo import *\nfrom objectives import *\n"
        f"STUDY = StudySpec(name='lm', objective=PlasticityObjective(Recipe().with_params({small!r}"
        ")), space={'pretrain.lr': Float(low=1e-3, high=1e-2)}, trials=2)"
    )
    assert main.main(["check", "lm.py", "--device", "cpu", "--json"]) == 0
    cost = json.loads(capsys.readouterr().out)["estimate"]
    assert cost["tokens"]["pretraining"] == 2 * 4 * 4 * 32
    assert cost["seconds"] > 0
    assert not Path("runs").exists()
