"""Copies among clips: equal bytes, equal perceptual hashes, and near embeddings (SemDeDup, arXiv 2303.09540)."""
