import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class ResidualMLP(nn.Module):
    def __init__(self, in_dim, width, out_dim, depth=1):
        super().__init__()
        self.enter = nn.Sequential(nn.LayerNorm(in_dim), nn.Linear(in_dim, width), nn.SiLU())
        self.blocks = nn.ModuleList(
            [nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.SiLU()) for _ in range(depth)]
        )
        self.leave = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, out_dim))

    def forward(self, x):
        x = self.enter(x)
        for block in self.blocks:
            x = x + block(x)
        return self.leave(x)


class SinePositions(nn.Module):
    """Adds sine and cosine waves over the action steps, then dropout."""

    def __init__(self, dim, dropout=0.2, longest=64):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        rates = torch.exp(torch.arange(0, dim, 2) * (-math.log(1e4) / dim))
        angles = torch.arange(longest).unsqueeze(1) * rates
        waves = torch.stack([angles.sin(), angles.cos()], dim=-1).reshape(1, longest, dim)
        self.register_buffer("waves", waves)

    def forward(self, x):
        return self.dropout(x + self.waves[:, : x.shape[1]])


def check_finite(x, what):
    if not torch.isfinite(x).all():
        raise RuntimeError(f"{what}: {(~torch.isfinite(x)).sum().item()} values are not finite")


class EnergyModel(nn.Module):
    """
    E(s, a), low where the actions fit the scene.

    Args:
        hN: hidden states of the policy [B, S, state_dim]
        a: action chunk [B, H, act_dim]
        pad_mask: [B, S], True = do not look here
    Returns:
        [B, 1]
    """

    def __init__(self, state_dim, act_dim, hidden=32, heads=4, dropout=0.2):
        super().__init__()
        self.state_mlp = ResidualMLP(state_dim, hidden, hidden)
        self.action_mlp = ResidualMLP(act_dim, hidden, hidden)
        self.positions = SinePositions(hidden, dropout)
        self.attention = nn.MultiheadAttention(hidden, heads, batch_first=True)
        self.energy_head = ResidualMLP(hidden, hidden, 1, depth=2)
        self.scale = 2.0
        self.offset = 0.1

    def forward(self, hN, a, pad_mask=None, reduce="mean", gamma=None):
        hN, a = hN.float(), a.float()
        check_finite(hN, "hN")
        check_finite(a, "a")
        if pad_mask is not None and pad_mask.all(dim=1).any():
            raise RuntimeError("pad_mask hides a whole row")  # 否则 softmax 会得到 NaN

        states = self.state_mlp(hN)                       # [B, S, hidden]
        steps = self.positions(self.action_mlp(a))        # [B, H, hidden]
        mixed, _ = self.attention(steps, states, states, key_padding_mask=pad_mask, need_weights=False)
        check_finite(mixed, "attention")

        # E_steps = F.softplus(self.energy_head(mixed))   # 旧版：没有上界，训练不稳定
        E_steps = torch.sigmoid(self.energy_head(mixed)) * self.scale + self.offset  # [B, H, 1]
        check_finite(E_steps, "E")

        if gamma is not None:
            E_steps = E_steps * gamma ** torch.arange(a.shape[1], device=a.device).view(1, -1, 1)
        return E_steps.sum(dim=1) if reduce == "sum" else E_steps.mean(dim=1)  # [B, 1]


def energy_inbatch_swap_infonce(
    energy_model,
    h,                  # [B, S, D]
    a_pos,              # [B, H, Da]
    pad_mask,           # [B, S], True = 忽略
    tau=0.5,
    reduce_steps="mean",
):
    """Every context of the batch against every action of the batch; its own action should have the lowest energy."""
    B = h.shape[0]
    rows = torch.arange(B, device=h.device).repeat_interleave(B)
    cols = torch.arange(B, device=h.device).repeat(B)
    E = energy_model(h[rows], a_pos[cols], None if pad_mask is None else pad_mask[rows]).view(B, B)
    loss = F.cross_entropy(-E / tau, torch.arange(B, device=h.device))

    own = torch.eye(B, dtype=torch.bool, device=h.device)
    E_neg_mean = E[~own].mean() if B > 1 else torch.zeros((), device=h.device)
    return loss, E[own].mean(), E_neg_mean


def energy_inbatch_swap_infonce_2d(energy_model, c_global, a_pos, tau=0.5, reduce_steps="mean"):
    """The same with one pooled vector per context [B, D]. 旧版，已不再使用"""
    return energy_inbatch_swap_infonce(energy_model, c_global.unsqueeze(1), a_pos, None, tau, reduce_steps)


def energy_infonce_loss(energy_model, h, a_pos, a_negs, pad_mask, tau=0.2, reduce_steps="mean"):
    """Explicit negatives a_negs [B, M, H, Da]. The expert's action is candidate 0."""
    B, M, H, Da = a_negs.shape
    E_pos, _ = energy_model(h, a_pos, pad_mask, reduce=reduce_steps)
    E_neg, _ = energy_model(
        h.repeat_interleave(M, dim=0),
        a_negs.reshape(B * M, H, Da),
        pad_mask.repeat_interleave(M, dim=0),
        reduce=reduce_steps,
    )
    logits = -torch.cat([E_pos.view(B, 1), E_neg.view(B, M)], dim=1) / tau
    loss = F.cross_entropy(logits, torch.zeros(B, dtype=torch.long, device=h.device))
    return loss, E_pos.mean(), E_neg.mean()


def get_negatives(layer_actions, sigma=0.3):
    early = layer_actions[1].float()
    return torch.stack([early, early + sigma * torch.randn_like(early)], dim=1)  # [B, 2, H, Da]


def compute_negative_energy(energy_model, a_pos, layer_actions, margin, h, E_pos, pad_mask):
    """Hinge: the action of an early layer should cost more than the expert's, by the margin."""
    E_neg = energy_model(h, layer_actions[1], pad_mask)
    return F.relu(margin + E_pos - E_neg).mean(), E_neg.mean()
