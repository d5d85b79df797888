"""Terms of the tokenizer's objective, each ``(reconstruction, video) -> scalar``; weights are the recipe's.

There is no KL term: the released encoders are deterministic, and it was never active.
"""

from cosmos_posttrain.losses.adversarial import Adversarial as Adversarial
from cosmos_posttrain.losses.adversarial import adaptive_weight as adaptive_weight
from cosmos_posttrain.losses.colour import colour as colour
from cosmos_posttrain.losses.consistency import VideoConsistency as VideoConsistency
from cosmos_posttrain.losses.distance import perceptual_distance as perceptual_distance
from cosmos_posttrain.losses.features import PAPER_VGG19 as PAPER_VGG19
from cosmos_posttrain.losses.features import RELEASED_VGG16 as RELEASED_VGG16
from cosmos_posttrain.losses.features import Gram as Gram
from cosmos_posttrain.losses.features import Perceptual as Perceptual
from cosmos_posttrain.losses.features import activations as activations
from cosmos_posttrain.losses.features import equal_weights as equal_weights
from cosmos_posttrain.losses.flow import OpticalFlow as OpticalFlow
from cosmos_posttrain.losses.schedule import POST_TRAINING as POST_TRAINING
from cosmos_posttrain.losses.schedule import RELEASED as RELEASED
from cosmos_posttrain.losses.schedule import StepSchedule as StepSchedule

__all__ = [
    "PAPER_VGG19",
    "POST_TRAINING",
    "RELEASED",
    "RELEASED_VGG16",
    "Adversarial",
    "Gram",
    "OpticalFlow",
    "Perceptual",
    "StepSchedule",
    "VideoConsistency",
    "activations",
    "adaptive_weight",
    "colour",
    "equal_weights",
    "perceptual_distance",
]
