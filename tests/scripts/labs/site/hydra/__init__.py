"""hydra: the main decorator; the config is the stored node of that name, or config.yaml."""

import functools

from omegaconf import OmegaConf

from .core.config_store import ConfigStore


def main(config_path=None, config_name="config", version_base=None):
    def decorate(function):
        @functools.wraps(function)
        def run():
            node = ConfigStore.instance().nodes.get(config_name)
            return function(OmegaConf.structured(node) if node else OmegaConf.load(f"{config_name}.yaml"))

        return run

    return decorate
