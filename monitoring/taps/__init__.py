"""monitoring.taps."""
