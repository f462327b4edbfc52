"""Transfer learning, learned by doing it."""
