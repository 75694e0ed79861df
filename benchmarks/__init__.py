"""What `make bench` writes, and what runs on a GPU."""
