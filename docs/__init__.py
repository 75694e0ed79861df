"""What makes the documentation: its pictures, and the pages that hold what was measured."""
