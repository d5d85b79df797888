"""How well detectors find shots: on labelled sets as arXiv 2501.03575, section 3.1, compares them, and on splices."""
