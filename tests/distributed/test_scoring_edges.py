"""Models that write into tensors, mix their pairs or stop a pass of stand-ins: still the energies of plain pairs."""

import copy
import warnings
from typing import Any

import energy_zoo as zoo
import mixing_kinds as mixing
import more_kinds as more
import plain_reference as plain
import pytest
import torch
import writing_kinds as writing
from check_scores import check_equal, make_candidates
from energy_losses.scoring import energy_matrix, materialised
from torch import Tensor, nn


def named(kind: Any) -> str:
    return str(kind.__name__)


@pytest.mark.parametrize("kind", writing.WRITING, ids=named)
def test_writing_equals_pairs(kind: Any) -> None:
    model = zoo.build(kind)
    for rows, count, own, chunk in [(3, 4, False, None), (2, 5, False, 2), (2, 3, True, 1)]:
        check_equal(model, plain.make_batch(rows), make_candidates((rows, count) if own else (count,)), chunk=chunk)


@pytest.mark.parametrize("kind", more.MORE, ids=named)
def test_more_kinds_equal_pairs(kind: Any) -> None:
    model = zoo.build(kind)
    check_equal(model, plain.make_batch(3), make_candidates((4,)))
    assert kind not in more.MORE_STAND_IN or materialised(model) == {}
    check_equal(model, plain.make_batch(2), make_candidates((2, 5)), chunk=2)


@pytest.mark.parametrize("kind", mixing.MIXING, ids=named)
def test_mixed_pairs_are_never_split(kind: Any) -> None:
    model, batch, candidates = zoo.build(kind), plain.make_batch(3), make_candidates((6,))
    for chunk in (None, 2, 4):
        check_equal(model, batch, candidates, chunk=chunk)
    if kind is mixing.counted_in_the_gradient:  # type: ignore[attr-defined]
        return
    split = torch.cat([plain.energies(model, batch, part) for part in candidates.split(2)], 1)
    assert (split - plain.energies(model, batch, candidates)).abs().max() > 1e-9  # it would have mattered


@pytest.mark.parametrize("kind", [*writing.WRITING, *mixing.MIXING, *more.MORE], ids=named)
def test_validation_equals_pairs(kind: Any) -> None:
    model, batch, candidates = zoo.build(kind), plain.make_batch(3), make_candidates((5,))
    expected = plain.energies(model, batch, candidates)
    with torch.inference_mode():
        found = energy_matrix(model, batch.h.clone(), candidates, batch.mask, chunk=2)
    assert torch.allclose(found, expected, atol=zoo.EXACT, rtol=0)


def test_a_buffer_that_each_call_changes_is_not_changed_more_often() -> None:
    model, batch, candidates = zoo.build(mixing.SpectralEnergy), plain.make_batch(3), make_candidates((6,))
    found = energy_matrix(copy.deepcopy(model), batch.h, candidates, batch.mask, chunk=2)
    assert torch.allclose(found, plain.energies(model, batch, candidates), atol=zoo.EXACT, rtol=0)


