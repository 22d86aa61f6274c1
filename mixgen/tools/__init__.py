"""What a model may call; nothing here evaluates or executes text."""
