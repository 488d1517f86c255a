"""Stand-in for the pretrained policy: frozen weights, a small trainable adapter, hidden states of every layer in bf16."""

from dataclasses import dataclass
from typing import Tuple

import torch
import torch.nn as nn

from data import ACTION_DIM, ACTION_ID, NUM_ACTIONS_CHUNK, NUM_PATCHES, PATCH_DIM, VOCAB_SIZE

LLM_DIM = 32


@dataclass
class PolicyOutput:
    hidden_states: Tuple[torch.Tensor, ...]  # embeddings and every layer, each (B, patches + tokens, D)


class VisionBackbone(nn.Module):
    def get_num_patches(self):
        return NUM_PATCHES


class TinyVLA(nn.Module):
    def __init__(self, num_layers=4, lora_rank=4):
        super().__init__()
        self.llm_dim = LLM_DIM
        self.vision_backbone = VisionBackbone()
        checkpoint = torch.Generator().manual_seed(7)  # "pretrained": the same weights wherever it is loaded

        def frozen(*shape, scale=1.0):
            return nn.Parameter(scale * torch.randn(*shape, generator=checkpoint), requires_grad=False)

        self.words = frozen(VOCAB_SIZE, LLM_DIM)
        self.steps = frozen(NUM_ACTIONS_CHUNK + 1, LLM_DIM)
        self.eyes = frozen(PATCH_DIM, LLM_DIM, scale=PATCH_DIM**-0.5)
        self.places = frozen(NUM_PATCHES, LLM_DIM)
        self.own = frozen(num_layers, LLM_DIM, LLM_DIM, scale=LLM_DIM**-0.5)
        self.mix = frozen(num_layers, LLM_DIM, LLM_DIM, scale=LLM_DIM**-0.5)
        self.lora_a = nn.Parameter(torch.randn(num_layers, LLM_DIM, lora_rank, generator=checkpoint) * 0.1)
        self.lora_b = nn.Parameter(torch.zeros(num_layers, lora_rank, LLM_DIM))

    def forward(self, input_ids, attention_mask, pixel_values):
        # In double precision, so that the bf16 hidden states do not depend on how a batch was cut or padded.
        is_action = input_ids.eq(ACTION_ID)
        step = (is_action.cumsum(dim=1) * is_action).clamp(max=NUM_ACTIONS_CHUNK)
        tokens = self.words.double()[input_ids] + self.steps.double()[step]
        patches = pixel_values.double() @ self.eyes.double() + self.places.double()
        h = torch.cat([patches, tokens], dim=1)

        seen = torch.cat([torch.ones_like(patches[..., 0]), (attention_mask & ~is_action).double()], dim=1)
        weight = (seen / seen.sum(dim=1, keepdim=True)).unsqueeze(-1)

        hidden_states = [h]
        for own, mix, a, b in zip(self.own, self.mix, self.lora_a, self.lora_b):
            u = h / h.pow(2).mean(dim=-1, keepdim=True).add(1e-6).sqrt()
            summary = (weight * u).sum(dim=1, keepdim=True)
            update = u @ own.double() + 3.0 * summary @ mix.double() + u @ a.double() @ b.double()
            h = h + 0.5 * torch.tanh(update)
            hidden_states.append(h)
        return PolicyOutput(hidden_states=tuple(x.to(torch.bfloat16) for x in hidden_states))


class ChunkRegressionHead(nn.Module):
    """One hidden state per action step in, one action out."""

    def __init__(self, input_dim, hidden_dim, action_dim):
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(input_dim), nn.Linear(input_dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, action_dim)
        )

    def predict_action(self, actions_hidden_states):
        return self.layers(actions_hidden_states)  # (B, chunk, action_dim)


def is_action_token(ids):
    return ids.eq(ACTION_ID)
