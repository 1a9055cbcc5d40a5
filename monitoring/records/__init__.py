"""monitoring.records."""
