"""Models tried on tasks: batched generation with the tools really run, metrics and reports."""
