"""forensics/voice on small generated checkpoints of transformers' audio classifiers: labels, settings, windows."""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike, NDArray
from transformers import (
    HubertConfig,
    HubertForSequenceClassification,
    PreTrainedModel,
    Wav2Vec2Config,
    Wav2Vec2FeatureExtractor,
    Wav2Vec2ForSequenceClassification,
    Wav2Vec2Model,
    WavLMConfig,
    WavLMForSequenceClassification,
)

from deployments.forensics.voice import Config, Voice, VoiceDetector
from tests.tolerances import FP32_NETWORK, FP64, assert_close
from vision.engines import EngineName, build_engine
from vision.errors import InvalidInput, ModelNotLoaded
from vision.forensics.calibration import sigmoid
from vision.forensics.classifiers import fake_outputs
from vision.forensics.voices import RATE, SAMPLES, TransformersVoice, VoiceNetwork, load_network
from vision.weights import Weights

pytestmark = pytest.mark.numeric

Array = NDArray[np.float32]

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
    "classifier_proj_size": 16,
}
LARGE: dict[str, Any] = {"feat_extract_norm": "layer", "conv_bias": True}
"""As the large ones are made, which hear how loud a sound is; the small ones do not."""
KINDS: dict[str, tuple[type[Any], type[PreTrainedModel], dict[str, Any]]] = {
    "wav2vec2": (Wav2Vec2Config, Wav2Vec2ForSequenceClassification, LARGE),
    "hubert": (HubertConfig, HubertForSequenceClassification, {}),
    "wavlm": (WavLMConfig, WavLMForSequenceClassification, {}),
}
NATIVE: dict[str, Any] = {"wav2vec2": (), "hubert": pytest.mark.native, "wavlm": pytest.mark.native}
LABELS = {0: "bonafide", 1: "spoof"}


def checkpoint(
    folder: Path,
    labels: dict[int, str],
    *,
    kind: str = "wav2vec2",
    model_class: type[PreTrainedModel] | None = None,
    **extractor: Any,
) -> Weights:
    """Files as the hub has them, in a folder; ``extractor``: settings of its preprocessor_config.json."""
    config_class, usual_class, more = KINDS[kind]
    named = {"id2label": labels, "label2id": {label: index for index, label in labels.items()}}
    config = config_class(**SMALL, **more, **named)
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = (model_class or usual_class)(config).eval()
        for parameter in model.parameters():
            torch.nn.init.normal_(parameter, std=0.6)
    model.save_pretrained(folder)
    Wav2Vec2FeatureExtractor(**extractor).save_pretrained(folder)
    files = {path.name: path for path in folder.iterdir()}
    assert set(files) == {"config.json", "model.safetensors", "preprocessor_config.json"}
    digest = hashlib.sha256(files["model.safetensors"].read_bytes()).hexdigest()
    return Weights(f"a-{kind}", folder, files, "folder here", "none", kind, f"a-{kind}@{digest[:8]}")


@pytest.fixture(autouse=True)
def on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


@pytest.fixture
def weights(tmp_path: Path) -> Weights:
    return checkpoint(tmp_path / "voice", LABELS)


