"""Shots of long videos and the spans of clips cut from them (arXiv 2501.03575, section 3.1)."""
