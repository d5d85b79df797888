"""Parts that the family's transformers share: attention, rotary positions, linear layers, norms. Public and stable."""

from cosmos_diffusion.nn.attention import BACKENDS as BACKENDS
from cosmos_diffusion.nn.attention import Attend as Attend
from cosmos_diffusion.nn.attention import Backend as Backend
from cosmos_diffusion.nn.attention import attention as attention
from cosmos_diffusion.nn.linear import Linear as Linear
from cosmos_diffusion.nn.norms import RMSNorm as RMSNorm
from cosmos_diffusion.nn.norms import modulated as modulated
from cosmos_diffusion.nn.rope import Rotation as Rotation
from cosmos_diffusion.nn.rope import axis_widths as axis_widths
from cosmos_diffusion.nn.rope import frequencies as frequencies
from cosmos_diffusion.nn.rope import grid_angles as grid_angles
from cosmos_diffusion.nn.rope import rotate as rotate
from cosmos_diffusion.nn.rope import rotation as rotation

__all__ = [
    "BACKENDS",
    "Attend",
    "Backend",
    "Linear",
    "RMSNorm",
    "Rotation",
    "attention",
    "axis_widths",
    "frequencies",
    "grid_angles",
    "modulated",
    "rotate",
    "rotation",
]
