"""From a video to its clips: who it is by its bytes, where it is cut, and each piece as a file of its own."""