class Attending(zoo.CrossEnergy):
    """Calls a function of the pairs where actions meet contexts."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
        return self.function(super().attend(steps, context, mask), context)  # type: ignore[no-any-return]


def made(function: Any) -> Any:
    return zoo.build(lambda: Attending(function))


def scripted(z: Tensor, c: Tensor) -> Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return torch.jit.script(doubled)(z)  # type: ignore[no-any-return]


def doubled(x: Tensor) -> Tensor:
    return torch.tanh(x) * 2


def offloaded(z: Tensor, c: Tensor) -> Tensor:
    with torch.autograd.graph.save_on_cpu():
        return z * c.tanh().mean(1, keepdim=True)


def caught(z: Tensor, c: Tensor) -> Tensor:
    try:
        return z * c.T.numpy().mean()
    except Exception:
        return z.tanh()


def caught_altogether(z: Tensor, c: Tensor) -> Tensor:
    try:
        z.register_hook(lambda gradient: gradient * 2)
    except:  # noqa: E722
        return z * 3
    return z


UNUSUAL = {
    "keywords": lambda z, c: torch.nn.functional.softmax(input=torch.add(input=z, other=1), dim=-1),
    "script": scripted,
    "func": lambda z, c: torch.func.vmap(lambda x: x * 2)(z) + torch.func.vmap(lambda x, y: x + y[0])(z, c),
    "cosine": lambda z, c: z * torch.cosine_similarity(z[:, :, None], c[:, None], dim=-1).mean(-1, keepdim=True),
    "offloaded": offloaded,
    "flip": lambda z, c: z.flip(1, 2) + z.flip((1,)) + torch.flip(z, dims=[2]),
    "varargs": lambda z, c: z.permute(2, 0, 1).permute(1, 2, 0).repeat(1, 2, 1).view(len(z), 2, -1, 8).mean((1,)),
    "int and list": lambda z, c: z + z.view(len(z), 2, -1, 8)[:, 0, :, [0, 1]].sum(),
    "caught": caught,
    "caught altogether": caught_altogether,
}


@pytest.mark.filterwarnings("ignore:The use of `x.T`:UserWarning")
@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_calls(name: str) -> None:
    model, batch = made(UNUSUAL[name]), plain.make_batch(3)
    check_equal(model, batch, make_candidates((4,)))
    check_equal(model, batch, make_candidates((5,)), chunk=2)


def test_an_error_that_only_stand_ins_raise_is_named_in_the_report() -> None:
    def only_stand_ins(z: Tensor, c: Tensor) -> Tensor:
        if type(z) is not Tensor:
            raise KeyError("no such type")
        return z

    model, batch = made(only_stand_ins), plain.make_batch(3)
    check_equal(model, batch, make_candidates((4,)), chunk=2)
    assert list(materialised(model)) == ["everything (KeyError: 'no such type')"]


def test_an_error_of_the_model_is_the_users() -> None:
    def wrong(z: Tensor, c: Tensor) -> Tensor:
        raise KeyError("the user's")

    with pytest.raises(KeyError, match="the user's"):
        energy_matrix(made(wrong), *(batch := plain.make_batch(3)).rows(0, 3).__dict__.values())
    assert batch.h.shape[0] == 3


def test_out_of_memory_is_not_answered_with_more_memory() -> None:
    calls: list[int] = []

    def exhausted(z: Tensor, c: Tensor) -> Tensor:
        calls.append(1)
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    batch = plain.make_batch(3)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        energy_matrix(made(exhausted), batch.h, batch.a, batch.mask)
    assert len(calls) == 1


def test_an_energy_for_each_pair_is_asked_for() -> None:
    batch = plain.make_batch(3)
    with pytest.raises(ValueError, match=r"3 x 4 pairs, \[12, 1\]; got \[12, 4, 8\]"):
        energy_matrix(OneMore(), batch.h, make_candidates((4,)), batch.mask)


class OneMore(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 8).double()

    def forward(self, h: Tensor, a: Tensor, pad_mask: Tensor | None = None) -> Tensor:
        return self.layer(a)  # type: ignore[no-any-return]


def test_a_plain_run_is_reported() -> None:
    model, batch = zoo.build(writing.a_view_of_contexts), plain.make_batch(3)  # type: ignore[attr-defined]
    energy_matrix(model, batch.h, batch.a, batch.mask)
    (report,) = materialised(model)
    assert report.startswith("everything (")


@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_contexts_have_a_dropout_mask_for_each_pair(chunk: int | None) -> None:
    def dropped(z: Tensor, c: Tensor) -> Tensor:
        c = torch.nn.functional.dropout(c, 0.5)
        noise = torch.rand_like(c) + c.new_empty(c.shape).uniform_()
        return z + c.mean(1, keepdim=True) + noise.mean(1, keepdim=True)

    model, batch = made(dropped), plain.make_batch(2)
    energies = energy_matrix(model, batch.h, make_candidates((1,)).expand(6, -1, -1), batch.mask, chunk=chunk)
    assert len(energies.flatten().unique()) == 12


@pytest.mark.parametrize("chunk", [None, 1, 2])
def test_attention_of_contexts_has_a_dropout_mask_for_each_pair(chunk: int | None) -> None:
    def attended(z: Tensor, c: Tensor) -> Tensor:
        return z + torch.nn.functional.scaled_dot_product_attention(c, c, c, None, 0.5).mean(1, keepdim=True)

    class WithLayer(zoo.CrossEnergy):
        def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
            return steps + self.cross(context, context, context)[0].mean(1, keepdim=True)  # type: ignore[no-any-return]

    batch, same = plain.make_batch(2), make_candidates((1,)).expand(6, -1, -1)
    for model in (made(attended), zoo.build(WithLayer)):
        model.cross.dropout = 0.5
        energies = energy_matrix(model, batch.h, same, None, chunk=chunk)
        assert len(energies.flatten().unique()) == 12


def test_a_stand_in_that_the_model_keeps_can_be_read_later() -> None:
    class Keeping(zoo.CrossEnergy):
        last: Any = None

        def attend(self, steps: Tensor, context: Tensor, mask: Tensor | None) -> Tensor:
            z = super().attend(steps, context, mask)
            if self.last is not None:
                z = z + 0 * self.last.mean()
            self.last = z.detach()
            return z

    model, batch = zoo.build(Keeping), plain.make_batch(3)
    for chunk in (None, 2):
        energy_matrix(model, batch.h, make_candidates((5,)), batch.mask, chunk=chunk)
        assert model.last.mean().item() == pytest.approx(float(model.last.numpy().mean()))


def test_parts_that_are_compiled_and_mix_pairs_are_not_split() -> None:
    model, batch, candidates = made(lambda z, c: z - z.mean(0)), plain.make_batch(3), make_candidates((6,))
    model.context = torch.compile(model.context, backend="eager")
    with pytest.warns(RuntimeWarning, match="compiled"):
        found = energy_matrix(model, batch.h, candidates, batch.mask)
    assert torch.allclose(found, plain.energies(model, batch, candidates), atol=zoo.EXACT, rtol=0)
    assert list(materialised(model)) == ["everything (a part is compiled)"]


def test_a_later_chunk_that_is_given_up_leaves_no_hooks_behind() -> None:
    calls: list[Tensor] = []

    def mixed_later(z: Tensor, c: Tensor) -> Tensor:
        calls.append(z)
        return z - z.mean(0) if len(calls) > 1 else z

    batch = plain.make_batch(3)
    energy_matrix(made(mixed_later), batch.h, make_candidates((6,)), batch.mask, chunk=2)
    x = torch.ones(2, requires_grad=True)
    (x * x).sum().backward()
    assert torch.equal(x.grad, torch.full((2,), 2.0))  # type: ignore[arg-type]
