# energy-patch apply
# -*- coding: utf-8 -*-
"""能量模型训练脚本（与策略一起训练）"""
import torch
import torch.distributed as dist
from dataclasses import dataclass

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce  # 损失函数
from policy import Policy


@dataclass
class 配置:
    学习率: float = 1e-3  # 学习率
    batch_size: int = 3  # 每张卡的批大小，不能太大


def 训练(cfg: 配置):
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()  # 每张卡各自初始化
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=cfg.学习率)
    for batch in get_loader(cfg.batch_size):
        隐状态, _ = policy(batch["observation"])
        # 旧的: loss = energy_inbatch_swap_infonce(energy_model, h, a)
        损失, 正, 负 = energy_inbatch_swap_infonce(energy_model, 隐状态.detach(), batch["actions"], batch["pad_mask"])  # ← 对比损失
        optimizer.zero_grad()
        损失.backward()
        optimizer.step()


if __name__ == "__main__":
    训练(配置())
# ==== after ====
# -*- coding: utf-8 -*-
"""能量模型训练脚本（与策略一起训练）"""
import torch
import torch.distributed as dist
from dataclasses import dataclass

from data import get_loader
from energy.energy_model import EnergyModel, energy_inbatch_swap_infonce  # 损失函数
from energy_losses.global_infonce import distributed_energy_inbatch_swap_infonce
from energy_losses.ranks import replicate
from policy import Policy


@dataclass
class 配置:
    学习率: float = 1e-3  # 学习率
    batch_size: int = 3  # 每张卡的批大小，不能太大
    energy_tau: float = 0.07  # Temperature of the energy model's InfoNCE loss


def 训练(cfg: 配置):
    dist.init_process_group("gloo")
    policy, energy_model = Policy(), EnergyModel()  # 每张卡各自初始化
    optimizer = torch.optim.AdamW(energy_model.parameters(), lr=cfg.学习率)
    for batch in get_loader(cfg.batch_size):
        隐状态, _ = policy(batch["observation"])
        # 旧的: loss = energy_inbatch_swap_infonce(energy_model, h, a)
        replicate(energy_model)
        world_size = dist.get_world_size() if dist.is_initialized() else 1
        损失, 正, 负 = distributed_energy_inbatch_swap_infonce(energy_model, 隐状态.detach(), batch["actions"], batch["pad_mask"], tau=cfg.energy_tau, world_size=world_size)  # ← 对比损失
        optimizer.zero_grad()
        损失.backward()
        optimizer.step()


if __name__ == "__main__":
    训练(配置())
