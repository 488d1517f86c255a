"""deepspeed: an engine around one model, which owns its backward pass and step."""

import torch
from _ranks import set_up, wrap


def init_distributed(dist_backend=None):
    set_up()


def initialize(args=None, model=None, model_parameters=None, config=None):
    set_up()
    engine = Engine(model, model_parameters, config)
    return engine, engine.optimizer, None, None


class Engine(torch.nn.Module):
    def __init__(self, model, parameters, config):
        super().__init__()
        self.module, self.config = model, config
        self._wrapped = [wrap(model)]
        self.optimizer = torch.optim.AdamW(parameters, lr=config["optimizer"]["params"]["lr"])

    def forward(self, *args, **kwargs):
        return self._wrapped[0](*args, **kwargs)

    def backward(self, loss):
        loss.backward()

    def step(self):
        torch.nn.utils.clip_grad_norm_(self.module.parameters(), self.config.get("gradient_clipping", 1.0))
        self.optimizer.step()
        self.optimizer.zero_grad()
