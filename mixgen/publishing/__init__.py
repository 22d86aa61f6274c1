"""Generated datasets as Parquet, cards, and pushes to the Hub."""
