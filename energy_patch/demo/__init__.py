"""The main job on a small training codebase that comes along: see it fail, patch it, see it learn."""
