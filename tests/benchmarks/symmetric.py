"""The global loss in both directions, as CLIP: the right action of each context, the right context of each action.

Only to be measured: ``strategies.py`` copies it into a patched codebase's ``energy_losses``. Beside the actions, the
energies of all ranks travel, so that each rank has the whole table [N, N], of which its own rows have a graph. Every
rank must have as many rows as the others.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from .exchange import exchange
from .membership import training_ranks
from .ranks import average_when_done
from .scoring import energy_matrix


def distributed_energy_inbatch_swap_infonce(
    energy_model: nn.Module,
    h: Tensor,
    a_pos: Tensor,
    pad_mask: Tensor | None = None,
    tau: float = 0.5,
    world_size: int | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Half the loss over each row's actions, half that over each action's contexts; results as the global loss's."""
    ranks = training_ranks()
    problem = ranks.problem(tau, 0.0, world_size)
    actions = exchange(ranks, h, a_pos, pad_mask, problem).actions
    energies = average_when_done(energy_matrix(energy_model, h, actions, pad_mask)).float()
    own = len(h) * ranks.rank + torch.arange(len(h), device=h.device)
    by_row = F.cross_entropy(-energies / tau, own)
    columns = F.cross_entropy(-_table(energies, ranks.rank, ranks.size).t() / tau, torch.arange(len(actions)))
    # A rank's gradient is its own rows' part of the columns' loss: the ranks' mean must be the sum of the parts.
    by_column = columns.detach() + ranks.size * (columns - columns.detach())
    e_own = energies.gather(1, own.unsqueeze(1))
    e_neg = (energies.sum() - e_own.sum()) / (energies.numel() - len(h))
    return (by_row + by_column) / 2, e_own.mean(), e_neg


def _table(energies: Tensor, rank: int, size: int) -> Tensor:
    if size == 1:
        return energies
    parts = [torch.empty_like(energies) for _ in range(size)]
    dist.all_gather(parts, energies.detach().contiguous())
    parts[rank] = energies
    return torch.cat(parts)
