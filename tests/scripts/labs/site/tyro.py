"""tyro: a config class is made with its defaults, a function called with its own."""


def cli(target, **_):
    return target()
