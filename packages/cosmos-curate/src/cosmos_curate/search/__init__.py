"""Search of a finished run: clips near a clip, and clips whose written words match."""
