"""Model, configuration, Trainer and what a run shows and saves."""
