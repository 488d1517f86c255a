"""lightning: LightningModule and Trainer, automatic and manual optimization; Fabric."""

import torch
import torch.distributed as dist
from _ranks import dataloader, set_up, wrap


class LightningModule(torch.nn.Module):
    automatic_optimization = True

    def optimizers(self):
        return self.trainer.optimizers

    def manual_backward(self, loss):
        self.trainer.wrapped.reducer.prepare_for_backward([loss])
        loss.backward()

    def log(self, name, value, **_):
        pass

    def save_hyperparameters(self):
        pass

    def on_train_start(self):
        pass


class _Forward(torch.nn.Module):
    """Lightning sends training_step through the forward of what DDP wraps."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *batch):
        return self.module.training_step(*batch)


class Trainer:
    def __init__(self, max_epochs=1, devices=1, strategy="auto", gradient_clip_val=None, accelerator="auto"):
        self.clip = gradient_clip_val
        self.global_rank = 0

    def fit(self, module, train_dataloaders):
        set_up()
        self.global_rank, module.trainer = dist.get_rank(), self
        found = module.configure_optimizers()
        self.optimizers = found if isinstance(found, (list, tuple)) else [found]
        self.wrapped = wrap(_Forward(module))
        self.wrapped.require_backward_grad_sync = module.automatic_optimization
        module.on_train_start()
        for index, batch in enumerate(dataloader(train_dataloaders.dataset, train_dataloaders.batch_size)):
            loss = self.wrapped(batch, index)
            if module.automatic_optimization:
                self.optimizers[0].zero_grad()
                loss.backward()
                if self.clip:
                    torch.nn.utils.clip_grad_norm_(module.parameters(), self.clip)
                self.optimizers[0].step()


class Fabric:
    def __init__(self, accelerator="auto", devices=1, strategy="ddp", precision=None):
        self.device = torch.device("cpu")

    def launch(self):
        set_up()
        self.global_rank, self.world_size = dist.get_rank(), dist.get_world_size()

    def setup(self, module, *optimizers):
        return (wrap(module), *optimizers)

    def setup_dataloaders(self, loader):
        return loader

    def backward(self, loss):
        loss.backward()


def seed_everything(seed, workers=False):
    torch.manual_seed(seed)
