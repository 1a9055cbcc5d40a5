"""Where records go: console, CSV, JSON Lines, TensorBoard, arrays, and a folder of them."""
