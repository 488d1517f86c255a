"""Facts about a script; nothing here edits."""
