"""What became of each script, in words."""
