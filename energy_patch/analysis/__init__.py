"""What only `diagnose` follows: the program around a script, its calls, its values, and what becomes of a module.

Nothing here edits, and `apply` does not depend on it. What cannot be followed is said, never guessed.
"""
