# energy-patch apply
# refused (not-found): line 10: its name in a string
import importlib

import torch

losses = importlib.import_module("energy.energy_model")


def train(energy_model, loader, name="energy_inbatch_swap_infonce"):
    for h, a, mask in loader:
        loss = getattr(losses, name)(energy_model, h, a, mask)[0]
        loss.backward()
