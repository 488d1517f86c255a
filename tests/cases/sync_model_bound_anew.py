# energy-patch apply
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce

def members(h, a):
    energy_model = EnergyModel()
    first = energy_inbatch_swap_infonce(energy_model, h, a)[1]
    for member in range(3):
        for _ in range(9):
            energy_inbatch_swap_infonce(energy_model, h, a)[0].backward()
        energy_model = EnergyModel()
    return first

class Trainer:
    def __init__(self):
        self.bundle, self.energy = Bundle(), EnergyModel()

    def again(self, h, a):
        first = energy_inbatch_swap_infonce(self.energy, h, a)
        other = energy_inbatch_swap_infonce(self.energy, a, h)
        self.energy, old = EnergyModel(), self.energy
        return first, other, energy_inbatch_swap_infonce(self.energy, h, a), old

    def rebuilt(self, h, a):
        first = energy_inbatch_swap_infonce(self.bundle.energy, h, a)
        self.bundle.energy(h, a)
        other = energy_inbatch_swap_infonce(self.bundle.energy, h, a)
        self.rebuild()
        third = energy_inbatch_swap_infonce(self.bundle.energy, h, a)
        rebuild(self.bundle)
        return first, other, third, energy_inbatch_swap_infonce(self.bundle.energy, h, a)

    def used_before(self, h, a):
        print(self.energy(h, a))
        self.energy = EnergyModel()
        print(self.energy(h, a))
        return energy_inbatch_swap_infonce(self.energy, h, a)

def rebuild_model():
    global model
    model = EnergyModel()

def train(h, a):
    first = energy_inbatch_swap_infonce(model, h, a)
    print(first)
    other = energy_inbatch_swap_infonce(model, h, a)
    rebuild_model()
    return first, other, energy_inbatch_swap_infonce(model, h, a)
# ==== after ====
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate

def members(h, a):
    energy_model = EnergyModel()
    replicate(energy_model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    first = distributed_energy_inbatch_swap_infonce(energy_model, h, a, tau=0.07, world_size=world_size)[1]
    for member in range(3):
        for _ in range(9):
            replicate(energy_model)
            distributed_energy_inbatch_swap_infonce(energy_model, h, a, tau=0.07, world_size=world_size)[0].backward()
        energy_model = EnergyModel()
    return first

class Trainer:
    def __init__(self):
        self.bundle, self.energy = Bundle(), EnergyModel()

    def again(self, h, a):
        replicate(self.energy)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        first = distributed_energy_inbatch_swap_infonce(self.energy, h, a, tau=0.07, world_size=world_size)
        other = distributed_energy_inbatch_swap_infonce(self.energy, a, h, tau=0.07, world_size=world_size)
        self.energy, old = EnergyModel(), self.energy
        replicate(self.energy)
        return first, other, distributed_energy_inbatch_swap_infonce(self.energy, h, a, tau=0.07, world_size=world_size), old

    def rebuilt(self, h, a):
        replicate(self.bundle.energy)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        first = distributed_energy_inbatch_swap_infonce(self.bundle.energy, h, a, tau=0.07, world_size=world_size)
        self.bundle.energy(h, a)
        other = distributed_energy_inbatch_swap_infonce(self.bundle.energy, h, a, tau=0.07, world_size=world_size)
        self.rebuild()
        replicate(self.bundle.energy)
        third = distributed_energy_inbatch_swap_infonce(self.bundle.energy, h, a, tau=0.07, world_size=world_size)
        rebuild(self.bundle)
        replicate(self.bundle.energy)
        return first, other, third, distributed_energy_inbatch_swap_infonce(self.bundle.energy, h, a, tau=0.07, world_size=world_size)

    def used_before(self, h, a):
        print(self.energy(h, a))
        self.energy = EnergyModel()
        replicate(self.energy)
        print(self.energy(h, a))
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        return distributed_energy_inbatch_swap_infonce(self.energy, h, a, tau=0.07, world_size=world_size)

def rebuild_model():
    global model
    model = EnergyModel()

def train(h, a):
    replicate(model)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    first = distributed_energy_inbatch_swap_infonce(model, h, a, tau=0.07, world_size=world_size)
    print(first)
    other = distributed_energy_inbatch_swap_infonce(model, h, a, tau=0.07, world_size=world_size)
    rebuild_model()
    replicate(model)
    return first, other, distributed_energy_inbatch_swap_infonce(model, h, a, tau=0.07, world_size=world_size)
