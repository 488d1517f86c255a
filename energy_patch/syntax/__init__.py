"""A script as text: bytes, tree, scopes, tokens; nothing here knows what is looked for."""
