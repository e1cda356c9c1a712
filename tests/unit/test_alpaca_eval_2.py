"""AlpacaEval 2's length-controlled rate, against what its published code returned for the same rows."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path

import pytest

from selfimprove.data.gamed_baselines import read_gamed_baselines
from selfimprove.errors import DataError
from selfimprove.evaluation.alpaca_eval_2 import length_controlled_win_rate, rate_at_equal_length
from selfimprove.evaluation.versus import recount
from selfimprove.types import Outcome

_N = 100
# Model, length-controlled rate on the leaderboard (of alpaca_eval 0.6.6), psi and theta (from the
# repository's metrics/weights).
_PUBLISHED = [
    ("gpt4", 38.1281, 0.9437877797808294, -0.5280788018374943),
    ("Qwen1.5-72B-Chat", 36.5718, 1.0054356999126142, -0.6274683163756027),
    ("gpt35_turbo_instruct", 17.7278, 0.4535373846585072, -1.6483799650245663),
    ("Mixtral-8x7B-Instruct-v0.1", 23.6885, 1.1490632542192407, -1.6076252821367818),
    ("vicuna-33b-v1.3", 17.5746, 0.9581865704826056, -2.0211413509514147),
    ("text_davinci_001", 9.0257, 0.4274629152954177, -2.4582030232368326),
    ("alpaca-7b", 5.8755, 0.9859274836495522, -3.690741791907489),
    ("phi-2", 4.3987, 0.4609680776507991, -3.2866319258286127),
    ("gpt-4o-2024-05-13", 57.4568, 0.7970841059254113, 0.4815647498440927),
    ("Together-MoA", 65.3800, 0.84532344056419, 0.9217351025640278),
]


def wave(stream: int, number: int) -> float:
    return math.sin(12.9898 * (number + 1) * (stream + 1))


def gamed(path: Path) -> Path:
    """Write two gamed baselines: one longer, one shorter than the baseline itself."""
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["model", "index", "preference", "std_delta_len", "instruction_difficulty",
                      "not_gamed_baseline"])  # fmt: skip
        for name, shift, delta, noise in (("verbose", -0.8, 3, 5), ("concise", 0.9, 4, 6)):
            for i in range(_N):
                shorter, hard = shift + 1.3 * wave(delta, i), 1.5 * wave(0, i)
                logit = -1.6 * math.tanh(shorter) + 0.75 * hard + 0.9 * wave(noise, i)
                out.writerow([name, i, 1 / (1 + math.exp(-logit)), shorter, hard, False])
    return path


def matches(theta: float, *, discrete: bool) -> list[Outcome]:
    """Return a model's matches: of continuous ones number 3 is not judged and number 8 a tie."""
    lengths = []
    for i in range(_N):
        base = round(900 + 700 * wave(7, i))
        lengths.append((base, round(base * math.exp(0.3 + 0.6 * wave(8, i)))))
    differences = [base - ours for base, ours in lengths]
    middle = sum(differences) / _N
    spread = math.sqrt(sum((d - middle) ** 2 for d in differences) / (_N - 1))
    found = []
    for i, (base, ours) in enumerate(lengths):
        logit = -1.4 * math.tanh((base - ours) / spread) + 1.2 * wave(0, i) + theta + wave(9, i)
        share: float | None = 1 / (1 + math.exp(-logit))
        if discrete:
            share = float(logit > 0)
        elif i in (3, 8):
            share = None if i == 3 else 0.5
        found.append(
            Outcome(str(i), str(i), share, None if share is not None else "cut", ours, base)
        )
    return found


