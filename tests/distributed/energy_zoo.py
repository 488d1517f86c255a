"""Small energy models of the shapes that users write, or a user's own in the place of the first."""

import os
import pkgutil
from typing import Any

import torch
from plain_reference import DEVICE
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

# MODULE:CLASS of a model to test, made as CLASS(state_dim, act_dim). It stays in float32, with a tolerance to match.
OWN_MODEL = os.environ.get("ENERGY_PATCH_MODEL", "")
EXACT = 1e-5 if OWN_MODEL else 1e-10
STATE_DIM, ACT_DIM = 6, 3


class CrossEnergy(nn.Module):
    """Context and actions meet in one cross-attention, as in the models that the losses are made for."""

    def __init__(
        self, d: int = STATE_DIM, da: int = ACT_DIM, hidden: int = 8, dropout: float = 0.0, **attention: Any
    ) -> None:
        super().__init__()
        self.context = nn.Sequential(nn.Linear(d, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.action = nn.Sequential(nn.Linear(da, hidden), nn.SiLU(), nn.Linear(hidden, hidden))
        self.dropout = nn.Dropout(dropout)
        self.cross = nn.MultiheadAttention(hidden, 2, **{"batch_first": True, **attention})
        self.head = nn.Sequential(nn.LayerNorm(hidden), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1))
        self.register_buffer("offset", torch.zeros(1))

    def steps(self, a: Tensor) -> Tensor:
        place = torch.linspace(-1, 1, a.shape[1], dtype=a.dtype, device=a.device)
        return self.dropout(self.action(a) + place[None, :, None])

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        return self.cross(steps, context, context, key_padding_mask=mask, need_weights=False)[0]

    def forward(self, h: Tensor, a: Tensor, pad_mask: Tensor | None = None) -> Any:
        z = self.attend(self.steps(a), self.context(h), pad_mask)
        return self.offset + self.head(z).sigmoid().mean(dim=1)


class TupleEnergy(CrossEnergy):
    """Returns the energy and what it was made of."""

    def forward(self, h: Tensor, a: Tensor, pad_mask: Tensor | None = None) -> Any:
        energy = super().forward(h, a, pad_mask)
        return energy, energy * 2


class ScaledEnergy(CrossEnergy):
    """Energies of any size."""

    scale = 1.0

    def forward(self, h: Tensor, a: Tensor, pad_mask: Tensor | None = None) -> Any:
        return self.scale * super().forward(h, a, pad_mask)


class TwoLayerEnergy(CrossEnergy):
    """A second attention takes the first one's output."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.second = nn.MultiheadAttention(8, 2, batch_first=True)

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        z = super().attend(steps, context, mask)
        return self.second(query=z, key=context, value=context.tanh(), key_padding_mask=mask)[0]


class ResidualEnergy(CrossEnergy):
    """A residual around the attention, as in a transformer's decoder layer, with self-attention of the steps."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.among_steps = nn.MultiheadAttention(8, 2, batch_first=True)

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        steps = steps + self.among_steps(steps, steps, steps)[0]
        return steps + super().attend(steps, context, mask)


class SequenceFirstEnergy(CrossEnergy):
    """Attention with the batch in the second dimension, called with positional arguments, weights returned."""

    def __init__(self, **options: Any) -> None:
        super().__init__(batch_first=False, **options)

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        keys = context.transpose(0, 1)
        z, weights = self.cross(steps.transpose(0, 1), keys, keys, mask, True)
        return z.transpose(0, 1) + weights.max(dim=2, keepdim=True).values


class HeadWeightsEnergy(CrossEnergy):
    """Uses the attention weights of each head."""

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        z, weights = self.cross(steps, context, context, mask, average_attn_weights=False)
        return z + weights.square().sum(dim=(1, 3))[..., None]


class ContextAttentionEnergy(CrossEnergy):
    """The context attends to itself before the actions see it."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.among_context = nn.MultiheadAttention(8, 2, batch_first=True)

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        context = context + self.among_context(context, context, context, key_padding_mask=mask)[0]
        return super().attend(steps, context, mask)


class SkipEnergy(CrossEnergy):
    """A pooled context joins after the attention too."""

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        z = super().attend(steps, context, mask)
        pooled = context[:, :1].mean(dim=1) + context.mean(dim=1)
        return z + pooled.repeat_interleave(len(z) // len(context), dim=0)[:, None]


class EncoderEnergy(CrossEnergy):
    """A whole transformer encodes the context, whose inference kernels make nested tensors of a mask."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1)

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        return super().attend(steps, self.encoder(context, src_key_padding_mask=mask), mask)


class GatedEnergy(CrossEnergy):
    """A gate that opens in training lets the padding through."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.gate = nn.Parameter(torch.zeros(1))

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        z = super().attend(steps, context, mask)
        return z + self.gate * context.mean(dim=1).repeat_interleave(len(z) // len(context), dim=0)[:, None]


class JointEnergy(CrossEnergy):
    """Context and actions are one sequence that attends to itself."""

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        both = torch.cat([context, steps], dim=1)
        if mask is not None:
            mask = torch.cat([mask, mask.new_zeros(steps.shape[:2])], dim=1)
        return self.cross(both, both, both, key_padding_mask=mask)[0][:, -steps.shape[1] :]


class AcrossActionsEnergy(CrossEnergy):
    """The actions are keys of the context."""

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        return self.cross(context, steps, steps)[0][:, : steps.shape[1]]


class PooledEnergy(CrossEnergy):
    """No attention: a pooled context is added to the actions."""

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        keep = torch.ones_like(context[..., :1]) if mask is None else (~mask)[..., None].to(context)
        return steps + (context * keep).sum(dim=1, keepdim=True) / keep.sum(dim=1, keepdim=True)


class CausalEnergy(CrossEnergy):
    """A mask between steps and positions."""

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        length = steps.shape[1], context.shape[1]
        hidden = torch.ones(length, dtype=torch.bool, device=steps.device).triu(2)
        return self.cross(steps, context, context, key_padding_mask=mask, attn_mask=hidden)[0]


class StepIndexEnergy(CrossEnergy):
    """Its attention is a subclass that numbers its queries, so that a longer query means something else."""

    class _Numbered(nn.MultiheadAttention):
        def forward(self, query: Tensor, *args: Any, **kwargs: Any) -> Any:
            place = torch.arange(query.shape[1]).to(query)[None, :, None]
            return super().forward(query + 0.3 * torch.sin(place), *args, **kwargs)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.cross = self._Numbered(8, 2, batch_first=True)


class CheckpointedEnergy(CrossEnergy):
    """Computes its attention again in the backward pass, when no hook is there."""

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        return checkpoint(super().attend, steps, context, mask, use_reentrant=False)


class RepeatingEnergy(CrossEnergy):
    """Repeats contexts by itself where actions are more."""

    def forward(self, h: Tensor, a: Tensor, pad_mask: Tensor | None = None) -> Any:
        times = len(a) // len(h)
        mask = None if pad_mask is None else pad_mask.repeat_interleave(times, dim=0)
        return super().forward(h.repeat_interleave(times, dim=0), a, mask)


class BatchNormEnergy(CrossEnergy):
    """Its energies depend on which pairs are scored together."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.norm = nn.BatchNorm1d(8)

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        return self.norm(super().attend(steps, context, mask).transpose(1, 2)).transpose(1, 2)


class TrainingBranchEnergy(CrossEnergy):
    """Something that happens in training only depends on the number of contexts."""

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        z = super().attend(steps, context, mask)
        return z * torch.ones(len(context), 1, 1).to(z) if self.training else z


class CountingEnergy(CrossEnergy):
    """Counts its calls in a buffer."""

    def forward(self, h: Tensor, a: Tensor, pad_mask: Tensor | None = None) -> Any:
        self.offset.add_(1)
        return super().forward(h, a, pad_mask) - self.offset


KINDS = (
    CrossEnergy, TupleEnergy, TwoLayerEnergy, ResidualEnergy, SequenceFirstEnergy, HeadWeightsEnergy,
    ContextAttentionEnergy, SkipEnergy, EncoderEnergy, GatedEnergy, JointEnergy, AcrossActionsEnergy, PooledEnergy,
    CausalEnergy, StepIndexEnergy, CheckpointedEnergy, RepeatingEnergy, BatchNormEnergy, TrainingBranchEnergy,
)  # fmt: skip

# The model of every test that does not ask for a special one.
UNDER_TEST: Any = pkgutil.resolve_name(OWN_MODEL) if OWN_MODEL else CrossEnergy


def build(kind: Any = UNDER_TEST, seed: int = 0, **options: Any) -> Any:
    """A model with seeded weights, large enough that candidates differ; in float64 where that is ours to say."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = (
            own_model(OWN_MODEL, STATE_DIM, ACT_DIM) if OWN_MODEL and kind is UNDER_TEST else kind(**options).double()
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter), alpha=parameter.shape[-1] ** -0.5)
            if isinstance(model, CrossEnergy):
                model.offset.fill_(seed + 1.0)
    return model.to(DEVICE)


def own_model(spec: str, state_dim: int, act_dim: int) -> Any:
    """A user's model, MODULE:CLASS, without dropout."""
    model = pkgutil.resolve_name(spec)(state_dim, act_dim)
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return model
