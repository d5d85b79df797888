"""Several calls of the command in one set of processes, and then a script: each process joins the others once.

torchrun --nproc-per-node 2 commands.py '[["train", "tokenizer-toy", ...], ...]' [SCRIPT ARGUMENT ...]
"""

import json
import runpy
import sys

from cosmos_posttrain.cli import main
from cosmos_posttrain.parallel import processes

if __name__ == "__main__":
    _, commands, *sys.argv = sys.argv
    with processes():
        for arguments in json.loads(commands):
            assert main(arguments) == 0
        if sys.argv:
            runpy.run_path(sys.argv[0], run_name="__main__")
