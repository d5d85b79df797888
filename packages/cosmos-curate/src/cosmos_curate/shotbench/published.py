"""What arXiv 2501.03575, table 1, gives for detectors of shots."""

PUBLISHED = {
    "bbc": {"content": 0.889, "panda": 0.777, "transnetv2": 0.967, "autoshot": 0.952},
    "rai": {"content": 0.831, "panda": 0.829, "transnetv2": 0.919, "autoshot": 0.906},
    "shot": {"content": 0.718, "panda": 0.622, "transnetv2": 0.821, "autoshot": 0.834},
    "clipshots": {"content": 0.477, "panda": 0.513, "transnetv2": 0.726, "autoshot": 0.711},
}
"""F1 by set and detector, at threshold 0.4 for the networks; of ClipShots each transition counts as its midpoint."""
