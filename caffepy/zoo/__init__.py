"""The zoo: published nets that come with caffepy, and copies of them made one's own."""
