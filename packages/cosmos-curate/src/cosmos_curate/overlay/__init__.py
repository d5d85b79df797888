"""Text laid over the picture after it was shot, told from text in the scene."""
