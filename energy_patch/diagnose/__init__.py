"""What is wrong with a script before anything is patched: numbers, findings, one recommendation; nothing is run."""
