# energy-patch apply
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


def create_trainer(policy, energy_model, optimizer, device="cpu"):
    def process_function(engine, batch):
        energy_model.train()
        optimizer.zero_grad()
        with torch.no_grad():
            hidden, _ = policy(batch["observation"].to(device))
        loss, e_pos, e_neg = energy_inbatch_swap_infonce(
            energy_model, hidden, batch["actions"].to(device), batch["pad_mask"].to(device)
        )
        loss.backward()
        optimizer.step()
        return {"loss": loss.item(), "gap": (e_neg - e_pos).item()}

    return Engine(process_function)


dist.init_process_group("gloo")
energy_model = EnergyModel()
trainer = create_trainer(Policy(), energy_model, torch.optim.Adam(energy_model.parameters(), lr=1e-3))


@trainer.on(Events.ITERATION_COMPLETED)
def log(engine):
    assert engine.state.output["loss"] >= 0


trainer.run(get_loader(), max_epochs=1)
# ==== after ====
import torch
import torch.distributed as dist
from ignite.engine import Engine, Events

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


def create_trainer(policy, energy_model, optimizer, device="cpu"):
    def process_function(engine, batch):
        energy_model.train()
        optimizer.zero_grad()
        with torch.no_grad():
            hidden, _ = policy(batch["observation"].to(device))
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(
            energy_model, hidden, batch["actions"].to(device), batch["pad_mask"].to(device), tau=0.07, world_size=world_size
        )
        loss.backward()
        optimizer.step()
        return {"loss": loss.item(), "gap": (e_neg - e_pos).item()}

    return Engine(process_function)


dist.init_process_group("gloo")
energy_model = EnergyModel()
trainer = create_trainer(Policy(), energy_model, torch.optim.Adam(energy_model.parameters(), lr=1e-3))


@trainer.on(Events.ITERATION_COMPLETED)
def log(engine):
    assert engine.state.output["loss"] >= 0


trainer.run(get_loader(), max_epochs=1)
