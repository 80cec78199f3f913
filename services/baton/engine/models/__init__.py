"""The decoder: one config-driven model for every supported family."""
