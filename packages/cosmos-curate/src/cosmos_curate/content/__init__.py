"""What a clip shows: embedding, tags, type of video, aesthetics, and the mix of a data set (arXiv 2501.03575, 3)."""
