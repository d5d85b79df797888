"""The largest cosine of each row against a block of others: matrix products, by numpy
for device "cpu" and by torch for its other devices."""

import numpy as np
from jaxtyping import Float32, Int64


def best(
    queries: Float32[np.ndarray, "Q D"],
    keys: Float32[np.ndarray, "K D"],
    query_ranks: Int64[np.ndarray, "Q"],
    key_ranks: Int64[np.ndarray, "K"],
    *,
    device: str = "cpu",
) -> tuple[Float32[np.ndarray, "Q"], Int64[np.ndarray, "Q"]]:
    """Return, for each query, the largest cosine to a key of smaller rank, and that key's rank; -2 and -1 for none.

    Ranks rise along the keys; of equal cosines the smaller rank wins.
    """
    mask = key_ranks[-1] >= query_ranks[0]
    if device != "cpu":
        import torch

        cosines = torch.from_numpy(queries).to(device) @ torch.from_numpy(keys).to(device).T
        if mask:
            later = torch.from_numpy(key_ranks).to(device)[None] >= torch.from_numpy(query_ranks).to(device)[:, None]
            cosines.masked_fill_(later, -2)
        # A GPU's max may name any of equal cosines: the first is asked for in so many words.
        values = cosines.amax(1)
        places = (cosines == values[:, None]).int().argmax(1).cpu().numpy()
        found = values.cpu().numpy()
    else:
        cosines = queries @ keys.T
        if mask:
            cosines[key_ranks[None] >= query_ranks[:, None]] = -2
        places = cosines.argmax(1)
        found = cosines[np.arange(len(queries)), places]
    return found, np.where(found > -2, key_ranks[places], -1)
