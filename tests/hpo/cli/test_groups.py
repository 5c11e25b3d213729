"""A study whose data changed, on the command line: whatever is shown is of one group of trials."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpo.cli import main
from tests.hpo.cli.test_main import complaint, folder, words, write

__all__ = ["folder"]

STUDY = """
import json
from pathlib import Path
from tests.hpo.core.test_conditions import Stating
STATED = json.loads(Path(__file__).with_name("stated.json").read_text())
STUDY = spec(objective=Stating(stated=STATED), trials=4, sampler="random")
"""


def state(**conditions: str) -> None:
    Path("stated.json").write_text(json.dumps(conditions))


@pytest.fixture
def changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Trials 0 to 3 with one corpus, 4 to 7 with another."""
    write(STUDY)
    state(corpus="wiki", numpy="2.4")
    assert main.main(["run", "mine.py"]) == 0
    state(corpus="books", numpy="2.5")
    capsys.readouterr()
    assert main.main(["run", "mine.py", "--trials", "8"]) == 2
    assert "corpus (wiki -> books)" in complaint(capsys)
    assert main.main(["run", "mine.py", "--trials", "8", "--accept-changes"]) == 0
    capsys.readouterr()
    return folder


def shown(capsys: pytest.CaptureFixture[str], *line: str) -> str:
    assert main.main([*line]) == 0
    return words(capsys)


def test_every_command_shows_one_group(changed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for group, own in ((None, {4, 5, 6, 7}), ("0", {0, 1, 2, 3}), ("1", {4, 5, 6, 7})):
        chosen = [] if group is None else ["--group", group]
        data = json.loads(shown(capsys, "show", "toy", "--json", *chosen))
        numbers = {each["trial"] for each in data["front"]}
        assert numbers
        assert numbers <= own
        page = Path(shown(capsys, "report", "toy", *chosen)).read_text(encoding="utf-8")
        table = json.loads(page.split('id="data">')[1].split("</script>")[0])
        assert set(table["trials"]) == own
    shown(capsys, "plot", "toy", "front", "--to", "front.csv")
    rows = Path("front.csv").read_text().splitlines()
    place = rows[0].split(",").index("trial")
    assert {int(row.split(",")[place]) for row in rows[1:]} <= {4, 5, 6, 7}


def test_exports_and_comparisons_are_of_the_last_group(
    changed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.main(["export", "toy", "--trial", "1", "--to", "out"]) == 2
    assert "its trials are 4 to 7 (4 more were measured under other conditions)" in complaint(
        capsys
    )
    shown(capsys, "export", "toy", "--trial", "best:gain", "--to", "out")
    assert "| numpy | 2.5 |" in Path("out/README.md").read_text().replace("\\", "")
    state(corpus="wiki", numpy="2.4")
    warm = shown(capsys, "run", "mine.py", "--name", "new", "--warm-start", "toy")
    assert "Run toy, which the search starts from, was measured under other conditions" in warm
    compared = shown(capsys, "compare", "toy", "new")
    assert "toy and new were measured under other conditions: corpus (books -> wiki)" in compared
    assert compared.index("other conditions") < compared.index("Hypervolume")
