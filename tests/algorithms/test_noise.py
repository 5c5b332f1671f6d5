"""Noise of long solutions."""

from __future__ import annotations

import pytest
import torch

from algorithms._noise import fill_normal

LENGTH = 40_000


def filled(seed: int, *, length: int = LENGTH, center: torch.Tensor | None = None) -> torch.Tensor:
    values = torch.empty(6, length)
    fill_normal(values, 0.5, center=center, generator=torch.Generator().manual_seed(seed))
    return values


def test_the_bits_do_not_depend_on_the_number_of_threads():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = filled(3)
        torch.set_num_threads(3)
        three = filled(3)
    finally:
        torch.set_num_threads(before)
    assert one.equal(three)
    assert not one.equal(filled(4))


@pytest.mark.parametrize("length", [100, LENGTH])
def test_noise_is_normal_around_the_center_and_differs_between_rows(length):
    center = torch.linspace(-3.0, 3.0, length)
    noise = filled(0, length=length, center=center) - center
    assert noise.mean().abs() < 5 * 0.5 / noise.numel() ** 0.5
    assert noise.std().item() == pytest.approx(0.5, rel=5 / (2 * noise.numel()) ** 0.5)
    between_rows = torch.corrcoef(noise) - torch.eye(len(noise))
    assert between_rows.abs().max() < 5 / length**0.5


def test_each_call_draws_new_noise_and_pytorchs_own_seed_counts():
    generator = torch.Generator().manual_seed(1)
    first, second = torch.empty(2, LENGTH), torch.empty(2, LENGTH)
    for values in (first, second):
        fill_normal(values, 1.0, center=None, generator=generator)
    assert not first.equal(second)
    own = []
    for _ in range(2):
        torch.manual_seed(7)
        fill_normal(first, 1.0, center=None, generator=None)
        own.append(first.clone())
    assert own[0].equal(own[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_noise_of_any_floating_dtype_is_drawn(dtype):
    values, center = torch.empty(3, LENGTH, dtype=dtype), torch.ones(LENGTH, dtype=dtype, requires_grad=True)
    with torch.no_grad():
        fill_normal(values, 0.5, center=center, generator=None)
    assert values.double().mean().item() == pytest.approx(1.0, abs=0.02)
    fill_normal(torch.empty(0, LENGTH, dtype=dtype), 0.5, center=None, generator=None)


def test_noise_is_drawn_where_no_thread_can_be_started(monkeypatch):
    expected = filled(5)

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("concurrent.futures.thread.ThreadPoolExecutor.submit", refuse)
    assert filled(5).equal(expected)
