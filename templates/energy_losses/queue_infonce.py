"""InfoNCE over the actions of all ranks, in this batch and in the latest ones."""

import weakref

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .infonce import Candidates, infonce_loss
from .membership import unwrapped

_queues: "weakref.WeakKeyDictionary[nn.Module, Tensor]" = weakref.WeakKeyDictionary()


def queued_energy_infonce_loss(
    energy_model: nn.Module,
    h: Tensor,
    a_pos: Tensor,
    pad_mask: Tensor | None = None,
    tau: float = 0.5,
    world_size: int | None = None,
    queue_size: int = 256,
    *,
    group: dist.ProcessGroup | None = None,
    min_distance: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """``distributed_energy_inbatch_swap_infonce`` with the latest ``queue_size`` actions as further negatives.

    The queue holds raw actions of all ranks, which the model of today scores, so they never go stale (unlike the
    embeddings of a momentum queue, He et al. 2020, arXiv:1911.05722). A batch meets what was there before it, and
    enters after it, also within gradient accumulation. Every rank holds the same queue. It belongs to the model, is
    not saved with it, and is neither read nor fed with gradients disabled.

    Arguments, results, limits and the one wait for the device are those of the loss without a queue; ``queue_size`` is
    a number of actions, 1 or more. On one rank, too, the queue gives a small batch more negatives.

    Raises:
        ValueError: a setting or a shape is wrong, or an action is not finite, on any rank; all ranks raise it.
    """

    def queue(actions: Tensor) -> Candidates:
        if not torch.is_grad_enabled():
            return Candidates(actions[:0])
        model = unwrapped(energy_model)
        earlier = _queues.get(model, actions[:0]).detach().to(actions)
        _queues[model] = torch.cat([earlier, actions.detach()])[-queue_size:]
        return Candidates(earlier)

    return infonce_loss(
        energy_model,
        h,
        a_pos,
        pad_mask,
        tau,
        min_distance=min_distance,
        group=group,
        world_size=world_size,
        problem="queue_size must be at least 1" if queue_size < 1 else "",
        others=queue,
    )
