"""Finding a patch again and taking it out."""
