"""Small models from packages of the index, as ONNX files in the user's cache."""
