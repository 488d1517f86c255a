"""Where models are built in a repository that has a place for it."""

from energy.energy_model import EnergyModel
from policy import Policy


def build_energy_model(device="cpu", **kwargs):
    return EnergyModel(**kwargs).to(device)


def build_models(cfg=None):
    return Policy(), build_energy_model()
