"""Episodes at random; each rank draws its own."""

import torch
from torch.utils.data import DataLoader, Dataset


class Episodes(Dataset):
    def __init__(self, size=12):
        self.observations = torch.randn(size, 5, 4)
        self.actions = torch.rand(size, 2, 3) * 2 - 1

    def __len__(self):
        return len(self.actions)

    def __getitem__(self, index):
        pad_mask = torch.arange(5) >= 5 - index % 3
        return {"observation": self.observations[index], "actions": self.actions[index], "pad_mask": pad_mask}


def get_loader(batch_size=3, size=12):
    return DataLoader(Episodes(size), batch_size=batch_size, shuffle=True)
