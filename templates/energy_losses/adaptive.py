"""The loss that fits the batch a rank is configured to have."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .global_infonce import distributed_energy_inbatch_swap_infonce
from .hybrid_infonce import hybrid_energy_infonce_loss


def adaptive_energy_loss(
    energy_model: nn.Module,
    context_hidden: Tensor,
    ground_truth_actions: Tensor,
    layer_actions: Sequence[Tensor],
    energy_mask: Tensor | None,
    local_batch_size: int,
    world_size: int = 1,
    step: int = 0,
    *,
    tau: float = 0.3,
    num_negatives: int = 8,
    min_local_batch: int = 8,
    negative_weight: float = 0.25,
    min_distance: float = 0.0,
    generator: torch.Generator | None = None,
    group: dist.ProcessGroup | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """The other rows' actions where they are enough, made negatives beside them elsewhere.

    ===== ============================ ===========================================
    ranks ``local_batch_size``         loss
    ===== ============================ ===========================================
    1     any                          in-batch (the global loss on one rank)
    more  at least ``min_local_batch`` ``distributed_energy_inbatch_swap_infonce``
    more  less                         ``hybrid_energy_infonce_loss``
    ===== ============================ ===========================================

    ``local_batch_size`` is the *configured* rows per rank. The batch in hand never decides: it can be smaller on some
    rank at an epoch's end, and ranks that choose different losses would wait for each other for ever. ``step`` is
    accepted and not used. The other arguments and the results are those of the two losses, and a call waits for the
    device as often as the loss that it takes.

    Raises:
        ValueError: ``local_batch_size`` is below 1 on this rank; or, on all ranks, a setting or a shape is wrong, or an
            action is not finite, on any rank.
    """
    if local_batch_size < 1:
        raise ValueError(f"local_batch_size must be at least 1, not {local_batch_size}")
    if world_size == 1 or local_batch_size >= min_local_batch:
        return distributed_energy_inbatch_swap_infonce(
            energy_model,
            context_hidden,
            ground_truth_actions,
            energy_mask,
            tau,
            world_size,
            group=group,
            min_distance=min_distance,
        )
    return hybrid_energy_infonce_loss(
        energy_model,
        context_hidden,
        ground_truth_actions,
        layer_actions,
        energy_mask,
        tau,
        world_size,
        num_negatives,
        negative_weight=negative_weight,
        min_distance=min_distance,
        generator=generator,
        group=group,
    )
