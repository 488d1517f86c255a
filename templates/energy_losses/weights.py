"""The weights of the ranks' models: made equal, and compared."""

import torch
import torch.distributed as dist
from torch import Tensor, nn

from .collectives import broadcast, gather_integers, transport
from .membership import are_sharded, has_ddp, members, sharded_error


def broadcast_parameters(energy_model: nn.Module, *, group: dist.ProcessGroup | None = None) -> None:
    """Give every rank rank 0's parameters and buffers, bit for bit.

    ``replicate`` does it; call it yourself in a loop that calls ``average_gradients`` itself. Does nothing on one rank
    or for a ``DistributedDataParallel`` model.

    Raises:
        ValueError: on every rank, if a model has sharded parameters or the models differ in size.
    """
    ranks = members(group)
    if ranks.size == 1 or has_ddp(energy_model):
        return
    parameters = list(energy_model.parameters())
    sharded = are_sharded(parameters)
    tensors: list[Tensor] = [] if sharded else [*parameters, *energy_model.buffers()]
    device = tensors[0].device if tensors else torch.device("cpu")
    wire = [_bytes(tensor).to(transport(ranks, tensor.device)) for tensor in tensors]  # all dtypes, in one message
    sizes = [size for (size,) in gather_integers(ranks, [-1 if sharded else sum(map(len, wire))], device)]
    if -1 in sizes:
        raise sharded_error(sizes.index(-1))
    if len(set(sizes)) > 1:
        raise ValueError(f"the ranks' energy models differ in size: {sizes} bytes")
    if not tensors:
        return
    flat = torch.cat(wire)
    broadcast(ranks, flat)
    with torch.no_grad():
        for tensor, part in zip(tensors, torch.split(flat, [len(part) for part in wire]), strict=True):
            # A clone starts at an aligned address, which a view in a wider dtype needs. Through `data`, a forward pass
            # that came before the first call keeps a backward pass: of other weights once, where it would be an error.
            tensor.data.copy_(part.clone().view(tensor.dtype).view(tensor.shape))


def weights_checksum(energy_model: nn.Module) -> Tensor | None:
    """A number, on the device, that will differ where parameters do; None for a model in shards, which differ."""
    parameters = list(energy_model.parameters())
    if are_sharded(parameters):
        return None
    sums = [_bytes(parameter).sum(dtype=torch.int64) for parameter in parameters]
    if not sums:
        return None
    places = torch.arange(1, len(sums) + 1, device=sums[0].device)
    return (torch.stack([each.to(places.device) for each in sums]) * places).sum()


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)
