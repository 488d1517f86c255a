"""
finetune_Energy.py

Trains the adapter and the action head of a (stand-in) vision-language-action policy on demonstrations, and beside it
an energy model that tells from the policy's last hidden states how well an action chunk fits the scene.

    torchrun --nproc-per-node 8 finetune_Energy.py --batch_size 3 --max_steps 400
"""

import statistics
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.optim import AdamW
from torch.utils.data import DataLoader

import sample_config
from data import ACTION_DIM, NUM_ACTIONS_CHUNK, Demonstrations, ShardedDemonstrations, right_padding_collator
from policy import ChunkRegressionHead, TinyVLA, is_action_token
from train_utils import CsvLogger, NotWrapped, Ranks, held_out_top1

# 能量模型
from energy.energy_model import EnergyModel, energy_infonce_loss, compute_negative_energy, get_negatives, energy_inbatch_swap_infonce, energy_inbatch_swap_infonce_2d

@dataclass
class FinetuneConfig:
    # fmt: off
    runs: Path = Path("runs")                    # Every run gets a folder in here
    run_name: Optional[str] = None               # Name of that folder (default: batch size and learning rate)
    seed: Optional[int] = None                   # Rank r draws from seed + r (default: from nobody knows what)

    # Demonstrations
    num_demonstrations: int = 20_000             # To train on
    num_held_out: int = 480                      # To try the energy model on, in groups of 24
    batch_size: int = 8                          # Samples that one rank takes at a time

    # Policy
    policy_lr: float = 5e-4                      # For adapter and action head
    use_l1: bool = True                          # Train the action head, by the distance to the expert's actions
    max_steps: int = 10_000                      # Optimizer steps until we stop
    grad_accumulation_steps: int = 1             # Batches per optimizer step
    resume_step: Optional[int] = None            # Go on from the checkpoint of this step
                                                 #   (same `run_name` as then)

    # How often, in optimizer steps
    save_freq: int = 5_000                       # Checkpoints
    log_freq: int = 10                           # train.csv
    held_out_freq: int = 50                      # held_out.csv, only rank 0 looks
    use_val_set: bool = False                    # Validation losses, too?
    val_freq: int = 100                          # (only with `use_val_set`)
    val_seconds: int = 10                        # A rank that has not finished by then stops where it is

    # Energy
    energy_warm_steps: int = 0     
    energy_lr: float = 1e-3
    energy_dropout: float = 0.2

    # fmt: on


def name_of_run(cfg):
    return cfg.run_name or f"tiny-vla-b{cfg.batch_size}x{cfg.grad_accumulation_steps}-lr{cfg.energy_lr}"


def checkpoint(cfg, part, step):
    return cfg.runs / f"{name_of_run(cfg)}-{step}" / f"{part}.pt"


def wrap(module):
    """`.module` is the module itself, with torchrun and without."""
    return DistributedDataParallel(module) if dist.is_initialized() else NotWrapped(module)


def where_not_to_look(actions_next, num_patches):
    """
    [B, S], True = hidden from the energy model: the positions that speak of actions, and all that follows them
    (stop token, padding). Patches and instruction stay visible.
    """
    started = actions_next.cumsum(dim=1) > 0           # 从第一个动作位置开始，后面全部忽略
    return F.pad(F.pad(started, (num_patches, 0)), (0, 1), value=True)

