"""InfoNCE over the actions of all ranks."""

import torch.distributed as dist
from torch import Tensor, nn

from .infonce import infonce_loss


def distributed_energy_inbatch_swap_infonce(
    energy_model: nn.Module,
    h: Tensor,
    a_pos: Tensor,
    pad_mask: Tensor | None = None,
    tau: float = 0.5,
    world_size: int | None = None,
    *,
    group: dist.ProcessGroup | None = None,
    min_distance: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """InfoNCE loss (van den Oord et al. 2018, arXiv:1807.03748) of the local rows against the actions of all ranks.

        rank 0:  h_0 h_1  x  a_0 a_1 a_2 a_3 a_4        loss_i = -log softmax_j(-E(h_i, a_j) / tau) at j = i
        rank 1:  h_2 h_3 h_4  x  a_0 a_1 a_2 a_3 a_4

    Each rank scores its own B rows only, and only actions travel. Row i weighs W / N for W ranks with N rows
    together, so the *mean* of the ranks' gradients (``replicate``) is that of one process with the whole batch, also
    where ranks have unequal rows or none. Gradients reach this rank's own actions; those of other ranks are constants.
    Without a process group or with gradients disabled, the local rows are the whole batch.

    With gradients enabled, every rank must call it: a validation of one rank alone belongs under ``torch.no_grad``, or
    that rank waits for the others. Ranks that are seeded alike draw the same dropout. Contexts must have their
    positions; a pooled [B, D] is refused. A call waits for the device once, for the ranks' headers.

    Args:
        energy_model: ``energy_model(h, a, pad_mask)`` gives [B, 1], low for an action that fits.
        h: contexts, [B, S, D]; S may differ between ranks.
        a_pos: the action of each row, [B, H, Da].
        pad_mask: [B, S], True at positions to ignore.
        tau: temperature, above 0.
        world_size: if given, must be the size of the group while training.
        group: the ranks to train with; all by default.
        min_distance: other rows' actions closer than this to a row's own (root mean square over the chunk, in the
            actions' unit) are no negatives of it.

    Returns:
        The loss, the mean energy of the local rows' own actions and that of their negatives (0 if there are none),
        all three attached to the graph. Each has at least float32's precision.

    Raises:
        ValueError: a setting or a shape is wrong, or an action is not finite, on any rank; all ranks raise it.
    """
    return infonce_loss(
        energy_model, h, a_pos, pad_mask, tau, min_distance=min_distance, group=group, world_size=world_size
    )
