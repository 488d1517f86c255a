"""Scripts put together at random from every way to write each piece, and stand-ins to run them with."""
