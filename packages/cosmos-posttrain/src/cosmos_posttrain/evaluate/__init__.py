"""Physics evaluation of world models on rendered clips: exact masks, two baselines, and the tokenizer's ceiling.

`evaluate` scores a `Predictor` on clips of `cosmos_posttrain.worlds`, and `summarise` and `table` say what came out.
"""

from cosmos_posttrain.evaluate.baselines import constant_velocity as constant_velocity
from cosmos_posttrain.evaluate.baselines import copy_last_frame as copy_last_frame
from cosmos_posttrain.evaluate.colour_objects import ColourObjects as ColourObjects
from cosmos_posttrain.evaluate.colour_objects import reference_colours as reference_colours
from cosmos_posttrain.evaluate.physics import Predictor as Predictor
from cosmos_posttrain.evaluate.physics import Row as Row
from cosmos_posttrain.evaluate.physics import evaluate as evaluate
from cosmos_posttrain.evaluate.scores import Score as Score
from cosmos_posttrain.evaluate.scores import score as score
from cosmos_posttrain.evaluate.summary import Figure as Figure
from cosmos_posttrain.evaluate.summary import Summary as Summary
from cosmos_posttrain.evaluate.summary import summarise as summarise
from cosmos_posttrain.evaluate.tables import table as table
from cosmos_posttrain.evaluate.tables import verdict as verdict
from cosmos_posttrain.evaluate.world_clips import ClipFile as ClipFile
from cosmos_posttrain.evaluate.world_clips import WorldClip as WorldClip
from cosmos_posttrain.evaluate.world_clips import find_clips as find_clips

__all__ = [
    "ClipFile",
    "ColourObjects",
    "Figure",
    "Predictor",
    "Row",
    "Score",
    "Summary",
    "WorldClip",
    "constant_velocity",
    "copy_last_frame",
    "evaluate",
    "find_clips",
    "reference_colours",
    "score",
    "summarise",
    "table",
    "verdict",
]
