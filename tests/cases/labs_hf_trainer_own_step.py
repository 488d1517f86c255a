# energy-patch apply
# Energy head trained beside the policy: training_step is the only hook that sees both.
import torch
from transformers import Trainer, TrainingArguments

import energy.energy_model as em
from data import Episodes
from policy import Policy


class EnergyTrainer(Trainer):
    energy_model: torch.nn.Module
    energy_optimizer: torch.optim.Optimizer

    def attach(self, energy_model):
        self.energy_model = energy_model
        self.energy_optimizer = torch.optim.Adam(energy_model.parameters(), lr=5e-3)
        return self

    def training_step(self, model, inputs, *args, **kwargs):
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.energy_optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            h, _ = model(inputs["observation"])
        e_loss, *stats = em.energy_inbatch_swap_infonce(self.energy_model, h, inputs["actions"], inputs["pad_mask"], tau=0.2)
        e_loss.backward()
        torch.nn.utils.clip_grad_norm_(self.energy_model.parameters(), self.args.max_grad_norm)
        self.energy_optimizer.step()
        return loss

    def compute_loss(self, model, inputs, **kwargs):
        return (model(inputs["observation"])[1] - inputs["actions"]).pow(2).mean()


trainer = EnergyTrainer(Policy(), TrainingArguments(per_device_train_batch_size=2), train_dataset=Episodes(8))
trainer.attach(em.EnergyModel()).train()
# ==== after ====
# Energy head trained beside the policy: training_step is the only hook that sees both.
import torch
from transformers import Trainer, TrainingArguments

import energy.energy_model as em
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from data import Episodes
from policy import Policy


class EnergyTrainer(Trainer):
    energy_model: torch.nn.Module
    energy_optimizer: torch.optim.Optimizer

    def attach(self, energy_model):
        self.energy_model = energy_model
        self.energy_optimizer = torch.optim.Adam(energy_model.parameters(), lr=5e-3)
        return self

    def training_step(self, model, inputs, *args, **kwargs):
        loss = super().training_step(model, inputs, *args, **kwargs)
        self.energy_optimizer.zero_grad(set_to_none=True)
        with torch.no_grad():
            h, _ = model(inputs["observation"])
        replicate(self.energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        e_loss, *stats = distributed_energy_inbatch_swap_infonce(self.energy_model, h, inputs["actions"], inputs["pad_mask"], tau=0.2, world_size=world_size)
        e_loss.backward()
        torch.nn.utils.clip_grad_norm_(self.energy_model.parameters(), self.args.max_grad_norm)
        self.energy_optimizer.step()
        return loss

    def compute_loss(self, model, inputs, **kwargs):
        return (model(inputs["observation"])[1] - inputs["actions"]).pow(2).mean()


trainer = EnergyTrainer(Policy(), TrainingArguments(per_device_train_batch_size=2), train_dataset=Episodes(8))
trainer.attach(em.EnergyModel()).train()
