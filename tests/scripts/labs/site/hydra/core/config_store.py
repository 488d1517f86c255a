"""hydra's registry of structured configs."""


class ConfigStore:
    _only = None

    def __init__(self):
        self.nodes = {}

    @classmethod
    def instance(cls):
        cls._only = cls._only or cls()
        return cls._only

    def store(self, name, node, group=None):
        self.nodes[name] = node
