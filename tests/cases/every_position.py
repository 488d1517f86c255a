# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
@energy_inbatch_swap_infonce(m, h, a)
def f(x=energy_inbatch_swap_infonce(m, h, a)):
    pass
class C(energy_inbatch_swap_infonce(m, h, a)):
    y = energy_inbatch_swap_infonce(m, h, a)
    if energy_inbatch_swap_infonce(m, h, a): pass
def g(m, h, a):
    print(f"{energy_inbatch_swap_infonce(m, h, a)[0]:.3f}")
    assert energy_inbatch_swap_infonce(m, h, a), "x"
    del d[energy_inbatch_swap_infonce(m, h, a)]
    with energy_inbatch_swap_infonce(m, h, a) as e: pass
    for x in energy_inbatch_swap_infonce(m, h, a): pass
    if (l := energy_inbatch_swap_infonce(m, h, a))[0] > 0: pass
    x = energy_inbatch_swap_infonce(m, h, a) if m else None
    x: int = energy_inbatch_swap_infonce(m, h, a)
    x += energy_inbatch_swap_infonce(m, h, a)[0]
    match energy_inbatch_swap_infonce(m, h, a):
        case (a, b, c) if energy_inbatch_swap_infonce(m, h, a):
            energy_inbatch_swap_infonce(m, h, a)
    try:
        energy_inbatch_swap_infonce(m, h, a)
    except energy_inbatch_swap_infonce(m, h, a) as e:
        raise E from energy_inbatch_swap_infonce(m, h, a)
    finally:
        energy_inbatch_swap_infonce(m, h, a)
    while energy_inbatch_swap_infonce(m, h, a): break
    else: energy_inbatch_swap_infonce(m, h, a)
    return lambda q=energy_inbatch_swap_infonce(m, h, a): energy_inbatch_swap_infonce(q, h, a)
async def k(m, h, a):
    async with energy_inbatch_swap_infonce(m, h, a): await energy_inbatch_swap_infonce(m, h, a)
    async for i in energy_inbatch_swap_infonce(m, h, a):
        yield energy_inbatch_swap_infonce(m, h, a)
    return
def y(m, h, a):
    z = yield energy_inbatch_swap_infonce(m, h, a)
    yield from energy_inbatch_swap_infonce(m, h, a)
    return {k: energy_inbatch_swap_infonce(m, h, a) for k in (energy_inbatch_swap_infonce)(m, h, a)}
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
@distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1)
def f(x=distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1)):
    pass
class C(distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1)):
    y = distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1)
    if distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1): pass
def g(m, h, a):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    print(f"{distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)[0]:.3f}")
    assert distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size), "x"
    del d[distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)]
    with distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size) as e: pass
    for x in distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size): pass
    if (l := distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size))[0] > 0: pass
    x = distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=world_size) if m else None
    x: int = distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)
    x += distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)[0]
    match distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1):
        case (a, b, c) if distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1):
            distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)
    try:
        distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)
    except distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1) as e:
        raise E from distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)
    finally:
        distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)
    while distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1): break
    else: distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1)
    return lambda q=distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1): distributed_energy_inbatch_swap_infonce(replicate(q), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1)
async def k(m, h, a):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    async with distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size): await distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1)
    async for i in distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size):
        yield distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)
    return
def y(m, h, a):
    replicate(m)
    world_size = dist.get_world_size() if dist.is_initialized() else 1
    z = yield distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)
    yield from distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size)
    return {k: distributed_energy_inbatch_swap_infonce(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1) for k in (distributed_energy_inbatch_swap_infonce)(replicate(m), h, a, tau=0.07, world_size=dist.get_world_size() if dist.is_initialized() else 1)}
