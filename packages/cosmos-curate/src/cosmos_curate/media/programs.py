"""Programs that a stage runs, and the CPU seconds that they took: the clock of the thread that waits counts none."""

import os
import subprocess
import threading
from collections.abc import Sequence


class _Spent(threading.local):
    cpu_s = 0.0


_spent = _Spent()


def programs_cpu_s() -> float:
    """Return the CPU seconds of all programs that this thread has run; on Windows, which keeps no such account, 0."""
    return _spent.cpu_s


def run_program(command: Sequence[str]) -> tuple[int, bytes]:
    """Run a program without input; return its exit code, or minus the signal that ended it, and its standard error."""
    quiet = subprocess.DEVNULL
    # In a session of its own: Ctrl-C goes to all programs of a terminal, and a stopped FFmpeg looks like a bad clip.
    with subprocess.Popen(
        command, stdin=quiet, stdout=quiet, stderr=subprocess.PIPE, start_new_session=True
    ) as process:
        try:
            words = process.stderr.read() if process.stderr else b""
            if hasattr(os, "wait4"):
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                _spent.cpu_s += usage.ru_utime + usage.ru_stime
        except BaseException:
            process.kill()
            raise
        return process.wait(), words
