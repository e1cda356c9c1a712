"""What a method of one's own is built from (docs/extend.md): a stable place to import it all from."""

from selfimprove.answers.ballots import VotedQuestion, vote_each
from selfimprove.config import Config
from selfimprove.data.exemplars import ExemplarSet, shipped_sets
from selfimprove.data.preferences import Preference, read_preferences
from selfimprove.data.sources import DataConfig, Sources, training_questions
from selfimprove.data.user_prompts import read_prompts
from selfimprove.evaluation.accuracy import answer_questions
from selfimprove.evaluation.open_prompts import ResponsesConfig
from selfimprove.evaluation.overlaps import Decontamination
from selfimprove.evaluation.response_board import ResponseBoard
from selfimprove.evaluation.scoreboard import EvaluationConfig, Scoreboard
from selfimprove.judges.judge import asked_judge, judge, mean_scores
from selfimprove.judges.judge_config import JudgeConfig
from selfimprove.methods.lmsi.config import FormatsConfig, KeepConfig, PathsConfig
from selfimprove.methods.lmsi.held_out import decontamination, shown_exemplars
from selfimprove.methods.lmsi.plot import (
    TrainingRow,
    agreeing_paths,
    draw_paths,
    fine_tune,
    mixed_formats,
)
from selfimprove.methods.recipe import Recipe
from selfimprove.methods.self_rewarding.pairs import PairsConfig, ScoredPair, best_against_worst
from selfimprove.methods.self_rewarding.plot import imitate, prefer
from selfimprove.methods.table import Method
from selfimprove.rows import Batch, Drop, Filtered, Funnel, Rows
from selfimprove.sampling.engine import EngineConfig, SamplingConfig, draw_in_order
from selfimprove.sampling.responses import answer, respond
from selfimprove.sampling.served import Served
from selfimprove.seeds import rng, seed_of
from selfimprove.store import Run
from selfimprove.training.dpo import DpoConfig
from selfimprove.training.export import Exporter
from selfimprove.training.sft_config import SftConfig
from selfimprove.training.trainings import PreferenceTraining, SupervisedTraining
from selfimprove.types import (
    Example,
    Message,
    ModelRef,
    Pair,
    Prompt,
    Question,
    ReasoningPath,
    Request,
    Response,
    UserPrompt,
    Verdict,
)

__all__ = [
    "Batch",
    "Config",
    "DataConfig",
    "Decontamination",
    "DpoConfig",
    "Drop",
    "EngineConfig",
    "EvaluationConfig",
    "Example",
    "ExemplarSet",
    "Exporter",
    "Filtered",
    "FormatsConfig",
    "Funnel",
    "JudgeConfig",
    "KeepConfig",
    "Message",
    "Method",
    "ModelRef",
    "Pair",
    "PairsConfig",
    "PathsConfig",
    "Preference",
    "PreferenceTraining",
    "Prompt",
    "Question",
    "ReasoningPath",
    "Recipe",
    "Request",
    "Response",
    "ResponseBoard",
    "ResponsesConfig",
    "Rows",
    "Run",
    "SamplingConfig",
    "Scoreboard",
    "ScoredPair",
    "Served",
    "SftConfig",
    "Sources",
    "SupervisedTraining",
    "TrainingRow",
    "UserPrompt",
    "Verdict",
    "VotedQuestion",
    "agreeing_paths",
    "answer",
    "answer_questions",
    "asked_judge",
    "best_against_worst",
    "decontamination",
    "draw_in_order",
    "draw_paths",
    "fine_tune",
    "imitate",
    "judge",
    "mean_scores",
    "mixed_formats",
    "prefer",
    "read_preferences",
    "read_prompts",
    "respond",
    "rng",
    "seed_of",
    "shipped_sets",
    "shown_exemplars",
    "training_questions",
    "vote_each",
]  # fmt: skip
