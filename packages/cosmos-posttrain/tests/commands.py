"""Several calls of the command in one set of processes, of which each joins the others once.

torchrun --nproc-per-node 2 commands.py '[["train", "tokenizer-toy", ...], ...]'
"""

import json
import sys

from cosmos_posttrain.cli import main
from cosmos_posttrain.parallel import processes

if __name__ == "__main__":
    with processes():
        for arguments in json.loads(sys.argv[1]):
            assert main(arguments) == 0