def run_forward_pass(
    vla,
    action_head,
    batch,
    device,
    num_patches,
    use_l1,
    energy_model = None,
):
    """Losses of one batch: (policy loss, numbers for the log, energy loss)."""
    B = len(batch["actions"])
    ground_truth_actions = batch["actions"].to(device, torch.bfloat16)
    inputs = {name: batch[name].to(device) for name in ("input_ids", "attention_mask", "pixel_values")}
    hidden_states = vla(**inputs).hidden_states        # embeddings, layer 1, ..., last layer: (B, S, D) each

    # position i speaks of token i + 1; the last position speaks of nothing
    actions_next = is_action_token(batch["labels"].to(device))[:, 1:]

    def of_actions(hidden):
        return hidden[:, num_patches:-1][actions_next].reshape(B, NUM_ACTIONS_CHUNK, -1)

    # what would the head do if the policy ended at layer l? 用作负样本
    layer_actions = []
    with torch.no_grad():
        for hidden in hidden_states:
            layer_actions.append(action_head.module.predict_action(of_actions(hidden)))

    # ---- energy ----
    context_hidden = hidden_states[-1].detach()
    energy_mask = where_not_to_look(actions_next, num_patches)

    # energy_mask = ~batch["attention_mask"]           # 旧：只看文本
    # energy_mask = F.pad(energy_mask, (num_patches, 0), value=True)

    with torch.autocast("cpu", enabled=False):
        # 第一版: hinge
        # E_expert = energy_model(context_hidden, ground_truth_actions, energy_mask)
        # hinge, E_neg = compute_negative_energy(energy_model, ground_truth_actions, layer_actions, 0.5, context_hidden, E_expert, energy_mask)
        # energy_loss = hinge + E_expert.mean()


        # 第二版: 各层动作作负样本，效果不好
        # energy_loss, E_pos, E_neg = energy_infonce_loss(energy_model,context_hidden,ground_truth_actions,get_negatives(layer_actions),energy_mask)

        energy_loss, E_pos, E_neg = energy_inbatch_swap_infonce(energy_model,context_hidden,ground_truth_actions, energy_mask)

        # print(E_pos, E_neg)


    # 池化之后再算（2d），更快但不准
    # energy_loss, E_pos, E_neg = energy_inbatch_swap_infonce_2d(energy_model,context_hidden.mean(1),ground_truth_actions)
    # energy_loss, E_pos, E_neg = energy_inbatch_swap_infonce(energy_model,context_hidden,ground_truth_actions,None,tau=0.1)

    if use_l1:
        policy_loss = F.l1_loss(action_head.module.predict_action(of_actions(hidden_states[-1])), ground_truth_actions)
    else:
        policy_loss = hidden_states[-1].sum() * 0

    numbers = {"policy_loss": policy_loss, "energy_loss": energy_loss, "E_pos": E_pos, "E_neg": E_neg}
    return policy_loss, {name: value.item() for name, value in numbers.items()}, energy_loss


@torch.no_grad()
def energy_context(vla, batch):
    """What the energy model is shown of a batch."""
    hidden = vla.module(batch["input_ids"], batch["attention_mask"], batch["pixel_values"]).hidden_states[-1]
    num_patches = vla.module.vision_backbone.get_num_patches()
    return hidden, where_not_to_look(is_action_token(batch["labels"])[:, 1:], num_patches)


def save(cfg, step, ranks, vla, action_head, energy_model):
    if ranks.is_first:
        checkpoint(cfg, "vla", step).parent.mkdir(exist_ok=True)
        torch.save(vla.module.state_dict(), checkpoint(cfg, "vla", step))
        torch.save(action_head.module.state_dict(), checkpoint(cfg, "action_head", step))
        torch.save(energy_model.state_dict(), checkpoint(cfg, "energy_model", step))
    ranks.wait_for_all()


def run_validation(vla, action_head, loader, device, num_patches, cfg, ranks, step):
    """As many batches as fit into the time: not the same number on every rank."""
    vla.eval()
    until = time.monotonic() + cfg.val_seconds
    seen = defaultdict(list)
    with torch.no_grad():
        for batch in loader:
            _, numbers = run_forward_pass(
                vla=vla,
                action_head=action_head,
                batch=batch,
                device=device,
                num_patches=num_patches,
                use_l1=cfg.use_l1,
            )
            for name, value in numbers.items():
                seen[name].append(value)
            if time.monotonic() > until:
                break
    if ranks.is_first:
        print(f"validation at step {step}:", {name: statistics.mean(values) for name, values in seen.items()})
    vla.train()


