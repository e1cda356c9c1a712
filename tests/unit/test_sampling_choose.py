"""How the next token is chosen."""

from __future__ import annotations

import torch

from selfimprove.sampling.choose import choose, choose_blindly, choose_from_all, uniform
from selfimprove.sampling.engine import SamplingConfig

_CHANCES = [0.5, 0.3, 0.15, 0.05]


def _counts(sampling: SamplingConfig, draws: int = 20_000) -> list[float]:
    """Shares of the four tokens over many draws with seeds 0, 1, 2, …"""
    logits = torch.tensor(_CHANCES).log().expand(draws, 4)
    steps = torch.zeros(draws, dtype=torch.long)
    tokens = choose(logits, torch.arange(draws), steps, sampling)
    return [round(x, 2) for x in (tokens.bincount(minlength=4) / draws).tolist()]


def test_uniform_is_splitmix64_of_seed_and_step() -> None:
    """The reference implementation's first two outputs for seed 1234567."""
    seeds, steps = torch.tensor([1234567, 1234567]), torch.tensor([0, 1])
    wanted = [(x >> 40) * 2.0**-24 for x in (6457827717110365317, 3203168211198807973)]
    assert uniform(seeds, steps).tolist() == wanted


def test_uniform_numbers_are_spread_evenly_and_below_one() -> None:
    """100,000 numbers in 10 bins: a bin's standard deviation is 95."""
    u = uniform(torch.arange(1000).repeat(100), torch.arange(100).repeat_interleave(1000))
    assert u.histc(10, 0, 1).sub(10_000).abs().max() < 5 * 95
    assert 0 <= u.min() < u.max() < 1


def test_temperature_0_and_top_k_1_take_the_most_probable_token() -> None:
    for sampling in (SamplingConfig(temperature=0), SamplingConfig(top_k=1, temperature=2)):
        assert _counts(sampling, 100) == [1, 0, 0, 0]


def test_at_temperature_1_tokens_come_by_their_probability() -> None:
    """A share of 20,000 draws has a standard deviation of at most 0.0035."""
    for got, wanted in zip(_counts(SamplingConfig(temperature=1)), _CHANCES, strict=True):
        assert abs(got - wanted) <= 0.02


def test_temperature_sharpens_by_the_power_of_its_inverse() -> None:
    """At 0.5 chances are squared: .25 .09 .0225 .0025 of .365."""
    got = _counts(SamplingConfig(temperature=0.5))
    for share, wanted in zip(got, [0.685, 0.247, 0.062, 0.007], strict=True):
        assert abs(share - wanted) <= 0.02


def test_top_k_keeps_the_k_best() -> None:
    """.5 and .3 of .8."""
    got = _counts(SamplingConfig(temperature=1, top_k=2))
    assert abs(got[0] - 0.625) <= 0.02
    assert got[2:] == [0, 0]


def test_top_p_keeps_the_smallest_set_that_holds_p() -> None:
    assert _counts(SamplingConfig(temperature=1, top_p=0.49)) == [1, 0, 0, 0]
    got = _counts(SamplingConfig(temperature=1, top_p=0.81))
    assert abs(got[0] - 0.5 / 0.95) <= 0.02
    assert got[3] == 0


def test_top_p_over_a_wide_flat_vocabulary_needs_the_full_sort() -> None:
    """1,000 equal tokens, p = .9: tokens far behind the first 256 must still come."""
    logits = torch.zeros(2000, 1000)
    steps = torch.zeros(2000, dtype=torch.long)
    tokens = choose(logits, torch.arange(2000), steps, SamplingConfig(temperature=1, top_p=0.9))
    assert 700 < tokens.unique().numel() <= 900


def test_a_row_that_needs_the_full_sort_leaves_its_neighbours_alone() -> None:
    """Beside a flat row, a steep one whose 256 best tokens hold enough chooses as it does alone."""
    torch.manual_seed(0)
    logits = torch.randn(400, 1000) * torch.tensor([0.01, 3.0]).repeat(200)[:, None]
    seeds, steps, asked = (
        torch.arange(400),
        torch.zeros(400, dtype=torch.long),
        SamplingConfig(top_p=0.9),
    )
    sure = choose_blindly(logits, seeds, steps, asked).sure
    assert sure is not None
    assert sure.tolist() == [False, True] * 200
    together = choose(logits, seeds, steps, asked)
    for kind in (slice(0, 400, 2), slice(1, 400, 2)):
        assert torch.equal(together[kind], choose(logits[kind], seeds[kind], steps[kind], asked))
    flat = choose_from_all(logits[::2], seeds[::2], steps[::2], asked)
    assert torch.equal(together[::2], flat)


def test_a_token_without_a_chance_is_never_chosen() -> None:
    logits = torch.tensor([[-torch.inf, 0.0, -torch.inf, -torch.inf]]).expand(5000, 4)
    tokens = choose(
        logits, torch.arange(5000), torch.zeros(5000, dtype=torch.long), SamplingConfig()
    )
    assert tokens.unique().tolist() == [1]


def test_a_wide_vocabulary_is_chosen_from_by_the_plain_inverse_of_its_running_sum() -> None:
    """Whole numbers as chances: no sum is rounded, so that every choice must be the same."""
    torch.manual_seed(0)
    chances = torch.randint(0, 4, (700, 1000)).double()
    seeds, steps = torch.arange(700), torch.zeros(700, dtype=torch.long)
    wanted = uniform(seeds, steps)[:, None] * chances.sum(-1, keepdim=True)
    plain = torch.searchsorted(chances.cumsum(-1), wanted.double(), right=True).squeeze(1)
    got = choose(chances.log().float(), seeds, steps, SamplingConfig(temperature=1))
    assert (got == plain).float().mean() > 0.99  # exp and log do round
    assert (chances.gather(1, got[:, None]) > 0).all()
    assert ((got - plain).abs() < 5).all()
