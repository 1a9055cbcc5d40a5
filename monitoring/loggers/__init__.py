"""monitoring.loggers."""
