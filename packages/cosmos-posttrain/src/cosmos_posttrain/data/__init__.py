"""Training data: shards, folders or pools in, an endless, resumable stream of batches out.

`open_source` tells what a path holds; `Stream` makes `Batch`es of it by a `StreamConfig`. Anything with the three
methods of `Source` will do for the first.
"""

from cosmos_posttrain.data.batch import Batch as Batch
from cosmos_posttrain.data.config import StreamConfig as StreamConfig
from cosmos_posttrain.data.opening import open_source as open_source
from cosmos_posttrain.data.source import Description as Description
from cosmos_posttrain.data.source import Source as Source
from cosmos_posttrain.data.stream import Stream as Stream

__all__ = ["Batch", "Description", "Source", "Stream", "StreamConfig", "open_source"]
