"""The user's energy model and loss, made small."""

import torch
import torch.nn as nn
import torch.nn.functional as F
from built import register


class EnergyModel(nn.Module):
    """E(h, a) for h [B, S, 4], a [B, 2, 3] and pad_mask [B, S], True where to look away; [B, 1]."""

    def __init__(self, state_dim=4, act_dim=3, hidden=8):
        super().__init__()
        self.state = nn.Linear(state_dim, hidden)
        self.action = nn.Linear(2 * act_dim, hidden)
        self.head = nn.Linear(hidden, 1)
        register(self)

    def forward(self, h, a, pad_mask=None):
        if pad_mask is not None:
            h = h.masked_fill(pad_mask.unsqueeze(-1), 0.0)
        joint = self.state(h.float().mean(dim=1)) * self.action(a.float().flatten(1))
        return torch.sigmoid(self.head(torch.tanh(joint))) * 2.0 + 0.1


def energy_inbatch_swap_infonce(energy_model, h, a_pos, pad_mask=None, tau=0.5, reduce_steps="mean"):
    """InfoNCE over the actions of this rank's batch; returns (loss, E_pos_mean, E_neg_mean)."""
    rows = len(h)
    mask = None if pad_mask is None else pad_mask.repeat_interleave(rows, dim=0)
    energies = energy_model(h.repeat_interleave(rows, dim=0), a_pos.repeat(rows, 1, 1), mask).view(rows, rows)
    own = torch.eye(rows, dtype=torch.bool, device=h.device)
    loss = F.cross_entropy(-energies / tau, torch.arange(rows, device=h.device))
    return loss, energies[own].mean(), energies[~own].mean()
