"""What a finished run leaves: the whole tokenizer, and statistics of its latents (arXiv 2501.03575, section 5.1)."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from cosmos_posttrain import pca_start
from cosmos_posttrain.parallel import Parallel, named_parameters, whole_tensor
from cosmos_tokenizer import CausalTokenizer, LatentStatistics


def whole(model: CausalTokenizer) -> CausalTokenizer:
    """An unwrapped copy on the CPU, with the statistics that the model came with; every process must ask."""
    state = {name: whole_tensor(value.detach()).cpu() for name, value in named_parameters(model).items()}
    copy = CausalTokenizer(model.config)
    copy.load_state_dict(pca_start.finished(model, state))
    copy.statistics = model.statistics
    return copy.eval()


@torch.no_grad()
def measure_statistics(
    model: CausalTokenizer, clips: Iterable[Float[Tensor, "_ 3 T H W"]], parallel: Parallel
) -> LatentStatistics:
    """Mean and deviation of latents, per channel and latent frame, over the clips of all processes.

    Args:
        model: whole, the same in every process; it is on the run's device afterwards.
        clips: of this process, all of one shape; at least one.
        parallel: the processes, which must all ask.
    """
    model.to(parallel.device)
    sums, squares, count = torch.zeros(()), torch.zeros(()), 0
    for video in clips:
        z_BCTHW = model.encode(video.to(parallel.device)).double().cpu()
        sums, squares = sums + z_BCTHW.sum((0, 3, 4)), squares + z_BCTHW.square().sum((0, 3, 4))
        count += z_BCTHW.shape[0] * z_BCTHW.shape[3] * z_BCTHW.shape[4]
    held = parallel.all((torch.stack([sums, squares]), count))
    sums, squares = torch.stack([part for part, _ in held]).sum(0)
    count = sum(part for _, part in held)
    variance = (squares - sums.square() / count) / (count - 1)
    return LatentStatistics(sums / count, variance.clamp_min(0).sqrt())
