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
    def _with_keys(asked, key, value, inside, top, total, found, scale, PRECISION: tl.constexpr):
        """Some more keys; the softmax is online (Milakov and Gimelshein 2018)."""
        scores = tl.dot(asked, tl.trans(key), input_precision=PRECISION) * scale
        scores = tl.where(inside[None, :], scores, -float("inf"))
        both = tl.maximum(top, tl.max(scores, 1))
        weights, old = tl.exp(scores - both[:, None]), tl.exp(top - both)
        said = tl.dot(weights.to(value.dtype), value, input_precision=PRECISION)
        return both, total * old + tl.sum(weights, 1), found * old[:, None] + said

    @triton.jit
    def own_keys(
        queries, keys, values, last, out1, lse1, out2, lse2, out, scale,
        key_row, key_head, a_row, a_head, a_query, b_row, b_head, b_query,
        c_row, c_head, c_query, d_row, d_head, d_query,
        HEADS: tl.constexpr, QUERIES: tl.constexpr, PADDED: tl.constexpr, SIZE: tl.constexpr,
        BLOCK: tl.constexpr, PARTS: tl.constexpr, PRECISION: tl.constexpr,
    ):  # fmt: skip
        """A row's queries of one key head."""
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
            value = tl.load(values + at, mask=inside[:, None], other=0.0)
            top, total, found = _with_keys(
                asked, key, value, inside, top, total, found, scale, PRECISION
            )
            start += BLOCK
        told = (found / total[:, None]).to(out.dtype.element_ty)
        tl.store(out + base, told, mask=there[:, None])

    @triton.jit
    def slot_keys(
        queries, keys, values, members, places, lengths, out, lse, scale,
        key_slot, key_head, key_place,
        HEADS: tl.constexpr, QUERIES: tl.constexpr, WIDTH: tl.constexpr, SIZE: tl.constexpr,
        ROWS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
    ):  # fmt: skip
        """Some queries of the rows of one slot, of one key head: each is read and written where its row is."""
        slot, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
        lane = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
        seat, query, place = slot * WIDTH + lane // QUERIES, lane % QUERIES, tl.arange(0, SIZE)
        there = lane < WIDTH * QUERIES
        row = tl.load(members + seat, mask=there, other=0)
        # A seat that is not taken names any row.
        there = there & (tl.load(places + row) == seat)
        at = (row * HEADS + head) * QUERIES + query
        asked = tl.load(
            queries + at[:, None] * SIZE + place[None, :], mask=there[:, None], other=0.0
        )
        top = tl.full([ROWS], -float("inf"), tl.float32)
        total = tl.zeros([ROWS], tl.float32)
        found = tl.zeros([ROWS, SIZE], tl.float32)
        length = tl.load(lengths + slot)
        start = 0
        while start < length:
            column = start + tl.arange(0, BLOCK)
            inside = column < length
            entry = slot * key_slot + head * key_head + column[:, None] * key_place + place[None, :]
            key = tl.load(keys + entry, mask=inside[:, None], other=0.0)
            value = tl.load(values + entry, mask=inside[:, None], other=0.0)
            top, total, found = _with_keys(
                asked, key, value, inside, top, total, found, scale, PRECISION
            )
            start += BLOCK
        told = (found / total[:, None]).to(out.dtype.element_ty)
        tl.store(out + at[:, None] * SIZE + place[None, :], told, mask=there[:, None])
        tl.store(lse + at, top + tl.log(total), mask=there)

    @triton.jit
    def turned_and_kept(
        mixed, cos, sin, last, query, keys, values, row_stride, head_stride,
        QUERIES: tl.constexpr, HEADS: tl.constexpr, SIZE: tl.constexpr, PADDED: tl.constexpr,
    ):  # fmt: skip
        """A row: its queries and keys are turned, its keys and values kept at its last place."""
        row = tl.program_id(0).to(tl.int64)
        head, place = tl.arange(0, PADDED), tl.arange(0, SIZE)
        start = mixed + row * (QUERIES + 2 * HEADS) * SIZE
        at = head[:, None] * SIZE + place[None, :]
        some = (head < QUERIES + 2 * HEADS)[:, None]
        own = tl.load(start + at, mask=some, other=0.0)
        crossed = tl.load(
            start + head[:, None] * SIZE + (place ^ (SIZE // 2))[None, :], mask=some, other=0.0
        )
        c, s = tl.load(cos + row * SIZE + place), tl.load(sin + row * SIZE + place)
        turned = (
            own.to(tl.float32) * c.to(tl.float32)[None, :]
            + crossed.to(tl.float32) * s.to(tl.float32)[None, :]
        )
        turned = turned.to(query.dtype.element_ty)
        tl.store(query + row * QUERIES * SIZE + at, turned, mask=(head < QUERIES)[:, None])
        there = row * row_stride + tl.load(last + row) * SIZE + place[None, :]
        kept = head - QUERIES
        is_key = (kept >= 0) & (kept < HEADS)
        tl.store(keys + there + kept[:, None] * head_stride, turned, mask=is_key[:, None])
        kept = kept - HEADS
        is_value = (kept >= 0) & (kept < HEADS)
        tl.store(values + there + kept[:, None] * head_stride, own, mask=is_value[:, None])

    @triton.jit
    def gated(both, out, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
        """Part of a row: silu(gate) times up, of gate and up side by side."""
        row = tl.program_id(0).to(tl.int64)
        place = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        inside = place < WIDTH
        gate = tl.load(both + row * 2 * WIDTH + place, mask=inside, other=0.0).to(tl.float32)
        up = tl.load(both + row * 2 * WIDTH + WIDTH + place, mask=inside, other=0.0).to(tl.float32)
        told = gate / (1 + tl.exp(-gate)) * up
        tl.store(out + row * WIDTH + place, told.to(out.dtype.element_ty), mask=inside)

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