@pytest.fixture
def stage(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> Iterator[VoiceDetector]:
    monkeypatch.setattr("deployments.forensics.voice.resolve_first", lambda _: weights)
    threads = torch.get_num_threads()
    stage = VoiceDetector(Config(models=["a-wav2vec2"], engine="torch-fp32", torch_threads=1))
    stage.load()
    stage.warm_up()
    yield stage
    torch.set_num_threads(threads)


def load(weights: Weights, engine: EngineName = "torch-fp32") -> VoiceNetwork:
    return load_network(weights, partial(build_engine, engine, cache=weights.path.parent))


def sound(seed: int = 0, length: int = SAMPLES) -> Array:
    """A tone in noise, louder and lower with the seed, and not about zero."""
    rng, times = np.random.default_rng(seed), np.arange(length) / RATE
    tone = (0.1 + 0.1 * seed) * np.sin(2 * np.pi * 400 / (seed + 1) * times)
    return np.asarray(0.05 + tone + rng.normal(0, 0.02, length), np.float32)


def logits(weights: Weights, window: Array) -> list[float]:
    """Of the two labels, by the library itself."""
    extractor = Wav2Vec2FeatureExtractor.from_pretrained(weights.path)
    model = KINDS[weights.architecture][1].from_pretrained(weights.path).eval()
    inputs = extractor(window, sampling_rate=RATE, return_tensors="pt")
    with torch.inference_mode():
        both: list[float] = model(**inputs).logits[0].tolist()
    return both


def assert_scores(scores: ArrayLike, weights: Weights, *windows: Array) -> None:
    """A score is the difference of two logits, so its error is that of numbers of their size."""
    both = np.array([logits(weights, window) for window in windows])
    assert_close(scores, both[:, 0] - both[:, 1], FP32_NETWORK, scale=float(np.abs(both).max()))


def judged(stage: VoiceDetector, *windows: Array) -> list[Voice]:
    results = stage.predict_batch([stage.prepare(window) for window in windows])
    return [voice for voice in results if isinstance(voice, Voice)]


@pytest.mark.parametrize("extractor", [{}, {"do_normalize": False}, {"return_attention_mask": True}])
def test_it_says_what_transformers_says(tmp_path: Path, extractor: dict[str, Any]) -> None:
    weights = checkpoint(tmp_path / "voice", LABELS, **extractor)
    network = load(weights)
    windows = [sound(seed) for seed in range(3)]
    scores = network(np.stack([network.prepare(window) for window in windows]))
    assert np.ptp(scores) > 0.01  # it does listen
    assert_scores(scores, weights, *windows)
    as_it_is = network(np.stack(windows))
    assert (np.abs(as_it_is - scores).max() > 0.01) == extractor.get("do_normalize", True)


@pytest.mark.parametrize("labels", [LABELS, {0: "fake", 1: "real"}, {0: "spoof", 1: "bona-fide"}])
def test_fake_is_found_by_its_label(tmp_path: Path, labels: dict[int, str], monkeypatch: pytest.MonkeyPatch) -> None:
    weights = checkpoint(tmp_path / "voice", labels)
    monkeypatch.setattr("deployments.forensics.voice.resolve_first", lambda _: weights)
    stage = VoiceDetector(Config(models=["a-wav2vec2"], engine="torch-fp32", torch_threads=torch.get_num_threads()))
    stage.load()
    (voice,) = judged(stage, sound())
    (fake,) = fake_outputs(weights)
    assert labels[fake] in ("spoof", "fake")
    assert_scores(voice.score * (-1 if fake == 0 else 1), weights, sound())
    assert voice.probability == pytest.approx(sigmoid(-voice.score), rel=FP64)


@pytest.mark.filterwarnings("ignore")  # those of tracing are no business of ours
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=NATIVE[kind]) for kind in KINDS])
def test_every_kind_runs_by_openvino(tmp_path: Path, kind: str) -> None:
    weights = checkpoint(tmp_path / "voice", LABELS, kind=kind)
    network = load(weights, "openvino-fp32")
    for count in (1, 5):
        windows = [sound(seed) for seed in range(count)]
        assert_scores(network(np.stack([network.prepare(window) for window in windows])), weights, *windows)


def test_a_short_sound_is_repeated(stage: VoiceDetector, weights: Weights) -> None:
    (voice,) = judged(stage, sound(1, RATE))
    whole = np.tile(sound(1, RATE), 5)[:SAMPLES]
    assert_scores(voice.score, weights, whole)
    for length in (0, SAMPLES + 1):
        with pytest.raises(InvalidInput, match="1 to 64600"):
            stage.prepare(np.zeros(length, np.float32))


