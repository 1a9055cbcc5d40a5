"""Searches the best network for a device: proposals, short trainings, and what they show."""
