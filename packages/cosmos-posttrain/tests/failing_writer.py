"""Two runs of `line.py` on two processes, whose second one cannot write its part of a checkpoint.

    torchrun --nproc-per-node 2 failing_writer.py FOLDER CONFIG

What stops each run in each process goes to `FOLDER/RUN-RANK.txt`. In the run "sum" a file cannot be read once it is
written; in "limit" it cannot be written to its end.
"""

import errno
import json
import os
import resource
import sys
from pathlib import Path

from line import Line, PointStream, config_of

from cosmos_posttrain import checkpoints, train
from cosmos_posttrain.parallel import processes


def unreadable(path: Path) -> str:
    raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))


def main() -> None:
    folder, config = Path(sys.argv[1]), config_of(json.loads(sys.argv[2]))
    with processes():
        rank = int(os.environ["RANK"])
        readable = checkpoints._sum
        for run in ("sum", "limit"):
            checkpoints._sum = unreadable if (run, rank) == ("sum", 1) else readable
            if (run, rank) == ("limit", 1):
                resource.setrlimit(resource.RLIMIT_FSIZE, (2000, resource.RLIM_INFINITY))
            try:
                train(Line(noisy=False), PointStream(rank, 2), config, folder / run, say=lambda line: None)
            except OSError as error:
                (folder / f"{run}-{rank}.txt").write_text(str(error))


if __name__ == "__main__":
    main()
