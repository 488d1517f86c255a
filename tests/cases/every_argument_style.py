# energy-patch apply
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
x = energy_inbatch_swap_infonce(m, h, (yield_ := a))
x = energy_inbatch_swap_infonce(m, h, b := a)
x = energy_inbatch_swap_infonce(m, h, lambda: 3)
x = energy_inbatch_swap_infonce(m, h, a if b else c, reduce_steps="mean", tau=0.2)
x = energy_inbatch_swap_infonce(m, h, a, None, reduce_steps = 'mean')
x = energy_inbatch_swap_infonce(a_pos=a, h=h, energy_model=m, )
x = energy_inbatch_swap_infonce (m, h, a)
x = energy_inbatch_swap_infonce(m,
    h, a, # actions
    # more
    )
x = energy_inbatch_swap_infonce(
    m, h, a
    # tail comment
)
x = energy_inbatch_swap_infonce(
    m,
    h,
    a  # the actions
    ,
)
x = energy_inbatch_swap_infonce(m, h, a \
    )
x = energy_inbatch_swap_infonce(
    energy_model=m,
    h=h,
    reduce_steps="mean",  # unused
    a_pos=a,
)
x = energy_inbatch_swap_infonce(
    m,
    h,
    a, mask, 0.5,
    "mean",  # unused
)
# ==== after ====
import torch.distributed as dist
from energy.energy_model import energy_inbatch_swap_infonce
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
replicate(m)
world_size = dist.get_world_size() if dist.is_initialized() else 1
x = distributed_energy_inbatch_swap_infonce(m, h, (yield_ := a), tau=0.07, world_size=world_size)
x = distributed_energy_inbatch_swap_infonce(m, h, b := a, tau=0.07, world_size=world_size)
x = distributed_energy_inbatch_swap_infonce(m, h, lambda: 3, tau=0.07, world_size=world_size)
x = distributed_energy_inbatch_swap_infonce(m, h, a if b else c, world_size=world_size, tau=0.2)
x = distributed_energy_inbatch_swap_infonce(m, h, a, None, tau=0.07, world_size=world_size)
x = distributed_energy_inbatch_swap_infonce(a_pos=a, h=h, energy_model=m, tau=0.07, world_size=world_size, )
x = distributed_energy_inbatch_swap_infonce (m, h, a, tau=0.07, world_size=world_size)
x = distributed_energy_inbatch_swap_infonce(m,
    h, a, tau=0.07, world_size=world_size, # actions
    # more
    )
x = distributed_energy_inbatch_swap_infonce(
    m, h, a, tau=0.07, world_size=world_size
    # tail comment
)
x = distributed_energy_inbatch_swap_infonce(
    m,
    h,
    a  # the actions
    ,
    tau=0.07,
    world_size=world_size,
)
x = distributed_energy_inbatch_swap_infonce(m, h, a, tau=0.07, world_size=world_size \
    )
x = distributed_energy_inbatch_swap_infonce(
    energy_model=m,
    h=h,
    tau=0.07, world_size=world_size,  # unused
    a_pos=a,
)
x = distributed_energy_inbatch_swap_infonce(
    m,
    h,
    a, mask, 0.5,
    world_size=world_size,  # unused
)