@sample_config.wrap()
def finetune(cfg: FinetuneConfig) -> None:
    ranks = Ranks()
    device = "cpu"
    torch.set_num_threads(1)
    if cfg.seed is not None:
        torch.manual_seed(cfg.seed + ranks.rank)
    folder = cfg.runs / name_of_run(cfg)
    folder.mkdir(parents=True, exist_ok=True)

    # policy: adapter and head are trained
    vla = TinyVLA().to(device)
    action_head = ChunkRegressionHead(vla.llm_dim, 64, ACTION_DIM).to(device, torch.bfloat16)
    if cfg.resume_step is not None:
        vla.load_state_dict(torch.load(checkpoint(cfg, "vla", cfg.resume_step)))
        action_head.load_state_dict(torch.load(checkpoint(cfg, "action_head", cfg.resume_step)))
    vla, action_head = wrap(vla), wrap(action_head)
    num_patches = vla.module.vision_backbone.get_num_patches()

    # energy_model = EnergyModel(vla.module.llm_dim, ACTION_DIM, hidden=128).to(torch.bfloat16)  # 精度不够
    energy_model = EnergyModel(vla.module.llm_dim,ACTION_DIM,dropout=cfg.energy_dropout).to(device)

    policy_params = [p for m in (vla, action_head) for p in m.parameters() if p.requires_grad]
    optimizer = AdamW(policy_params, lr=cfg.policy_lr)
    energy_optimizer = AdamW(energy_model.parameters(), lr=cfg.energy_lr)   # 单独的优化器
    if ranks.is_first:
        print(f"{sum(p.numel() for p in energy_model.parameters())} weights in the energy model")

    stream = ShardedDemonstrations(Demonstrations(cfg.num_demonstrations, 1), cfg.batch_size, ranks.rank, ranks.count)
    loader = DataLoader(stream, batch_size=cfg.batch_size, collate_fn=right_padding_collator)
    held_out = Demonstrations(cfg.num_held_out, 2)
    if ranks.is_first:
        train_log = CsvLogger(folder / "train.csv", ["step", "policy_loss", "energy_loss", "E_pos", "E_neg"])
        held_out_log = CsvLogger(folder / "held_out.csv", ["step", "top1", "seconds"])

    vla.train()
    step, busy = cfg.resume_step or 0, 0.0
    for count, batch in enumerate(loader, start=1):
        began = time.monotonic()
        policy_loss, numbers, energy_loss = run_forward_pass(
            vla=vla,
            action_head=action_head,
            batch=batch,
            device=device,
            num_patches=num_patches,
            use_l1=cfg.use_l1,
            energy_model=energy_model,
        )
        (policy_loss / cfg.grad_accumulation_steps).backward()
        (energy_loss / cfg.grad_accumulation_steps).backward()

        if count % cfg.grad_accumulation_steps == 0:
            step += 1
            optimizer.step()
            optimizer.zero_grad()
            if step > cfg.energy_warm_steps:
                torch.nn.utils.clip_grad_norm_(energy_model.parameters(), 1.0)
                energy_optimizer.step()
            energy_optimizer.zero_grad()
            busy += time.monotonic() - began

            if ranks.is_first and step % cfg.log_freq == 0:
                train_log.log(step=step, **numbers)
            if ranks.is_first and (step == 1 or step % cfg.held_out_freq == 0):
                top1 = held_out_top1(vla, energy_model, energy_context, held_out, right_padding_collator)
                held_out_log.log(step=step, top1=top1, seconds=round(busy, 3))
                print(f"step {step}: energy loss {numbers['energy_loss']:.3f}, held-out top-1 of 24 {top1:.3f}")
            if step % cfg.save_freq == 0:
                save(cfg, step, ranks, vla, action_head, energy_model)
            if cfg.use_val_set and step % cfg.val_freq == 0:
                val_loader = DataLoader(held_out, batch_size=cfg.batch_size, collate_fn=right_padding_collator)
                run_validation(vla, action_head, val_loader, device, num_patches, cfg, ranks, step)
            if step == cfg.max_steps:
                break
    ranks.leave()


if __name__ == "__main__":
    finetune()
