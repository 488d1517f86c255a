"""transformers: Trainer (compute_loss, training_step, create_optimizer), TrainingArguments, HfArgumentParser."""

import random
from dataclasses import dataclass

import torch
from _ranks import dataloader, set_up, wrap


def set_seed(seed):
    random.seed(seed)
    torch.manual_seed(seed)


@dataclass
class TrainingArguments:
    output_dir: str = "out"
    per_device_train_batch_size: int = 3
    gradient_accumulation_steps: int = 1
    learning_rate: float = 1e-2
    max_grad_norm: float = 1.0
    num_train_epochs: int = 1

    def __post_init__(self):
        set_up()
        self.device = torch.device("cpu")


class HfArgumentParser:
    def __init__(self, dataclasses):
        self.dataclasses = dataclasses if isinstance(dataclasses, (list, tuple)) else [dataclasses]

    def parse_args_into_dataclasses(self):
        return tuple(cls() for cls in self.dataclasses)


class Trainer:
    def __init__(self, model=None, args=None, train_dataset=None, optimizers=(None, None)):
        self.model, self.args, self.train_dataset = model, args, train_dataset
        self.optimizer = optimizers[0]

    def get_train_dataloader(self):
        return dataloader(self.train_dataset, self.args.per_device_train_batch_size)

    def create_optimizer(self):
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.args.learning_rate)
        return self.optimizer

    def train(self):
        self.model_wrapped = wrap(self.model)
        self.create_optimizer()
        for step, inputs in enumerate(self.get_train_dataloader(), start=1):
            self.training_step(self.model_wrapped, inputs)
            if step % self.args.gradient_accumulation_steps == 0:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.args.max_grad_norm)
                self.optimizer.step()
                self.optimizer.zero_grad()

    def training_step(self, model, inputs, num_items_in_batch=None):
        model.train()
        loss = self.compute_loss(model, inputs)
        (loss / self.args.gradient_accumulation_steps).backward()
        return loss.detach()

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        raise NotImplementedError

    def log(self, logs):
        pass
