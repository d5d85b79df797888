"""Several processes on one clip, started by ``torchrun``: frames, guidance and weights shared out, equal outputs."""

from cosmos_diffusion.parallel.context import METHODS as METHODS
from cosmos_diffusion.parallel.context import Method as Method
from cosmos_diffusion.parallel.context import context_parallel as context_parallel
from cosmos_diffusion.parallel.guidance import both as both
from cosmos_diffusion.parallel.plan import Plan as Plan
from cosmos_diffusion.parallel.plan import Team as Team
from cosmos_diffusion.parallel.plan import plan_for as plan_for
from cosmos_diffusion.parallel.sharded import shard as shard
from cosmos_tokenizer.devices import processes as processes

__all__ = ["METHODS", "Method", "Plan", "Team", "both", "context_parallel", "plan_for", "processes", "shard"]
