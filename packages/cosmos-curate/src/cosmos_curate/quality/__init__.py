"""Technical quality of a clip's picture: distortions that a camera, a codec or a scaler left in it."""
