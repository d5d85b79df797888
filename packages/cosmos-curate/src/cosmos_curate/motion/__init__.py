"""What moves in a clip: the camera, as a similarity between frames, and the scene beside it."""
