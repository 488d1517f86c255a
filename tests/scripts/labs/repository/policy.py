"""A policy of two layers: hidden states [B, S, 4] and an action chunk [B, 2, 3]."""

import torch.nn as nn


class Policy(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Linear(4, 4)
        self.head = nn.Linear(4, 6)

    def forward(self, observation):
        hidden = self.encoder(observation)
        return hidden, self.head(hidden.mean(dim=1)).view(-1, 2, 3)
