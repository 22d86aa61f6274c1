"""Tasks and weights to one stream of examples."""
