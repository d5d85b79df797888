"""Embeddings of captions by a text encoder, as the Cosmos layout of shards takes them."""
