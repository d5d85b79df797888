"""From text or video to what happens next: whole pipelines around a world model (arXiv 2501.03575, section 5.1)."""

from cosmos_diffusion.pipelines.generation import Generation as Generation
from cosmos_diffusion.pipelines.guard import Guard as Guard
from cosmos_diffusion.pipelines.guard import PromptVerdict as PromptVerdict
from cosmos_diffusion.pipelines.guard import RefusedError as RefusedError
from cosmos_diffusion.pipelines.guard import VideoVerdict as VideoVerdict
from cosmos_diffusion.pipelines.guard import Watch as Watch
from cosmos_diffusion.pipelines.pipeline import Made as Made
from cosmos_diffusion.pipelines.pipeline import Pipeline as Pipeline
from cosmos_diffusion.pipelines.placement import Placement as Placement
from cosmos_diffusion.pipelines.request import SAMPLERS as SAMPLERS
from cosmos_diffusion.pipelines.request import Request as Request
from cosmos_diffusion.pipelines.request import Sampler as Sampler
from cosmos_diffusion.pipelines.request import Settings as Settings
from cosmos_diffusion.pipelines.text2world import Text2World as Text2World
from cosmos_diffusion.pipelines.texts import Texts as Texts
from cosmos_diffusion.pipelines.video2world import Video2World as Video2World

__all__ = [
    "SAMPLERS",
    "Generation",
    "Guard",
    "Made",
    "Pipeline",
    "Placement",
    "PromptVerdict",
    "RefusedError",
    "Request",
    "Sampler",
    "Settings",
    "Text2World",
    "Texts",
    "Video2World",
    "VideoVerdict",
    "Watch",
]
