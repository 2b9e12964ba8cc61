"""Layers that learn from a table of ratings; importing a file registers its types."""
