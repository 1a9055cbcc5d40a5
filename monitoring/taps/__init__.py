"""Finding the layers to watch, and getting at their activations."""