@pytest.mark.parametrize(
    ("theta", "discrete", "rate", "coefficients"),
    [
        (-0.7, False, 37.17297221317603, (-1.21392357, 0.71989079, -0.62259346)),
        (0.4, False, 58.73640258429319, (-1.15011322, 0.71067746, 0.38024504)),
        (-2.5, True, 2.2583211998723636, (-2.63657152, 1.10206462, -4.36775236)),
    ],
)
def test_the_rate_is_that_of_the_published_code(
    tmp_path: Path,
    theta: float,
    discrete: bool,
    rate: float,
    coefficients: tuple[float, float, float],
) -> None:
    # alpaca_eval 0.6.6 with scikit-learn 1.9.1 on the same rows; liblinear stops at a tolerance.
    known = read_gamed_baselines(gamed(tmp_path / "df_gamed.csv"))
    told = length_controlled_win_rate(matches(theta, discrete=discrete), range(_N), known)
    assert 100 * told.win_rate == pytest.approx(rate, abs=0.01)
    assert (told.length, told.difficulty, told.model) == pytest.approx(coefficients, abs=2e-3)
    assert told.strength == pytest.approx(21.5443469, rel=1e-6)
    assert told.interval[0] < told.win_rate < told.interval[1]


def test_the_published_coefficients_give_the_published_rates() -> None:
    import numpy as np
    from scipy.stats import norm

    # The 805 difficulties are on the hub alone; four moments of them, fitted to the rates of fifteen other
    # models of the same leaderboard, predict these ten.
    place = norm.ppf((np.arange(401) + 0.5) / 401)
    hard = (
        -0.0449979
        + 1.3941839 * place
        + 0.2784346 * (place**2 - 1)
        - 0.0639702 * (place**3 - 3 * place)
    )
    for name, rate, psi, theta in _PUBLISHED:
        assert 100 * rate_at_equal_length(theta, psi, hard) == pytest.approx(rate, abs=0.1), name


def test_a_model_that_is_only_longer_loses_its_lead(tmp_path: Path) -> None:
    known = read_gamed_baselines(gamed(tmp_path / "df_gamed.csv"))
    longer = [
        Outcome(str(i), str(i), float(i % 2), None, 1000 + (900 if i % 2 else -300), 1000)
        for i in range(_N)
    ]
    told = length_controlled_win_rate(longer, range(_N), known)
    assert told.length < -2  # half of all matches won, each by the longer response


# ---- what is refused


def test_instructions_beyond_the_evaluation_set_are_refused(tmp_path: Path) -> None:
    known = read_gamed_baselines(gamed(tmp_path / "df_gamed.csv"))
    with pytest.raises(
        DataError, match="instruction number 101 has no difficulty, which is known for 100"
    ):
        length_controlled_win_rate(matches(0, discrete=True), range(1, _N + 1), known)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("index,preference\n0,1\n", "has no column std_delta_len, instruction_difficulty"),
        ("index,preference,std_delta_len,instruction_difficulty\n0,x,1,1\n", "line 2: could not convert"),
        ("index,preference,std_delta_len,instruction_difficulty\n0,1,1,\n", "line 2: .* is no number"),
        ("index,preference,std_delta_len,instruction_difficulty\n0,,1,1\n", "holds no annotation"),
    ],
)  # fmt: skip
def test_another_file_is_one_clear_error(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "df_gamed.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=says):
        read_gamed_baselines(path)
    with pytest.raises(DataError, match="there is no file"):
        read_gamed_baselines(tmp_path / "nowhere.csv")


# ---- from AlpacaEval's own files


def test_an_annotations_file_is_counted_with_it(tmp_path: Path) -> None:
    rows = [
        {"instruction": f"q{o.id}", "output_1": "b" * o.second_length, "generator_1": "base",
         "output_2": "o" * o.first_length, "generator_2": "ours",
         "preference": None if o.preference is None else 1 + o.preference}
        for o in matches(-0.7, discrete=False)
    ]  # fmt: skip
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(rows))
    told = recount(path, gamed(tmp_path / "df_gamed.csv"))
    assert 100 * told["alpaca_eval_2"]["win_rate"] == pytest.approx(37.17297, abs=0.01)
    assert told["unscored"] == 1
