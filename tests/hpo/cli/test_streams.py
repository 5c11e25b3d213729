"""Output that cannot be encoded or written costs neither a table nor a study."""

from __future__ import annotations

import errno
import io
import itertools
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo.cli import main, streams
from hpo.core import files
from hpo.storage import run_folder

ROOT = Path(__file__).parents[3]


HEAD = (
    "from pathlib import Path; HERE = Path(__file__).parent\n"
    "from tests.hpo.toy_objective import *\n"
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a study file whose scores have standard errors."""
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(HEAD + "STUDY = spec(trials=5)\n")
    return tmp_path


def start(*words: str, out: Any = subprocess.PIPE, **environment: str) -> subprocess.Popen[bytes]:
    """`hpo WORDS` in a process of its own."""
    known = {"PYTHONPATH": str(ROOT), "PATH": "", "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-P", "-m", "hpo.cli.main", *words]
    return subprocess.Popen(command, env=known, stdout=out, stderr=subprocess.PIPE)


@pytest.mark.parametrize(
    "environment",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "cp1252"},
    ],
    ids=lambda given: " ".join(given.values()),
)
def test_a_terminal_of_another_encoding_gets_the_table_and_the_report(
    environment: dict[str, str], folder: Path
) -> None:
    out = "runs" if "LC_ALL" in environment else "r\u00fcns"
    process = start("run", "mine.py", "--out", out, **environment)
    said, complaint = process.communicate()
    assert process.returncode == 0, complaint
    text = said.decode(environment.get("PYTHONIOENCODING", "ascii"))
    ascii_only = "1252" not in str(environment)
    assert ("0.290 +-0.010" if ascii_only else "0.290 ± 0.010") in text
    by_frame = itertools.groupby(text.splitlines(), lambda line: line.startswith(("|", "+-")))
    tables = [[*lines] for framed, lines in by_frame if framed]
    assert tables
    assert all(len({len(line) for line in each}) == 1 for each in tables)  # borders in line
    assert (folder / out / "toy" / "report.html").is_file()
    assert b"Traceback" not in complaint


def test_a_folder_that_the_locale_cannot_name_is_one_sentence(folder: Path) -> None:
    environment = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    process = start("run", "mine.py", "--out", "r\u00fcns", **environment)
    _, complaint = process.communicate()
    assert process.returncode == 2
    assert complaint.count(b"\n") == 1
    assert b"set PYTHONUTF8=1" in complaint
    assert not (folder / "r\u00fcns").exists()


def test_every_sign_of_tables_and_findings_has_a_spelling_in_ascii() -> None:
    inner = io.TextIOWrapper(io.BytesIO(), encoding="ascii", write_through=True)
    with streams.lasting():
        stream = streams.Stream(inner)
        stream.write("1 ± 2 ≤ ∞, τ\u00fc\udcff\U0001f600")
    stream.flush()
    found = inner.buffer.getvalue()  # type: ignore[attr-defined]
    assert found == b"1 +- 2 <= inf, tau\\xfc\\udcff\\U0001f600"


def test_a_reader_that_leaves_costs_no_study(folder: Path) -> None:
    read, write = os.pipe()
    process = start("run", "mine.py", out=write)
    os.close(write)
    os.close(read)
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint
    assert complaint.decode().splitlines() == [
        "hpo: the output cannot be written (Broken pipe); the rest of it is dropped."
    ]
    assert (folder / "runs" / "toy" / "report.html").is_file()
    assert len(run_folder.load("toy").trials) == 5


def test_a_reader_that_leaves_ends_a_reading_command_without_a_word(folder: Path) -> None:
    assert main.main(["run", "mine.py"]) == 0
    read, write = os.pipe()
    os.close(read)
    process = start("show", "toy", "--json", out=write)
    os.close(write)
    _, complaint = process.communicate()
    assert (process.returncode, complaint) == (0, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize(("command", "code"), [(["run", "mine.py"], 0), (["show", "toy"], 1)])
def test_a_full_disk_below_the_output_is_reported_and_fails_only_what_prints(
    command: list[str], code: int, folder: Path
) -> None:
    assert main.main(["run", "mine.py", "--trials", "2"]) == 0
    with Path("/dev/full").open("wb") as full:
        process = start(*command, out=full)
        _, complaint = process.communicate()
    assert process.returncode == code
    (line,) = complaint.decode().splitlines()
    assert line.startswith("hpo: the output cannot be written (No space left on device)")


STOPPING = "STUDY = spec(trials=8, objective=ToyObjective(before=Once(1, HERE, stop)))\n"


@pytest.fixture
def harmless(request: pytest.FixtureRequest) -> Iterator[str]:
    """A signal's name; where `hpo` does not handle it, it is ignored and ends no tests."""
    number = signal.Signals[request.param]
    before = signal.signal(number, lambda number, frame: None)
    yield request.param
    signal.signal(number, before)


@pytest.mark.parametrize("harmless", ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTERM"], indirect=True)
def test_a_signal_stops_a_run_that_goes_on_after_the_same_command(
    harmless: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = f"stop = lambda: signal.raise_signal(signal.{harmless})\n"
    Path("mine.py").write_text(HEAD + stop + STOPPING)
    assert main.main(["run", "mine.py"]) == 130
    assert capsys.readouterr().out.endswith("To continue:\nhpo run mine.py\n")
    assert [each.state for each in run_folder.load("toy").trials] == ["complete"] * 3 + [
        "running"
    ] * 3
    assert main.main(["run", "mine.py"]) == 0
    assert len(run_folder.load("toy").complete()) == 8


@pytest.mark.parametrize("harmless", ["SIGUSR1"], indirect=True)
def test_a_signal_before_anything_is_measured_stops_too(
    harmless: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write = f"signal.raise_signal(signal.{harmless})\nSTUDY = spec()\n"
    Path("mine.py").write_text(HEAD + write)
    assert main.main(["run", "mine.py"]) == 130
    assert capsys.readouterr().out.endswith("To continue:\nhpo run mine.py\n")


def test_a_process_that_a_signal_stops_leaves_with_the_code_of_an_interruption(
    folder: Path,
) -> None:
    write = "signal.raise_signal(signal.SIGHUP)\nSTUDY = spec()\n"
    Path("mine.py").write_text(HEAD + write)
    process = start("run", "mine.py")
    said, complaint = process.communicate()
    assert process.returncode == 130, complaint
    assert said.decode().endswith("To continue:\nhpo run mine.py\n")


def test_under_nohup_a_closed_terminal_stops_nothing(folder: Path) -> None:
    stop = "stop = lambda: signal.raise_signal(signal.SIGHUP)\n"
    Path("mine.py").write_text(HEAD + stop + STOPPING)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # inherited, as from nohup
    try:
        process = start("run", "mine.py")
    finally:
        signal.signal(signal.SIGHUP, before)
    _, complaint = process.communicate()
    assert process.returncode == 0, complaint
    assert len(run_folder.load("toy").complete()) == 8


CLOSED = """
import os, sys
os.setsid()
import fcntl, termios
fcntl.ioctl(1, termios.TIOCSCTTY, 0)
from hpo.cli import main as cli
sys.exit(cli.main(["run", "mine.py"]))
"""


def test_a_terminal_that_is_closed_stops_a_run_with_its_state_kept(folder: Path) -> None:
    """The kernel sends SIGHUP, and whatever is printed from then on fails with EIO."""
    wait = (
        "import time\n"
        "def stop():\n"
        "    Path('measuring').touch()\n"
        "    deadline = time.monotonic() + 60\n"
        "    while os.isatty(1) and time.monotonic() < deadline:\n"
        "        os.write(1, b'.')\n"
        "        time.sleep(0.01)\n"
    )
    Path("mine.py").write_text(HEAD + wait + STOPPING)
    near, far = pty.openpty()
    environment = {"PYTHONPATH": str(ROOT), "PATH": "", "TERM": "dumb", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", CLOSED], env=environment, stdin=far, stdout=far, stderr=far
    )
    os.close(far)
    while not Path("measuring").exists() and process.poll() is None:
        os.read(near, 4096)
    os.close(near)
    assert process.wait() == 130
    assert [each.state for each in run_folder.load("toy").trials] == ["complete"] * 3 + [
        "running"
    ] * 3
    assert main.main(["run", "mine.py"]) == 0


def test_a_worker_outlives_a_closed_terminal_until_its_controller_asks(folder: Path) -> None:
    stop = (
        "def stop(requests):\n"
        "    for each in (signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2):\n"
        "        signal.raise_signal(each)\n"
    )
    Path("mine.py").write_text(
        HEAD + stop + "STUDY = spec(trials=3, objective=ToyObjective(before=stop))\n"
    )
    assert main.main(["run", "mine.py", "--executor", "processes", "--workers", "1"]) == 0
    assert len(run_folder.load("toy").complete()) == 3


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
@pytest.mark.parametrize("suffix", [".html", ".csv", ".md"])
def test_what_cannot_be_written_is_one_sentence_and_costs_no_trial(
    number: int,
    suffix: str,
    folder: Path,
    copy_run: Callable[[str, Path], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The report at the end of a run and alone, a plot, the card of an export."""
    write = files._write

    def refuse(path: Path, content: str | bytes) -> None:
        if path.suffix == suffix:
            raise OSError(number, os.strerror(number), str(path.with_name(".partial")))
        write(path, content)

    says = "free some space" if number in files.FULL else "cannot be used"
    reports = suffix == ".html"
    if not reports:
        copy_run((folder / "mine.py").read_text(), folder)
        capsys.readouterr()
    monkeypatch.setattr(files, "_write", refuse)
    if reports:
        assert main.main(["run", "mine.py"]) == 1
        said = capsys.readouterr()
        assert "toy: 5 of 5 trials complete." in " ".join(said.out.split())
        assert main.main(["report", "toy"]) == 1
        lines = said.err.splitlines() + capsys.readouterr().err.splitlines()
        assert "the report is not written, all trials are kept" in lines[0]
        assert len(lines) == 2
    elif suffix == ".csv":
        code = 1 if number in files.FULL else 2
        assert main.main(["plot", "toy", "front", "--to", "front.csv"]) == code
        says = says if number in files.FULL else "cannot write to front.csv"
        lines = capsys.readouterr().err.splitlines()
    else:
        assert main.main(["export", "toy", "--trial", "0", "--to", "best"]) == 1
        lines = capsys.readouterr().err.splitlines()
    assert all(says in line and os.strerror(number) in line for line in lines)
    assert all(".partial" not in line and "Error" not in line for line in lines)
    assert len(run_folder.load("toy").complete()) == 5
