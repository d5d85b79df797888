"""Captions of clips: by a served or a local vision-language model, or put together from what was measured."""
