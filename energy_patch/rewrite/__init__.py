"""Facts and a strategy make edits; nothing here reads a tree or a file."""
