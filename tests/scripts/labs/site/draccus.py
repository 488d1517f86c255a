"""draccus: the decorated function gets its config, made from the annotation."""

import functools


def wrap(config_path=None):
    def decorate(function):
        @functools.wraps(function)
        def run():
            return function(next(iter(function.__annotations__.values()))())

        return run

    return decorate
