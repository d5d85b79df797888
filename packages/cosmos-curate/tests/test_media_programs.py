"""Programs: their exit codes and last words, and CPU seconds for the thread, and the stage, that ran them."""

import signal
import sys
import threading

import pytest

from cosmos_curate.engine.ledger import Ledger
from cosmos_curate.engine.steps import remember
from cosmos_curate.engine.storage import Store
from cosmos_curate.media.programs import programs_cpu_s, run_program
from cosmos_curate.stage import Item

BUSY = [sys.executable, "-c", "import time\nwhile time.process_time() < 0.2: pass"]
counted = pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps no account of ended programs")


def test_the_code_and_the_last_words():
    assert run_program([sys.executable, "-c", "print('out')"]) == (0, b"")
    code, words = run_program([sys.executable, "-c", "import sys; sys.exit('why')"])
    assert (code, words.split()) == (1, [b"why"])


@counted
def test_a_signal_is_a_negative_code():
    code, _ = run_program([sys.executable, "-c", "import os; os.kill(os.getpid(), 15)"])
    assert code == -signal.SIGTERM


def test_a_program_that_is_not_there():
    with pytest.raises(FileNotFoundError):
        run_program(["no-such-program-anywhere"])


@counted
def test_cpu_seconds_go_to_the_thread_that_ran_it():
    elsewhere = []

    def other():
        run_program(BUSY)
        elsewhere.append(programs_cpu_s())

    before = programs_cpu_s()
    thread = threading.Thread(target=other)
    thread.start()
    run_program(BUSY)
    thread.join()
    assert programs_cpu_s() - before >= 0.2
    assert 0.2 <= elsewhere[0] < programs_cpu_s() - before + elsewhere[0]
    run_program(BUSY)
    assert programs_cpu_s() - before >= 0.4


@counted
def test_a_stages_measure_has_its_programs(tmp_path):
    def compute():
        run_program(BUSY)
        return {}

    ledger, item = Ledger(Store(tmp_path)), Item(id="ab", path="a.mp4")
    _, first = remember(ledger, item, "stage", "key", compute)
    _, again = remember(ledger, item, "stage", "key", compute)
    assert first.cpu_s >= 0.2 > again.cpu_s
