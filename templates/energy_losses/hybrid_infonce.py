"""InfoNCE over the actions of all ranks and made negatives of each row, in one softmax."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .infonce import infonce_loss
from .layer_infonce import MadeNegatives


def hybrid_energy_infonce_loss(
    energy_model: nn.Module,
    context_hidden: Tensor,
    ground_truth_actions: Tensor,
    layer_actions: Sequence[Tensor],
    energy_mask: Tensor | None,
    tau: float = 0.3,
    world_size: int | None = None,
    num_negatives: int = 8,
    *,
    negative_weight: float = 0.25,
    group: dist.ProcessGroup | None = None,
    min_distance: float = 0.0,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """``distributed_energy_inbatch_swap_infonce`` with made negatives of each row beside the actions of all ranks.

        rank 0:  h_0 h_1      x  a_0 a_1 a_2 a_3 a_4, and for each row its own m_1 ... m_M
        rank 1:  h_2 h_3 h_4  x  a_0 a_1 a_2 a_3 a_4, and for each row its own m_1 ... m_M

        loss_i = -log( e(a_i) / (sum_j e(a_j) + w sum_k e(m_ik)) ),  e(a) = exp(-E(h_i, a) / tau)

    The actions of the ranks teach which action fits the scene, the made ones what a wrong action near the right one
    looks like. Only actions travel, rows weigh as in the loss without made negatives, and its limits hold here too. A
    call waits for the device once.

    Args:
        energy_model: ``energy_model(h, a, pad_mask)`` gives [B, 1], low for an action that fits.
        context_hidden: contexts, [B, S, D]; S may differ between ranks.
        ground_truth_actions: the expert's action of each row, [B, H, Da].
        layer_actions: what the policy's head predicts from each layer, first to last, each [B, H, Da].
        energy_mask: [B, S], True at positions to ignore.
        tau: temperature, above 0.
        world_size: if given, must be the size of the group while training.
        num_negatives: made negatives of each row, M, see ``make_negatives``.
        negative_weight: what a made negative counts in the softmax's sum, w above 0, an importance weight as in
            noise-contrastive estimation; 1 where no rank has another row, so that made negatives are all there are.
        group: the ranks to train with; all by default.
        min_distance: candidates closer than this to a row's own action (root mean square over the chunk, in the
            actions' unit) are no negatives of it.
        generator: draws the noise; by default the device's own.

    Returns:
        The loss, the mean energy of the local rows' own actions and that of their negatives, made ones too (0 if there
        are none), all three attached to the graph. Each has at least float32's precision.

    Raises:
        ValueError: a setting or a shape is wrong, or an action is not finite, on any rank; all ranks raise it.
    """
    made = MadeNegatives(ground_truth_actions, layer_actions, num_negatives, negative_weight, generator)
    return infonce_loss(
        energy_model,
        context_hidden,
        ground_truth_actions,
        energy_mask,
        tau,
        min_distance=min_distance,
        group=group,
        world_size=world_size,
        problem=made.problem(),
        others=made.beside,
        layer_actions=made.used_layers,
    )
