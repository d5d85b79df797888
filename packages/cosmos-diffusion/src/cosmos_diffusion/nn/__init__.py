"""Parts that the family's transformers share: attention, rotary positions, linear layers, norms. Public and stable."""

from cosmos_diffusion.nn.attention import BACKENDS as BACKENDS
from cosmos_diffusion.nn.attention import Attend as Attend
from cosmos_diffusion.nn.attention import Backend as Backend
from cosmos_diffusion.nn.attention import attention as attention
from cosmos_diffusion.nn.linear import FLOAT8_BACKENDS as FLOAT8_BACKENDS
from cosmos_diffusion.nn.linear import SCALINGS as SCALINGS
from cosmos_diffusion.nn.linear import Float8Backend as Float8Backend
from cosmos_diffusion.nn.linear import Linear as Linear
from cosmos_diffusion.nn.linear import Scaling as Scaling
from cosmos_diffusion.nn.linear import use_float8 as use_float8
from cosmos_diffusion.nn.linear import use_full_precision as use_full_precision
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
    "FLOAT8_BACKENDS",
    "SCALINGS",
    "Attend",
    "Backend",
    "Float8Backend",
    "Linear",
    "RMSNorm",
    "Rotation",
    "Scaling",
    "attention",
    "axis_widths",
    "frequencies",
    "grid_angles",
    "modulated",
    "rotate",
    "rotation",
    "use_float8",
    "use_full_precision",
]
