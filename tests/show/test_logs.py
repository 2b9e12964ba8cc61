"""Log lines in glog's form, and the progress bar that only a terminal sees."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from contextlib import contextmanager

import pytest

from caffepy.cli import terminal
from caffepy.proto import text
from caffepy.proto.caffe_pb2 import SolverParameter
from caffepy.show import logs
from caffepy.solver import Solver
from tests.solver.test_features import NET

# As in Caffe's tools/extra: parse_log.py takes the time from the line, extract_seconds.py the words before "]".
GLOG = re.compile(r"([IWEF])(\d{2})(\d{2}) (\d{2}):(\d{2}):(\d{2})\.(\d{6}) +(\d+) ([\w.]+):(\d+)\] (.*)")


@pytest.fixture
def handler():
    """A handler on the package's log, as a command installs it, and the log as it was afterwards."""
    logger = logging.getLogger("caffepy")
    kept = logger.handlers[:], logger.level, logger.propagate
    logger.handlers = []
    yield logs.start_logging()
    logger.handlers[:], logger.level, logger.propagate = kept[0], kept[1], kept[2]


@pytest.mark.parametrize(("level", "letter"), [("info", "I"), ("warning", "W"), ("error", "E")])
def test_lines_are_glogs(handler, capsys, level, letter):
    getattr(logging.getLogger("caffepy.test"), level)("Iteration %d, loss = %.6g", 100, 0.25)
    out, err = capsys.readouterr()
    found = GLOG.fullmatch(err.rstrip("\n"))
    assert found and out == ""
    assert found[1] == letter and found[9] == "test_logs.py" and found[11] == "Iteration 100, loss = 0.25"
    assert 1 <= int(found[2]) <= 12 and int(found[8]) > 0


def test_microseconds_are_of_the_same_moment(monkeypatch):
    record = logging.LogRecord("caffepy", logging.INFO, "/a/solver.py", 7, "text", (), None)
    record.created = 1_700_000_000.25
    assert re.search(r":20\.250000 \d+ solver\.py:7\] text$", logs.GlogFormatter().format(record))


def test_the_level_follows_the_last_call(handler, capsys):
    assert logs.start_logging(verbose=True) is handler
    logging.getLogger("caffepy.net").debug("shown")
    logs.start_logging()
    logging.getLogger("caffepy.net").debug("hidden")
    assert re.findall(r"\] (.*)", capsys.readouterr().err) == ["shown"]


def test_a_file_sees_no_bar(handler, monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with logs.progress(handler, "testing", 10) as advance:
        advance(5)
        logging.getLogger("caffepy").info("a line")
    assert GLOG.fullmatch(stream.getvalue().rstrip("\n"))


def test_the_bar_of_a_training_follows_its_iterations(handler, monkeypatch):
    shown = []

    @contextmanager
    def progress(*arguments):
        shown.append(arguments)
        yield lambda done, note: shown.append((done, note()))

    monkeypatch.setattr(terminal, "progress", progress)
    solver = Solver(text.parse(f'{NET % ""} base_lr: 0.1 lr_policy: "fixed" max_iter: 9', SolverParameter()))
    solver.step(2)
    with terminal.training(handler, solver):
        solver.step(2)
    solver.step(1)
    assert shown[0] == (handler, "training", 9, 2) and [done for done, _ in shown[1:]] == [3, 4]
    assert re.fullmatch(r"loss [\d.e-]+  lr 0.1", shown[1][1])
    solver.scores = {"accuracy": 0.75}
    with terminal.training(handler, solver):
        solver.step(1)
    assert shown[-1][1].endswith("lr 0.1  accuracy 0.75")


BAR = """
import logging, time
from caffepy.show import logs
handler = logs.start_logging()
with logs.progress(handler, "training", 40, done=10) as advance:
    for i in range(11, 41):
        advance(i)
        if i == 20:
            logging.getLogger("caffepy").info("Iteration [20] loss = 0.5, " + "x" * 150)
        time.sleep(0.02)
logging.getLogger("caffepy").info("behind the bar")
"""


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals")
def test_a_terminal_sees_a_bar_with_rate_and_time_left(tmp_path):
    import pty

    script = tmp_path / "bar.py"
    script.write_text(BAR)
    master, slave = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    environment.pop("NO_COLOR", None)
    child = subprocess.Popen([sys.executable, script], stdout=slave, stderr=slave, env=environment)
    os.close(slave)
    raw = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:  # Linux: the other end is closed
            break
        if not chunk:
            break
        raw += chunk
    os.close(master)
    assert child.wait() == 0
    text = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", raw.decode())
    assert re.search(r"training .*\d+/40 +\d+\.\d/s +(\d+:\d\d:\d\d|-:--:--)", text)
    counts = [int(n) for n in re.findall(r"(\d+)/40", text)]
    assert counts == sorted(counts) and counts[0] >= 10 and len(set(counts)) > 2
    rates = [float(r) for r in re.findall(r"(\d+\.\d)/s", text)]
    assert 5 < rates[-1] < 60  # 30 steps of 20 ms: what was done before the start does not count
    # Log lines stay whole, on lines of their own.
    lines = [found[11] for line in re.split(r"[\r\n]+", text) if (found := GLOG.fullmatch(line.strip()))]
    assert lines == ["Iteration [20] loss = 0.5, " + "x" * 150, "behind the bar"]
