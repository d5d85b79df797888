"""One number of technical quality from BRISQUE, soft edges, block edges and noise; weights set by measurement."""


def technical_quality(brisque: float, blur: float, blockiness: float, noise: float) -> float:
    """Return quality from 0 to 100, higher is better; it never rises with any of the four.

    BRISQUE, clipped to 0 to 100 and turned round, is lowered by a quarter where all edges are soft, by 0.3 for each
    level of block edges, and by 0.3 for each level of noise (as 1 / (1 + 0.3 x)). BRISQUE takes a little noise for
    detail, and noise sharpens edges, hence the last; benchmarks/bench_quality.py measures what each adds.
    """
    good = 100 - min(max(brisque, 0.0), 100.0)
    return good * (1 - blur / 4) / (1 + 0.3 * blockiness) / (1 + 0.3 * noise)
