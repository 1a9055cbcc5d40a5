"""Pages and figures, and the functions that write them."""
