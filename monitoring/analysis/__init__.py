"""monitoring.analysis."""
