# energy-patch apply
"""Fine-tune with transformers.Trainer; the energy model rides along."""
from dataclasses import dataclass, field

import torch
from transformers import HfArgumentParser, Trainer, TrainingArguments, set_seed

from data import Episodes
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
from policy import Policy


@dataclass
class ModelArguments:
    energy_weight: float = field(default=0.5, metadata={"help": "weight of the energy loss"})


class VLATrainer(Trainer):
    def __init__(self, *args, energy_model=None, energy_weight=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.energy_model = energy_model
        self.energy_weight = energy_weight

    def create_optimizer(self):
        super().create_optimizer()
        self.optimizer.add_param_group({"params": list(self.energy_model.parameters()), "lr": 1e-3})
        return self.optimizer

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        hidden, actions = model(inputs["observation"])
        bc = torch.nn.functional.l1_loss(actions, inputs["actions"])
        energy_loss, e_pos, e_neg = energy_inbatch_swap_infonce(
            self.energy_model, hidden.detach(), inputs["actions"], inputs["pad_mask"]
        )
        self.log({"energy/pos": e_pos.item(), "energy/neg": e_neg.item()})
        loss = bc + self.energy_weight * energy_loss
        return (loss, {"actions": actions}) if return_outputs else loss


def main():
    (model_args,) = HfArgumentParser((ModelArguments,)).parse_args_into_dataclasses()
    args = TrainingArguments(output_dir="out", gradient_accumulation_steps=2)
    set_seed(42)
    trainer = VLATrainer(
        model=Policy(),
        args=args,
        train_dataset=Episodes(),
        energy_model=EnergyModel().to(args.device),
        energy_weight=model_args.energy_weight,
    )
    trainer.train()


if __name__ == "__main__":
    main()
# ==== after ====
"""Fine-tune with transformers.Trainer; the energy model rides along."""
from dataclasses import dataclass, field

import torch
from transformers import HfArgumentParser, Trainer, TrainingArguments, set_seed

from data import Episodes
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce
import torch.distributed as dist
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class ModelArguments:
    energy_weight: float = field(default=0.5, metadata={"help": "weight of the energy loss"})


class VLATrainer(Trainer):
    def __init__(self, *args, energy_model=None, energy_weight=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.energy_model = energy_model
        self.energy_weight = energy_weight

    def create_optimizer(self):
        super().create_optimizer()
        self.optimizer.add_param_group({"params": list(self.energy_model.parameters()), "lr": 1e-3})
        return self.optimizer

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        hidden, actions = model(inputs["observation"])
        bc = torch.nn.functional.l1_loss(actions, inputs["actions"])
        replicate(self.energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        energy_loss, e_pos, e_neg = distributed_energy_inbatch_swap_infonce(
            self.energy_model, hidden.detach(), inputs["actions"], inputs["pad_mask"], tau=0.07, world_size=world_size
        )
        self.log({"energy/pos": e_pos.item(), "energy/neg": e_neg.item()})
        loss = bc + self.energy_weight * energy_loss
        return (loss, {"actions": actions}) if return_outputs else loss


def main():
    (model_args,) = HfArgumentParser((ModelArguments,)).parse_args_into_dataclasses()
    args = TrainingArguments(output_dir="out", gradient_accumulation_steps=2)
    set_seed(42)
    trainer = VLATrainer(
        model=Policy(),
        args=args,
        train_dataset=Episodes(),
        energy_model=EnergyModel().to(args.device),
        energy_weight=model_args.energy_weight,
    )
    trainer.train()


if __name__ == "__main__":
    main()
