"""omegaconf: dictionaries that are read like objects."""

import dataclasses
from pathlib import Path


class DictConfig(dict):
    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name, value):
        self[name] = value


class OmegaConf:
    @staticmethod
    def create(values):
        if isinstance(values, dict):
            return DictConfig({key: OmegaConf.create(value) for key, value in values.items()})
        return values

    @staticmethod
    def structured(cls):
        return OmegaConf.create(dataclasses.asdict(cls() if isinstance(cls, type) else cls))

    @staticmethod
    def load(path):
        import yaml

        return OmegaConf.create(yaml.safe_load(Path(path).read_text()))

    @staticmethod
    def from_cli():
        return DictConfig()

    @staticmethod
    def merge(*configs):
        merged = DictConfig()
        for config in configs:
            merged.update(config)
        return merged

    @staticmethod
    def to_yaml(config):
        return str(config)
