import wave

import numpy as np
import pytest

from jaxkd import recipes

SMALL = recipes.SpeechConfig(
    seeds=1,
    teacher_steps=4,
    steps=4,
    save_every=2,
    batch_size=4,
    seconds=0.2,
    mels=12,
    teacher=(4, 8),
    student=(2, 4),
)


def record(folder, names):
    """Tones of 300 or 1,200 Hz, by the label, of 0.1 s."""
    folder.mkdir()
    for name in names:
        pitch = 1200 if name.startswith("high") else 300
        tone = np.sin(2 * np.pi * pitch * np.arange(800) / 8000)
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes((20000 * tone).astype("<i2").tobytes())
    return str(folder)


def names_of(numbers):
    return [f"{label}_a_{n}.wav" for label in ("high", "low") for n in numbers]


def test_recordings_are_split_by_their_number_and_learned(tmp_path):
    source = record(tmp_path / "words", names_of(range(14)))
    config = recipes.from_json(
        recipes.SpeechConfig, {**recipes.to_json(SMALL), "data": source}
    )
    splits = recipes.speech(config).splits
    assert [len(part["label"]) for part in splits[:3]] == [8, 10, 10]
    assert splits.classes == ("high", "low")
    assert splits.train["mel"].shape == (8, 11, 12)
    assert abs(float(splits.train["mel"].mean())) < 1e-4
    assert float(splits.train["mel"].std()) == pytest.approx(1, abs=1e-4)
    result = recipes.RECIPES["speech"].run(config, tmp_path / "run", quiet=True)
    names = ["teacher", "student, alone", "student, distilled"]
    assert [row.name for row in result.rows] == names


def test_a_recording_without_a_number_is_named(tmp_path):
    source = record(tmp_path / "words", [*names_of(range(11)), "high_a.wav"])
    config = recipes.from_json(
        recipes.SpeechConfig, {**recipes.to_json(SMALL), "data": source}
    )
    with pytest.raises(ValueError, match=r"high_a\.wav is not named LABEL_SPEAKER"):
        recipes.speech(config)
