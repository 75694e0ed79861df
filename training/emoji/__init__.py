"""The emoji model: its pictures, its training, and what it is worth."""
