"""One decoding step over a board: pure tensor code that neither asks the device nor changes its sizes.

What it does depends on numbers in buffers alone, so that it can be recorded as a CUDA graph and
replayed. A row's token comes from its own seed and step (`choose.uniform`), hence from no state of a
generator: a replayed step draws what an eager one draws.
"""

from __future__ import annotations

import torch
from torch import Tensor

from selfimprove.sampling.board import Board, Keys, Rung
from selfimprove.sampling.choose import choose_blindly
from selfimprove.sampling.engine import SamplingConfig
from selfimprove.sampling.forward import Forward

__all__ = ["settle", "step"]


def step(board: Board, rung: Rung, forward: Forward, sampling: SamplingConfig) -> None:
    """Give every row of the rung that is alive its next token.

    A row that needs more than `choose_blindly` looks at stays as it is, is marked unsure, and its
    logits are kept; another step would do the same again.
    """
    count = rung.rows
    alive, made = board.alive[:count], board.made[:count]
    last = (made - 1).clamp(min=0)
    tokens = board.tokens[:count].gather(1, last.unsqueeze(1))
    positions = (board.before[:count] + last).unsqueeze(1)
    columns = torch.where(alive, last, board.size.new)
    logits = forward(tokens, positions, Keys(board, rung, columns, last))
    # The host raises when it looks; until then NaN must not become a token that is none.
    board.broken[:count].logical_or_(logits[:, 0].isnan() & alive)
    choice = choose_blindly(logits, board.seeds[:count], made, sampling)
    tokens = choice.tokens.clamp(max=logits.shape[1] - 1)
    taken = alive
    if choice.sure is not None:
        board.logits[:count] = logits
        board.unsure[:count] = alive & ~choice.sure
        taken = alive & choice.sure
    settle(board, torch.arange(count, device=board.device), tokens, taken)


def settle(board: Board, rows: Tensor, tokens: Tensor, taken: Tensor) -> None:
    """Append tokens to those of `rows` that are `taken`; see which of them ended.

    Args:
        board: that has the rows.
        rows: numbers of rows, each once.
        tokens: one a row.
        taken: whether each row takes its token.
    """
    made = board.made[rows]
    places = rows * board.tokens.shape[1] + torch.where(taken, made, board.size.new)
    board.tokens.view(-1).index_copy_(0, places, tokens)
    made = made + taken
    ended = (board.ends[tokens] & taken) | (made >= board.most)
    board.asks.index_copy_(0, rows, board.asks[rows] | (board.may_stop[tokens] & taken))
    board.made.index_copy_(0, rows, made)
    # Last, as `taken` may be a view of it.
    board.alive.index_copy_(0, rows, board.alive[rows] & ~ended)
