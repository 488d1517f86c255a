"""fire: a function is called with its own defaults."""


def Fire(function):  # noqa: N802
    return function()
