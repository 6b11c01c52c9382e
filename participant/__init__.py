"""A site: what it trains, and the loop that answers rounds."""
