"""LLM-as-a-Judge: a rubric, the judge's reasons, and a score as the last thing it says (Sec. 2.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.judges.judge_prompts import JudgePrompt, judge_prompt
from selfimprove.judges.score_text import Scored, read_score
from selfimprove.rows import Batch
from selfimprove.sampling.engine import Engine, SamplingConfig, draw_in_order
from selfimprove.sampling.own_words import own_words
from selfimprove.sampling.responses import asked
from selfimprove.sampling.served import Served
from selfimprove.types import Draw, Prompt, Response, Verdict

__all__ = ["rubric_verdicts", "voting"]


def rubric_verdicts(
    chunks: Sequence[Sequence[Response]],
    model: Served,
    config: JudgeConfig,
    seed: int,
) -> Iterator[Batch[Verdict]]:
    """Draw `config.votes` verdicts on each response; the prompt is read once for all of them."""
    wording = judge_prompt(config.prompt)

    def judged(sampler: Engine, chunk: Sequence[Response]) -> Batch[Verdict]:
        prompts = [_request(wording, r, chat=model.chat) for r in chunk]
        of = {prompt.key: r for prompt, r in zip(prompts, chunk, strict=True)}
        draws = draw_in_order(sampler, prompts, voting(config), seed=seed)
        rows = [_verdict(of[draw.key], draw, wording) for draw in draws]
        prompt_tokens = sum(d.prompt_tokens for d in draws if d.index == 0)
        sampled = sum(d.new_tokens for d in draws)
        return Batch(rows, sampled, prompt_tokens, sampler.identity)

    return model.each(chunks, judged)


def voting(config: JudgeConfig) -> SamplingConfig:
    """Return how verdicts are drawn."""
    return SamplingConfig(n=config.votes, temperature=config.temperature, top_p=config.top_p,
                          max_tokens=config.max_tokens)  # fmt: skip


def _request(wording: JudgePrompt, response: Response, *, chat: bool) -> Prompt:
    """Return what the judge is shown for one response."""
    key = f"{response.prompt_id}#{response.index}"
    shown = wording.filled(key, response.prompt, response.text)
    return asked(key, shown, chat=chat)


def _verdict(response: Response, draw: Draw, wording: JudgePrompt) -> Verdict:
    """Read one verdict from what the judge itself has written, and from nothing else."""
    draw = own_words(draw)
    read = read_score(draw.text, wording.lowest, wording.highest)
    score, why = (read.score, None) if isinstance(read, Scored) else (None, read.reason)
    # Where the text broke off behind a digit, another may have followed.
    if draw.finish == "length" and (score is None or draw.text[-1:].isdigit()):
        score, why = None, "cut off by max_tokens"
    if not draw.text and draw.reasoning:
        score, why = None, "its reasoning did not end"
    if draw.finish == "error":
        score, why = None, "the server gave no answer"
    return Verdict(response.prompt_id, response.index, draw.index, score, why, draw.text,
                   draw.finish, draw.reasoning)  # fmt: skip
