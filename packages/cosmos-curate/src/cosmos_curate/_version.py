"""The version, written by scripts/release.py: X.Y.Z on a release commit, the next patch's .dev0 between releases."""

__version__ = "0.1.0.dev0"