def test_a_result_does_not_depend_on_its_batch(stage: VoiceDetector, weights: Weights) -> None:
    windows = [sound(0), sound(1, 9000), np.zeros(SAMPLES, np.float32), sound(3)]
    size = max(np.abs(logits(weights, sound(seed))).max() for seed in (0, 3))
    together = judged(stage, *windows)
    assert len(together) == 4
    alone = [judged(stage, window)[0].score for window in windows]
    assert_close([voice.score for voice in together], alone, FP32_NETWORK, scale=size)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sampling_rate": 8000}, "8000 Hz; forensics/voice gives 16000 Hz"),
        ({"feature_size": 80}, "80 values per sample"),
        (
            {"feature_extractor_type": "ASTFeatureExtractor"},
            "needs the feature extractor ASTFeatureExtractor; .* has Wav2Vec2FeatureExtractor only",
        ),
    ],
)
def test_other_inputs_are_refused(weights: Weights, settings: dict[str, Any], words: str) -> None:
    path = weights.files["preprocessor_config.json"]
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))
    with pytest.raises(ModelNotLoaded, match=words):
        load(weights)


def test_what_a_config_leaves_out_is_as_transformers_has_it(weights: Weights) -> None:
    path = weights.files["preprocessor_config.json"]
    path.write_text(json.dumps({"feature_extractor_type": "Wav2Vec2FeatureExtractor"}))
    network = load(weights)
    assert_scores(network(network.prepare(sound())[None]), weights, sound())
    del weights.files["preprocessor_config.json"]
    with pytest.raises(ModelNotLoaded, match=r"no preprocessor_config\.json; list it"):
        load(weights)


@pytest.mark.parametrize("labels", [{0: "happy", 1: "sad"}, {0: "speech", 1: "other"}, {0: "fake", 1: "spoof"}])
def test_labels_that_say_nothing_are_refused(tmp_path: Path, labels: dict[int, str]) -> None:
    with pytest.raises(ModelNotLoaded, match=f"{labels[0]}, {labels[1]}".lower()):
        load(checkpoint(tmp_path / "voice", labels))


def test_a_classifier_without_its_head_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotLoaded, match=r"4 missing \(classifier\.bias"):
        load(checkpoint(tmp_path / "voice", LABELS, model_class=Wav2Vec2Model))


def test_info_says_what_serves_and_what_it_is_worth(stage: VoiceDetector) -> None:
    info = stage.info()
    assert (info["model"], info["calibration"], info["engine"]) == ("a-wav2vec2", None, "torch-fp32")
    assert "model card" in info["worth"]
    assert "AASIST" not in info["method"]
    assert isinstance(stage._network, TransformersVoice)


def test_a_second_model_judges_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = checkpoint(tmp_path / "first", LABELS)
    second = checkpoint(tmp_path / "second", {0: "fake", 1: "real"}, kind="hubert")
    here = {"first": first, "second": second}

    def resolve(names: list[str]) -> Weights:
        if names[0] not in here:
            raise ModelNotLoaded(f"no verified weights for {names[0]}")
        return here[names[0]]

    monkeypatch.setattr("deployments.forensics.voice.resolve_first", resolve)
    stage = VoiceDetector(Config(models=["first"], second=["second"], engine="torch-fp32"))
    stage.load()
    stage.warm_up()
    windows = [sound(0), sound(2), sound(4, 9000)]
    voices = judged(stage, *windows)
    for window, voice in zip(windows, voices, strict=True):
        whole = np.resize(window, SAMPLES)
        one, other = logits(first, whole), logits(second, whole)
        expected = {first.version: sigmoid(one[1] - one[0]), second.version: sigmoid(other[0] - other[1])}
        assert voice.opinions == pytest.approx(expected, abs=FP32_NETWORK)
        assert voice.probability == max(voice.opinions.values())
        assert voice.domain is None
    assert stage.info()["second_opinion"] == second.version
    assert stage.model_chains(stage.config) == [["first"], ["second"]]
    del here["second"]
    stage.load()
    (alone,) = judged(stage, sound(0))
    assert list(alone.opinions) == [first.version]
    assert stage.info()["second_opinion"] == "not available: no verified weights for second"
