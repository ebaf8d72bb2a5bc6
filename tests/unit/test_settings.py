"""Settings from the environment: plain names that the APIs promise, lists, blanks and typing mistakes."""

from ipaddress import ip_network

import pytest

from configs.settings import PREFIX, Settings, variables

PROMISED = {
    "API_KEY": ("api_keys", ()),
    "ENVIRONMENT": ("environment", "development"),
    "RATE_LIMIT_ENABLED": ("rate_limit_enabled", True),
    "RATE_LIMIT_PER_MINUTE": ("rate_limit_per_minute", 60),
    "RATE_LIMIT_BURST": ("rate_limit_burst", 10),
    "MAX_BATCH_SIZE": ("max_batch_size", 20),
    "MAX_IMAGE_SIZE_BYTES": ("max_image_size_bytes", 31_457_280),
    "MAX_IMAGE_FETCH_TIMEOUT_SECONDS": ("max_image_fetch_timeout_seconds", 15),
    "DBSCAN_EPS_DEFAULT": ("dbscan_eps_default", 0.35),
    "DBSCAN_MIN_SAMPLES_DEFAULT": ("dbscan_min_samples_default", 2),
    "LLM_DEFAULT_MODEL": ("llm_default_model", "anthropic/claude-opus-4-6"),
    "LLM_MAX_TOKENS": ("llm_max_tokens", 500),
    "LOG_LEVEL": ("log_level", None),
    "LOG_JSON": ("log_json", None),
}


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in variables():
        monkeypatch.delenv(name, raising=False)


def test_defaults_are_those_that_were_promised() -> None:
    config = Settings()
    assert {name: getattr(config, field) for name, (field, _) in PROMISED.items()} == {
        name: default for name, (_, default) in PROMISED.items()
    }
    assert set(PROMISED) <= set(variables())


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("API_KEY", "one, two,", "api_keys", ("one", "two")),
        ("ENVIRONMENT", "production", "environment", "production"),
        ("RATE_LIMIT_ENABLED", "false", "rate_limit_enabled", False),
        ("RATE_LIMIT_PER_MINUTE", "7", "rate_limit_per_minute", 7),
        ("MAX_IMAGE_FETCH_TIMEOUT_SECONDS", "2.5", "max_image_fetch_timeout_seconds", 2.5),
        ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
        ("LOG_JSON", "1", "log_json", True),
        ("VISION_FETCH_PORTS", "80, 8080", "fetch_ports", (80, 8080)),
        (
            "VISION_FETCH_ALLOWED_HOSTS",
            "files.local,10.1.0.0/16",
            "fetch_allowed_hosts",
            ("files.local", "10.1.0.0/16"),
        ),
        (
            "VISION_ALLOWED_HOSTS",
            "Vision.Example, *.internal, ::1",
            "allowed_hosts",
            ("vision.example", "*.internal", "[::1]"),
        ),
        ("VISION_PUBLIC_URL", "https://Vision.Example:443/base/", "public_url", "https://vision.example/base"),
        ("VISION_CORS_ORIGINS", "https://App.Example/, *", "cors_origins", ("https://app.example", "*")),
        (
            "VISION_TRUSTED_PROXIES",
            "10.0.0.1, fd00::/8",
            "trusted_proxies",
            (ip_network("10.0.0.1"), ip_network("fd00::/8")),
        ),
    ],
)
def test_values(monkeypatch: pytest.MonkeyPatch, variable: str, value: str, field: str, expected: object) -> None:
    monkeypatch.setenv(variable, value)
    assert getattr(Settings(), field) == expected


def test_a_blank_variable_is_as_good_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    bare = Settings()
    for name in variables():
        monkeypatch.setenv(name, "")
    assert Settings() == bare


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("RATE_LIMIT_BURST", "0"),
        ("RATE_LIMIT_ENABLED", "perhaps"),
        ("DBSCAN_EPS_DEFAULT", "3"),
        ("LLM_MAX_TOKENS", "50"),
        ("LOG_LEVEL", "LOUD"),
        ("API_KEY", ","),
        ("VISION_FETCH_PORTS", "80,http"),
        ("VISION_TRUSTED_PROXIES", "localhost"),
        ("VISION_PUBLIC_URL", "vision.example"),
        ("VISION_PUBLIC_URL", "https://user@vision.example"),
        ("VISION_ALLOWED_HOSTS", "https://vision.example"),
        ("VISION_ALLOWED_HOSTS", "*"),
        ("VISION_CORS_ORIGINS", "app.example"),
        ("VISION_CORS_ORIGINS", "null"),
        ("VISION_ACCEPT_FALLBACK", "perhaps"),
        ("DEEPFACE_DETECTOR", "skip"),
        ("DEEPFACE_DETECTOR", "haar"),
    ],
)
def test_values_that_make_no_sense_are_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(ValueError, match=variables()[variable] + "|" + variable):
        Settings()


def test_detectors_of_the_contract_are_accepted_and_others_are_told_which(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("opencv", "ssd", "dlib", "mtcnn", "retinaface")
    for name in names:
        monkeypatch.setenv("DEEPFACE_DETECTOR", name)
        assert Settings().deepface_detector == name
    monkeypatch.setenv("DEEPFACE_DETECTOR", "haar")
    with pytest.raises(ValueError, match="DEEPFACE_DETECTOR") as refused:
        Settings()
    assert all(f"'{name}'" in str(refused.value) for name in names)


def test_only_our_own_unknown_variables_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAX_BATCH_SIZES", "1")
    Settings()
    # A setting with a plain name has no second one.
    for name in (f"{PREFIX}API_KEY", f"{PREFIX}HF_TOKEN", f"{PREFIX}MAX_BATCH_SIZES"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            with pytest.raises(ValueError, match=name):
                Settings()
