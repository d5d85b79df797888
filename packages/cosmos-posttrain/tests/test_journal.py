"""The journal's memory: what the process itself holds at its peak, without the pages of files that it has mapped."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cosmos_posttrain import journal

LOOK = """
import sys
import numpy as np
from cosmos_posttrain.journal import Memory

memory = Memory()
begun = memory.most()
clips = np.load(sys.argv[1], mmap_mode="r")
clips.sum()
print(memory.most() - begun)
own = np.ones(1 << 26, np.uint8)
del own
print(memory.most() - begun)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="other systems tell no pages of files apart")
def test_memory_is_the_peak_of_a_process_without_the_files_that_it_maps(tmp_path: Path) -> None:
    np.save(tmp_path / "clips.npy", np.zeros(1 << 26, np.uint8))
    command = [sys.executable, "-c", LOOK, str(tmp_path / "clips.npy")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    mapped, held = map(int, done.stdout.split())
    assert 0 <= mapped < 1 << 24
    assert 3 << 24 < held < 5 << 24


def test_memory_falls_back_to_the_peak_of_all_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "_pages", dict)
    assert journal.Memory().most() > 1 << 26
