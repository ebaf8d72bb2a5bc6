"""Retention: what is older than the settings keep it is removed."""
