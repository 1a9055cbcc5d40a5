"""monitoring.statistics."""
