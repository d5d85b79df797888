"""Video files: what they say of themselves, their frames by time, letterbox bars, and exact re-encoding."""
