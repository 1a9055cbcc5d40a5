"""monitoring.report."""
