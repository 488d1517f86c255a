"""The energy models that a script built, each with its weights at that moment."""

import torch

MODELS = []


def register(model):
    MODELS.append((model, flat(model)))


def flat(model):
    return torch.cat([parameter.detach().flatten().clone() for parameter in model.parameters()])
