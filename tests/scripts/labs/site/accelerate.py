"""accelerate: Accelerator with prepare, accumulate, backward, clip_grad_norm_."""

import contextlib

import torch
import torch.distributed as dist
from _ranks import set_up, wrap


class Accelerator:
    def __init__(self, gradient_accumulation_steps=1, mixed_precision=None, log_with=None):
        set_up()
        self.device = torch.device("cpu")
        self.process_index, self.num_processes = dist.get_rank(), dist.get_world_size()
        self.is_main_process = self.process_index == 0
        self.sync_gradients = True
        self._every, self._calls = gradient_accumulation_steps, 0

    def prepare(self, *objects):
        ready = tuple(wrap(item) if isinstance(item, torch.nn.Module) else self._prepare(item) for item in objects)
        return ready[0] if len(ready) == 1 else ready

    def _prepare(self, item):
        return _Optimizer(self, item) if isinstance(item, torch.optim.Optimizer) else item

    @contextlib.contextmanager
    def accumulate(self, *models):
        self._calls += 1
        self.sync_gradients = self._calls % self._every == 0
        with contextlib.ExitStack() as stack:
            for model in models:
                if not self.sync_gradients and hasattr(model, "no_sync"):
                    stack.enter_context(model.no_sync())
            yield

    def backward(self, loss):
        (loss / self._every).backward()

    def clip_grad_norm_(self, parameters, max_norm):
        if self.sync_gradients:
            torch.nn.utils.clip_grad_norm_(parameters, max_norm)

    def unwrap_model(self, model):
        return getattr(model, "module", model)

    def print(self, *values):
        if self.is_main_process:
            print(*values)

    def wait_for_everyone(self):
        dist.barrier()


class _Optimizer:
    """Steps only where gradients are whole, as accelerate's does."""

    def __init__(self, accelerator, optimizer):
        self._accelerator, self._optimizer = accelerator, optimizer

    def step(self):
        if self._accelerator.sync_gradients:
            self._optimizer.step()

    def zero_grad(self):
        if self._accelerator.sync_gradients:
            self._optimizer.zero_grad()
