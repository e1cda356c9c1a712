"""The kernels of `fused`: what one program of a GPU does. There are none where there is no Triton."""

# mypy: ignore-errors
# ruff: noqa: ANN001, ANN202, PLR0913

from importlib.util import find_spec

if find_spec("triton"):
    import triton
    import triton.language as tl

    @triton.jit
    def _with_part(outs, lses, at_out, at_lse, there, place, top, total, found):
        """What was found elsewhere counts as one key more, whose score is the log-sum-exp there."""
        lse = tl.load(lses + at_lse, mask=there, other=0.0).to(tl.float32)
        out = tl.load(outs + at_out[:, None] + place[None, :], mask=there[:, None], other=0.0)
        both = tl.maximum(top, lse)
        old, new = tl.exp(top - both), tl.exp(lse - both)
        found = found * old[:, None] + out.to(tl.float32) * new[:, None]
        return both, total * old + new, found

    @triton.jit
    def own_keys(
        queries, keys, values, last, out1, lse1, out2, lse2, out, scale,
        key_row, key_head, a_row, a_head, a_query, b_row, b_head, b_query,
        c_row, c_head, c_query, d_row, d_head, d_query,
        HEADS: tl.constexpr, QUERIES: tl.constexpr, PADDED: tl.constexpr, SIZE: tl.constexpr,
        BLOCK: tl.constexpr, PARTS: tl.constexpr, PRECISION: tl.constexpr,
    ):  # fmt: skip
        """A row's queries of one key head; the softmax is online (Milakov and Gimelshein 2018)."""
        row, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
        query, place = tl.arange(0, PADDED), tl.arange(0, SIZE)
        there = query < QUERIES
        base = ((row * HEADS + head) * QUERIES + query)[:, None] * SIZE + place[None, :]
        asked = tl.load(queries + base, mask=there[:, None], other=0.0)
        top = tl.full([PADDED], -float("inf"), tl.float32)
        total = tl.zeros([PADDED], tl.float32)
        found = tl.zeros([PADDED, SIZE], tl.float32)
        if PARTS > 0:
            top, total, found = _with_part(
                out1, lse1, row * a_row + head * a_head + query * a_query,
                row * b_row + head * b_head + query * b_query, there, place, top, total, found
            )  # fmt: skip
        if PARTS > 1:
            top, total, found = _with_part(
                out2, lse2, row * c_row + head * c_head + query * c_query,
                row * d_row + head * d_head + query * d_query, there, place, top, total, found
            )  # fmt: skip
        seen = tl.load(last + row)
        start = 0
        while start <= seen:
            column = start + tl.arange(0, BLOCK)
            inside = column <= seen
            at = row * key_row + head * key_head + column[:, None] * SIZE + place[None, :]
            key = tl.load(keys + at, mask=inside[:, None], other=0.0)
            scores = tl.dot(asked, tl.trans(key), input_precision=PRECISION) * scale
            scores = tl.where(inside[None, :], scores, -float("inf"))
            both = tl.maximum(top, tl.max(scores, 1))
            weights, old = tl.exp(scores - both[:, None]), tl.exp(top - both)
            value = tl.load(values + at, mask=inside[:, None], other=0.0)
            total = total * old + tl.sum(weights, 1)
            said = tl.dot(weights.to(value.dtype), value, input_precision=PRECISION)
            found = found * old[:, None] + said
            top = both
            start += BLOCK
        told = (found / total[:, None]).to(out.dtype.element_ty)
        tl.store(out + base, told, mask=there[:, None])

    @triton.jit
    def first_exceeding(
        logits, uniform, tokens, sharpness, stride, VOCABULARY: tl.constexpr, BLOCK: tl.constexpr
    ):
        """A row's highest logit, the sum of its chances, and the token at which the running sum exceeds."""
        row = tl.program_id(0).to(tl.int64)
        start = logits + row * stride
        top = -float("inf")
        for first in range(0, VOCABULARY, BLOCK):
            at = first + tl.arange(0, BLOCK)
            some = tl.load(start + at, mask=at < VOCABULARY, other=-float("inf")).to(tl.float32)
            top = tl.maximum(top, tl.max(some, 0))
        total = 0.0
        for first in range(0, VOCABULARY, BLOCK):
            at = first + tl.arange(0, BLOCK)
            some = tl.load(start + at, mask=at < VOCABULARY, other=-float("inf")).to(tl.float32)
            total += tl.sum(tl.exp((some - top) * sharpness), 0)
        wanted = tl.load(uniform + row) * total
        running = 0.0
        token = VOCABULARY
        for first in range(0, VOCABULARY, BLOCK):
            at = first + tl.arange(0, BLOCK)
            some = tl.load(start + at, mask=at < VOCABULARY, other=-float("inf")).to(tl.float32)
            chances = tl.exp((some - top) * sharpness)
            part = tl.sum(chances, 0)
            if (token == VOCABULARY) & (running + part > wanted):
                # Added up in another order, the last running sum may fall short of the sum.
                exceeds = (running + tl.cumsum(chances, 0) > wanted) & (chances > 0)
                inside = tl.min(tl.where(exceeds, at, VOCABULARY), 0)
                latest = tl.max(tl.where(chances > 0, at, 0), 0)
                token = tl.minimum(inside, latest)
            running += part
        tl.store(tokens + row, token)
