"""Real preferences, from nothing: what a small model learns of HH-RLHF in well under an hour on 2 cores.

A byte-level BPE tokenizer and a Llama of six million parameters are trained on the transcripts of the
training part; from that model come R_P and R_PIT. One pair in five, by prompt, is held out from all of
it. Printed is how often the preferred response has the larger reward, with its interval.

    python benchmarks/hh_rlhf.py FOLDER_OF_JSONL_FILES [--out FOLDER] [--epochs N] [--quick]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from machine import keep, say  # first: it imports selfimprove before torch

# isort: split
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, LlamaConfig, PreTrainedTokenizerFast

from selfimprove.data.improvement_prompts import improvement_template
from selfimprove.data.preferences import Preference, of_fold, read_preferences, three_folds
from selfimprove.data.sources import Source
from selfimprove.evaluation.gap_quality import four_gaps, gap_quality
from selfimprove.judges.gap import four_of, gap_scores
from selfimprove.sampling.conversation import transcript
from selfimprove.sampling.engine import EngineConfig
from selfimprove.sampling.served import Served
from selfimprove.training.gap_reward import train_gap_reward
from selfimprove.training.reward import train_reward
from selfimprove.training.reward_config import RewardConfig
from selfimprove.training.sft import train_sft
from selfimprove.training.sft_config import SftConfig
from selfimprove.types import Example, ModelRef
from selfimprove.weights import weights_digest

_VOCABULARY, _CONTEXT, _WINDOW = 4096, 1536, 384
_HELD_OUT = 0.2
_END = "<|end|>"
_ENGINE = EngineConfig(chat=False)


def main() -> None:
    """Train, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="holds HH-RLHF files, .jsonl or .jsonl.gz")
    parser.add_argument("--out", type=Path, help="keep the models here")
    parser.add_argument("--epochs", type=float, default=3.0, help="of language modelling")
    parser.add_argument("--quick", action="store_true", help="200 pairs, to see it run")
    parser.add_argument("--json", type=Path, help="keep the result in this .json file")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        out = chosen.out or Path(scratch)
        learnt, held_out = _parts(chosen.folder, 200 if chosen.quick else None)
        began = time.monotonic()
        base = _base(learnt, out, 0.1 if chosen.quick else chosen.epochs)
        told = _rewards(base, learnt, held_out, out)
        parameters = AutoModelForCausalLM.from_pretrained(base).num_parameters()
    keep({
        "benchmark": "hh_rlhf", "parameters": parameters, "learnt": len(learnt),
        "held_out": len(held_out), "seconds": round(time.monotonic() - began),
        "threads": torch.get_num_threads(), **told,
    }, chosen.json)  # fmt: skip


def _parts(folder: Path, limit: int | None) -> tuple[list[Preference], list[Preference]]:
    files = sorted(p for p in folder.iterdir() if ".jsonl" in p.suffixes)
    sources = [Source(source=str(f), format="hh_rlhf", limit=limit) for f in files]
    told = [p for p in read_preferences(sources, 0).rows if len(transcript(p.prompt)) < 2500]
    folds = three_folds(told, 0, _HELD_OUT)
    held_out = of_fold(told, folds, "test")
    apart = {p.id for p in held_out}
    return [p for p in told if p.id not in apart], held_out


def _base(learnt: Sequence[Preference], out: Path, epochs: float) -> Path:
    """Train tokenizer and language model on both transcripts of every training pair."""
    texts = [transcript(p.prompt) + reply for p in learnt for reply in (p.chosen, p.rejected)]
    start = out / "start"
    _tokenizer(texts).save_pretrained(start)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=_VOCABULARY, hidden_size=256, num_hidden_layers=6, num_attention_heads=4,
        num_key_value_heads=4, intermediate_size=704, max_position_embeddings=_CONTEXT,
        tie_word_embeddings=True, bos_token_id=None, eos_token_id=0, pad_token_id=1,
    )  # fmt: skip
    model = AutoModelForCausalLM.from_config(config)
    model.generation_config.eos_token_id = 0
    model.save_pretrained(start)
    # The header alone is the prompt: every other token is learnt.
    rows = [Example("Human:\n", text.removeprefix("Human:\n")[-1500:]) for text in texts]
    how = SftConfig(learning_rate=1e-3, batch_size=32, epochs=epochs, max_length=_WINDOW * 2,
                    schedule="cosine")  # fmt: skip
    done = train_sft(start, rows, how, out=out / "base", checkpoints=out / "base-steps", seed=0)
    say(f"language model: {done.steps} steps, {done.tokens:,} tokens, loss {done.first_loss:.2f} -> "
          f"{done.final_loss:.2f}, {done.seconds:.0f} s")  # fmt: skip
    return out / "base"


def _tokenizer(texts: Sequence[str]) -> PreTrainedTokenizerFast:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # type: ignore[assignment]
    bpe.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    bpe.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=_VOCABULARY, special_tokens=[_END, "<|pad|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    ))  # fmt: skip
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token=_END, pad_token="<|pad|>",
                                   model_max_length=_CONTEXT)  # fmt: skip


def _rewards(
    base: Path, learnt: Sequence[Preference], held_out: Sequence[Preference], out: Path
) -> dict[str, object]:
    """Train both reward models and measure them on the held-out pairs."""
    how = RewardConfig(learning_rate=3e-4, batch_size=32, epochs=1, max_length=_CONTEXT)
    told: dict[str, object] = {}
    for name in ("reward", "gap"):
        folder = out / name / "model"
        if name == "gap":
            done = train_gap_reward(base, learnt, how, out=folder, checkpoints=out / name / "steps",
                                    seed=0, chat=False, template=improvement_template("v1"))  # fmt: skip
        else:
            done = train_reward(base, learnt, how, out=folder, checkpoints=out / name / "steps",
                                seed=0, chat=False)  # fmt: skip
        model = ModelRef(name, str(folder), weights_digest(folder))
        scored = [s for batch in gap_scores([four_of(held_out)], Served(model, _ENGINE), name == "reward")
                  for s in batch.rows]  # fmt: skip
        found = gap_quality(four_gaps(held_out, scored), len(held_out))
        told[name] = {"seconds": round(done.seconds), "pairs": done.pairs,
                      "final_loss": round(done.final_loss, 4),
                      "trained_accuracy": round(done.final_accuracy, 4),
                      **{k: found[k] for k in ("accuracy", "ordered", "unscored")}}  # fmt: skip
        say(f"{name} {told[name]}")
    return told


if __name__ == "__main__":
    main()
