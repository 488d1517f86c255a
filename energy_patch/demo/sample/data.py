"""
Synthetic demonstrations: a table-top scene, an instruction of varying length, and the expert's action chunk.

A scene is a point z of a small latent space. The camera sees it as a few patches, the instruction names one of a
handful of goals somewhere between filler words, and the expert draws a smooth trajectory that follows from both.
"""

import math

import torch
from torch.utils.data import IterableDataset

NUM_ACTIONS_CHUNK = 8
ACTION_DIM = 7

NUM_PATCHES = 4
PATCH_DIM = 12
SCENE_DIM = 4
NUM_GOALS = 4

IGNORE_INDEX = -100
PAD_ID, BOS_ID, STOP_ID, ACTION_ID = 0, 1, 2, 3
FIRST_GOAL_ID = 4
FIRST_FILLER_ID = FIRST_GOAL_ID + NUM_GOALS
VOCAB_SIZE = FIRST_FILLER_ID + 16
MIN_WORDS, MAX_WORDS = 2, 7


class Demonstrations:
    """All samples of a split, the same on every rank, as if they had been read from disk."""

    def __init__(self, size, split_seed):
        world = torch.Generator().manual_seed(2024)  # how scenes look and what the expert does: one for all splits
        camera = torch.randn(NUM_PATCHES, SCENE_DIM, PATCH_DIM, generator=world)
        start = torch.randn(SCENE_DIM, ACTION_DIM, generator=world)
        bend = torch.randn(SCENE_DIM, ACTION_DIM, generator=world)
        goals = torch.randn(NUM_GOALS, ACTION_DIM, generator=world)
        reach = torch.randn(NUM_GOALS, SCENE_DIM, ACTION_DIM, generator=world)

        g = torch.Generator().manual_seed(split_seed)
        scene = torch.randn(size, SCENE_DIM, generator=g)
        goal = torch.randint(NUM_GOALS, (size,), generator=g)
        time = torch.linspace(0, 1, NUM_ACTIONS_CHUNK).view(1, -1, 1)

        begin = (scene @ start).unsqueeze(1)
        end = (goals[goal] + torch.einsum("nk,nka->na", scene, reach[goal])).unsqueeze(1)
        middle = (scene @ bend).unsqueeze(1)
        path = (1 - time) * begin + time * end + torch.sin(math.pi * time) * middle
        path = path + 0.05 * torch.randn(path.shape, generator=g)
        self.actions = torch.tanh(path / math.sqrt(SCENE_DIM))

        self.patches = torch.tanh(torch.einsum("nk,pkd->npd", scene, camera))
        self.patches = self.patches + 0.1 * torch.randn(self.patches.shape, generator=g)

        words = torch.randint(FIRST_FILLER_ID, VOCAB_SIZE, (size, MAX_WORDS), generator=g)
        lengths = torch.randint(MIN_WORDS, MAX_WORDS + 1, (size,), generator=g)
        where = (torch.rand(size, generator=g) * lengths).long()
        words[torch.arange(size), where] = FIRST_GOAL_ID + goal
        self.words, self.lengths = words, lengths

    def __len__(self):
        return len(self.actions)

    def __getitem__(self, i):
        prompt = [BOS_ID] + self.words[i, : self.lengths[i]].tolist()
        answer = [ACTION_ID] * NUM_ACTIONS_CHUNK + [STOP_ID]
        return {
            "input_ids": torch.tensor(prompt + answer),
            "labels": torch.tensor([IGNORE_INDEX] * len(prompt) + answer),
            "pixel_values": self.patches[i],
            "actions": self.actions[i],
        }


class ShardedDemonstrations(IterableDataset):
    """Endless. The global batch of a step is the next `batch_size * world_size` samples, whoever takes them."""

    def __init__(self, demonstrations, batch_size, rank, world_size):
        self.demonstrations = demonstrations
        self.batch_size, self.rank, self.world_size = batch_size, rank, world_size

    def __iter__(self):
        first = self.rank * self.batch_size
        while True:
            for i in range(first, first + self.batch_size):
                yield self.demonstrations[i % len(self.demonstrations)]
            first += self.world_size * self.batch_size


def right_padding_collator(samples):
    """Pads to the longest sample of the *local* batch, so ranks see different lengths."""
    longest = max(len(s["input_ids"]) for s in samples)

    def pad(name, value):
        rows = torch.full((len(samples), longest), value, dtype=torch.long)
        for row, s in zip(rows, samples):
            row[: len(s[name])] = s[name]
        return rows

    input_ids = pad("input_ids", PAD_ID)
    return {
        "input_ids": input_ids,
        "attention_mask": input_ids.ne(PAD_ID),
        "labels": pad("labels", IGNORE_INDEX),
        "pixel_values": torch.stack([s["pixel_values"] for s in samples]),
        "actions": torch.stack([s["actions"] for s in samples]),
    }
