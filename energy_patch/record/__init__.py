"""What was done, as data that travels with the user's commits."""
