"""The contract that every task is held to."""
